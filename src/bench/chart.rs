//! Line charts as inline SVG.
//!
//! Decides: scales, ticks, where lines are drawn. May not know: what the numbers mean. Invariant: every number in
//! the SVG is finite, and all text is escaped.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    /// Powers of ten; 0 is no value, and leaves a gap.
    Log,
}

pub(super) struct Series {
    pub(super) name: &'static str,
    /// Colours are the style sheet's: `c1` and on.
    pub(super) class: &'static str,
    pub(super) values: Vec<f64>,
}

pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// Beside the bottom axis.
    pub(super) x_label: &'a str,
    /// Where the values stand, ascending; as many as each series has.
    pub(super) x: Vec<f64>,
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) scale: Scale,
    pub(super) series: Vec<Series>,
    pub(super) format: fn(f64) -> String,
    /// What a place on the bottom axis is called when it is pointed at.
    pub(super) place: fn(f64) -> String,
}

impl Chart<'_> {
    pub(super) fn render(&self) -> String {
        let range = self.range();
        let mut out = String::new();
        let _ = write!(out, "<figure><figcaption><b>{}</b>", escape(self.title));
        for series in &self.series {
            let (class, name) = (series.class, escape(series.name));
            let _ = write!(out, " <span class=\"key {class}\"><i></i>{name}</span>");
        }
        let _ = write!(
            out,
            "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        );
        self.grid(&mut out, range);
        for series in &self.series {
            self.line(&mut out, series, range);
        }
        self.hints(&mut out);
        out.push_str("</svg></figure>\n");
        out
    }

    /// The ends of the left axis.
    fn range(&self) -> (f64, f64) {
        let values = self
            .series
            .iter()
            .flat_map(|series| &series.values)
            .copied();
        let most = values.clone().fold(0.0, f64::max);
        match self.scale {
            Scale::Linear => (0.0, if most > 0.0 { most * 1.05 } else { 1.0 }),
            Scale::Log => {
                let least = values.filter(|value| *value > 0.0).fold(most, f64::min);
                if most > 0.0 {
                    let low = 10_f64.powf(least.log10().floor());
                    (low, (most * 1.1).max(low * 10.0))
                } else {
                    (1.0, 10.0)
                }
            }
        }
    }

    fn x_at(&self, x: f64) -> f64 {
        let (first, last) = self.x_range();
        LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)
    }

    fn x_range(&self) -> (f64, f64) {
        let ticks = self.x_ticks.iter().map(|(at, _)| *at);
        let all = self.x.iter().copied().chain(ticks);
        let first = all.clone().fold(f64::MAX, f64::min);
        let last = all.fold(f64::MIN, f64::max);
        if last > first {
            (first, last)
        } else {
            (0.0, 1.0)
        }
    }

    fn y_at(&self, value: f64, (low, high): (f64, f64)) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Log => (value.max(low) / low).log10() / (high / low).log10(),
        };
        HEIGHT - BOTTOM - part.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn y_ticks(&self, (low, high): (f64, f64)) -> Vec<f64> {
        match self.scale {
            Scale::Linear => linear_ticks(high, 5.0),
            Scale::Log => {
                let decades = (high / low).log10();
                let parts: &[f64] = if decades < 2.5 {
                    &[1.0, 2.0, 5.0]
                } else {
                    &[1.0]
                };
                let starts = (0..=12).map(|power| low * 10_f64.powi(power));
                starts
                    .flat_map(|start| parts.iter().map(move |part| start * part))
                    .filter(|tick| *tick <= high)
                    .collect()
            }
        }
    }

    fn grid(&self, out: &mut String, range: (f64, f64)) {
        for tick in self.y_ticks(range) {
            let y = self.y_at(tick, range);
            let end = WIDTH - RIGHT;
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{end}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                escape(&(self.format)(tick))
            );
        }
        for (at, label) in &self.x_ticks {
            let (x, y) = (self.x_at(*at), HEIGHT - BOTTOM);
            let anchor = if x > WIDTH - 2.0 * RIGHT {
                "end"
            } else {
                "middle"
            };
            let _ = write!(
                out,
                "<path class=\"axis\" d=\"M{x:.1} {y}v4\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                y + 17.0,
                escape(label)
            );
        }
        let (y, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let _ = write!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {y}H{end}\"/>\
             <text x=\"{end}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            HEIGHT - 5.0,
            escape(self.x_label)
        );
    }

    fn line(&self, out: &mut String, series: &Series, range: (f64, f64)) {
        let mut path = String::new();
        let mut is_drawing = false;
        for (x, value) in self.x.iter().zip(&series.values) {
            if self.scale == Scale::Log && *value <= 0.0 {
                is_drawing = false;
                continue;
            }
            let (x, y) = (self.x_at(*x), self.y_at(*value, range));
            let _ = if std::mem::replace(&mut is_drawing, true) {
                write!(path, "L{x:.1} {y:.1}")
            } else {
                // A stroke of no length is a dot: a value between two gaps is to be seen.
                write!(path, "M{x:.1} {y:.1}h0")
            };
        }
        let _ = write!(out, "<path class=\"line {}\" d=\"{path}\"/>", series.class);
        if self
            .series
            .iter()
            .flat_map(|series| &series.values)
            .all(|value| *value == 0.0)
        {
            let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, (HEIGHT - BOTTOM) / 2.0);
            let _ = write!(
                out,
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">none</text>"
            );
        }
    }

    /// Invisible columns that say their numbers when they are pointed at.
    fn hints(&self, out: &mut String) {
        let edges: Vec<f64> = self.x.iter().map(|x| self.x_at(*x)).collect();
        for (at, x) in self.x.iter().enumerate() {
            let from = if at == 0 {
                LEFT
            } else {
                (edges[at - 1] + edges[at]) / 2.0
            };
            let to = edges
                .get(at + 1)
                .map_or(edges[at], |next| (edges[at] + next) / 2.0);
            let mut text = (self.place)(*x);
            for series in &self.series {
                let _ = write!(
                    text,
                    "\n{}: {}",
                    series.name,
                    (self.format)(series.values[at])
                );
            }
            let _ = write!(
                out,
                "<rect class=\"hint\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\">\
                 <title>{}</title></rect>",
                (to - from).max(1.0),
                HEIGHT - TOP - BOTTOM,
                escape(&text)
            );
        }
    }
}

