//! Problems: where they are, what they are, and what was probably meant.
//!
//! Decides: how a list of problems looks to a person. May not know: keys and their meaning.
//! Invariant: all problems are kept and counted, in the order of the file; no report shows a password of a URL.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use super::secrets;

/// Problems shown; the rest is counted.
pub const SHOWN_MAX: usize = 50;

/// Longest part of a source line that is shown, in characters.
const LINE_CHARS_MAX: usize = 120;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    Default,
    /// Bytes of the configuration's text.
    File(Range<usize>),
    /// A variable of the environment.
    Env(Box<str>),
    /// A flag of the command line.
    Flag(&'static str),
}

/// What is wrong with one value, before it is known where that value stands.
#[derive(Debug)]
pub struct Fault {
    pub message: String,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Fault {
        Fault {
            message: message.into(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// With a guess at the name that was meant, if one is near.
    pub fn near<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
        match nearest(name, known) {
            Some(known) => self.hint(format!("did you mean \"{known}\"?")),
            None => self,
        }
    }
}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    list: Vec<(At, String, Fault)>,
    /// Where a value begins that could not be read at all: it causes no second problem.
    broken: HashSet<usize>,
}

impl Notes {
    /// A problem with a value that has none of its own to judge.
    pub(crate) fn broken(&mut self, at: &At, path: &str, fault: Fault) {
        self.add(at, path, fault);
        if let At::File(span) = at {
            self.broken.insert(span.start);
        }
    }

    pub(crate) fn add(&mut self, at: &At, path: &str, fault: Fault) {
        if matches!(at, At::File(span) if self.broken.contains(&span.start)) {
            return;
        }
        self.list.push((at.clone(), path.to_owned(), fault));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The full names of all keys that have a problem.
    pub(crate) fn paths(&self) -> HashSet<String> {
        self.list.iter().map(|(_, path, _)| path.clone()).collect()
    }

    /// Fixes the problems to lines of the text.
    pub(crate) fn finish(mut self, file: &str, text: &str) -> Problems {
        self.list.sort_by_key(|(at, _, _)| match at {
            At::File(span) => (0, span.start),
            At::Default => (1, 0),
            At::Env(_) => (2, 0),
            At::Flag(_) => (3, 0),
        });
        let lines = Lines::new(text);
        let list = self.list.into_iter().map(|(at, path, fault)| Problem {
            place: lines.place(&at),
            path,
            message: printable(&mask(&fault.message)),
            hint: fault.hint.map(|hint| printable(&mask(&hint))),
        });
        Problems {
            file: file.to_owned(),
            list: list.collect(),
        }
    }
}

/// Every problem of one configuration; shown with `Display`.
#[derive(Debug)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

#[derive(Debug)]
struct Problem {
    place: Place,
    /// The key's full name, `clusters[1].backends[0].weight`; empty for the file as a whole.
    path: String,
    message: String,
    hint: Option<String>,
}

#[derive(Debug)]
enum Place {
    /// Nothing to point at: something is missing.
    Whole,
    Line {
        line: usize,
        column: usize,
        /// The line, cut to a window, and where the caret stands in it.
        text: String,
        caret: Range<usize>,
    },
    Env(Box<str>),
    Flag(&'static str),
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.list.iter().take(SHOWN_MAX) {
            problem.write(&self.file, f)?;
            writeln!(f)?;
        }
        let (count, file) = (self.list.len(), &self.file);
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun} in {file}")?;
        match count.saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            rest => write!(f, ", {rest} not shown"),
        }
    }
}

impl Problem {
    fn write(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Whole => write!(f, "{file}: ")?,
            Place::Line { line, column, .. } => write!(f, "{file}:{line}:{column}: ")?,
            Place::Env(name) => write!(f, "environment variable {name}: ")?,
            Place::Flag(name) => write!(f, "flag {name}: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        writeln!(f, "{}", self.message)?;
        let mut margin = 1;
        if let Place::Line {
            line, text, caret, ..
        } = &self.place
        {
            let number = line.to_string();
            margin = number.len();
            let carets = "^".repeat(caret.len().max(1));
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{number} | {text}")?;
            writeln!(
                f,
                "{:margin$} | {:start$}{carets}",
                "",
                "",
                start = caret.start
            )?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "{:margin$} = {hint}", "")?;
        }
        Ok(())
    }
}

/// Finds lines by offset.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    /// What no line shows.
    hidden: Vec<Range<usize>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Lines<'a> {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines {
            text,
            starts: std::iter::once(0).chain(ends).collect(),
            hidden: secrets::hidden(text),
        }
    }

    /// The number of the line that holds this offset, from 1.
    pub(super) fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    fn place(&self, at: &At) -> Place {
        match at {
            At::Default => Place::Whole,
            At::Env(name) => Place::Env(name.clone()),
            At::Flag(name) => Place::Flag(name),
            At::File(span) => self.line_place(span),
        }
    }

    /// A line that begins at `start`, with a star for each character of a secret.
    fn starred(&self, start: usize, line: &str) -> String {
        let is_hidden = |at: usize| {
            let next = self.hidden.partition_point(|range| range.end <= at);
            self.hidden.get(next).is_some_and(|range| range.start <= at)
        };
        let star = |(at, c): (usize, char)| {
            if is_hidden(start + at) && !c.is_whitespace() {
                '*'
            } else {
                c
            }
        };
        line.char_indices().map(star).collect()
    }

    fn line_place(&self, span: &Range<usize>) -> Place {
        let line = self.number(span.start.min(self.text.len()));
        let start = self.starts[line - 1];
        let whole = self.text[start..]
            .split('\n')
            .next()
            .unwrap_or("")
            .trim_end_matches('\r');
        let chars = |bytes: usize| {
            let bytes = bytes.saturating_sub(start).min(whole.len());
            whole
                .char_indices()
                .take_while(|(at, _)| *at < bytes)
                .count()
        };
        let (first, last) = (chars(span.start), chars(span.end));
        let (text, skipped) = window(&self.starred(start, whole), first);
        let shown = text.chars().count();
        let caret = (first - skipped).min(shown)..(last.max(first) - skipped).min(shown);
        Place::Line {
            line,
            column: first + 1,
            text,
            caret,
        }
    }
}

/// At most `LINE_CHARS_MAX` characters of a line around column `first`, and how many were left out before them.
/// Control characters become spaces: a file must not drive the terminal.
fn window(line: &str, first: usize) -> (String, usize) {
    let skipped = if first > LINE_CHARS_MAX * 3 / 4 {
        first - LINE_CHARS_MAX / 2
    } else {
        0
    };
    let shown: String = mask(line)
        .chars()
        .skip(skipped)
        .take(LINE_CHARS_MAX)
        .collect();
    (printable(&shown), skipped)
}

fn printable(text: &str) -> String {
    let safe = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(safe).collect()
}

/// Stars in place of the user information of URLs, character by character.
fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(['"', '\'', ' ', ',']).unwrap_or(after.len());
        let hidden = after[..end].rfind('@').unwrap_or(0);
        out.extend(after[..hidden].chars().map(|_| '*'));
        rest = &after[hidden..];
    }
    out.push_str(rest);
    out
}

/// The known name that is nearest to `name`, if near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name
        .chars()
        .take(64)
        .map(|c| {
            if c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    let within = (name.len() / 3).max(1);
    known
        .into_iter()
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.chars().take(64).collect();
            let begins = name.len().min(other.len()) >= 3
                && (name.starts_with(&other) || other.starts_with(&name));
            let part = begins || (name.len() >= 4 && other.ends_with(&name));
            let distance = if part { 1 } else { distance(&name, &other) };
            (distance <= within && distance < other.len()).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insert, delete, replace, or swap neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replace = above[j] + usize::from(a[i] != b[j]);
            let mut best = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let known = ["connect", "client_body", "request", "off"];
        let cases = [
            ("conect", Some("connect")),
            ("connetc", Some("connect")),
            ("client-body", Some("client_body")),
            ("Request", Some("request")),
            ("req", Some("request")),
            ("banana", None),
            ("x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(
            mask("x = \"http://me:secret@host/\", y"),
            "x = \"http://*********@host/\", y"
        );
        assert_eq!(mask("http://a http://b:c@d"), "http://a http://***@d");
        assert_eq!(mask("no url @ all"), "no url @ all");
    }

    #[test]
    fn a_long_line_is_cut_around_its_caret_and_a_control_character_is_not_printed() {
        let text = format!("a = \"{}\u{1b}[31m\"", "x".repeat(500));
        let mut notes = Notes::default();
        notes.add(&At::File(500..506), "a", Fault::new("bad"));
        let report = notes.finish("f", &text).to_string();
        assert!(
            report.lines().all(|line| line.chars().count() < 140),
            "{report}"
        );
        assert!(!report.contains('\u{1b}'));
        assert!(report.starts_with("f:1:501: a: bad\n"), "{report}");
    }

    #[test]
    fn only_the_first_problems_are_shown_and_all_are_counted() {
        let mut notes = Notes::default();
        for _ in 0..60 {
            notes.add(&At::Default, "a", Fault::new("bad"));
        }
        let report = notes.finish("f", "").to_string();
        assert_eq!(report.matches("f: a: bad").count(), SHOWN_MAX);
        assert!(
            report.ends_with("60 problems in f, 10 not shown"),
            "{report}"
        );
    }

    #[test]
    fn offsets_anywhere_never_panic() {
        let text = "é = 1\r\n\tü = 2\n";
        for start in 0..=text.len() {
            for end in start..=text.len() {
                Lines::new(text).place(&At::File(start..end));
            }
        }
    }
}