/// About `count` round numbers from 0 to `most`.
pub(super) fn linear_ticks(most: f64, count: f64) -> Vec<f64> {
    let raw = most / count;
    let power = 10_f64.powf(raw.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let step = factors
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(power * 10.0);
    // At most ten steps fit, since a step is at least a fifth of the whole for any count in use.
    (0..=32)
        .map(|number| f64::from(number) * step)
        .take_while(|tick| *tick <= most)
        .collect()
}

/// Text within an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, x: Vec<f64>, values: Vec<f64>) -> String {
        Chart {
            title: "a<b",
            x_label: "x",
            x,
            x_ticks: vec![(0.0, "0".into())],
            scale,
            series: vec![Series {
                name: "s",
                class: "c1",
                values,
            }],
            format: |value| value.to_string(),
            place: |x| x.to_string(),
        }
        .render()
    }

    #[test]
    fn no_values_make_a_broken_chart() {
        let cases = [
            (vec![], vec![]),
            (vec![0.0], vec![0.0]),
            (vec![1.0], vec![5.0]),
            (vec![0.0, 1.0, 2.0], vec![0.0, 1e-3, 1e12]),
        ];
        for (x, values) in cases {
            for scale in [Scale::Linear, Scale::Log] {
                let svg = chart(scale, x.clone(), values.clone());
                assert!(
                    !svg.contains("NaN") && !svg.contains("inf"),
                    "{scale:?} {values:?}: {svg}"
                );
                assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            linear_ticks(100.0, 5.0),
            [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
        );
        assert_eq!(linear_ticks(7.0, 5.0), [0.0, 2.0, 4.0, 6.0]);
    }
}
