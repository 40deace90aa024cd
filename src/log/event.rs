//! What the process has to say about itself, on stderr: the start banner, warnings, the end.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use super::{Clock, escape};
use crate::config::plan::Level;

/// Where such messages go, and from which level.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    level: Level,
    /// For a person, not for a collector.
    human: bool,
}

impl Events {
    /// Text when stderr is a terminal, else one JSON line per message.
    pub fn to_stderr(level: Level) -> Events {
        Events {
            level,
            human: std::io::stderr().is_terminal(),
        }
    }

    /// Says `message` with `fields`, if `level` is wanted. A failure to write has nowhere to go and is ignored.
    pub fn say(&self, unix_ms: u64, level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
        if level > self.level {
            return;
        }
        let mut out = Vec::with_capacity(256);
        self.render(&mut out, unix_ms, level, message, fields);
        let _ = std::io::stderr().lock().write_all(&out);
    }

    fn render(
        &self,
        out: &mut Vec<u8>,
        unix_ms: u64,
        level: Level,
        message: &str,
        fields: &[(&str, &dyn Display)],
    ) {
        if self.human {
            out.extend_from_slice(human_prefix(level).as_bytes());
            escape::json(out, message.as_bytes());
            for (key, value) in fields {
                out.extend_from_slice(format!(" {key}=").as_bytes());
                escape::json(out, value.to_string().as_bytes());
            }
        } else {
            json(out, unix_ms, level, message, fields);
        }
        out.push(b'\n');
    }
}

/// One event as a JSON object, without a line end.
pub fn event_json(
    unix_ms: u64,
    level: Level,
    message: &str,
    fields: &[(&str, &dyn Display)],
) -> String {
    let mut out = Vec::with_capacity(256);
    json(&mut out, unix_ms, level, message, fields);
    String::from_utf8_lossy(&out).into_owned()
}

/// A point in time for people and programs, in UTC.
pub fn rfc3339(unix_ms: u64) -> String {
    let mut clock = Clock::new();
    let second = String::from_utf8_lossy(clock.iso(unix_ms));
    format!("{second}.{:03}Z", unix_ms % 1000)
}

fn json(
    out: &mut Vec<u8>,
    unix_ms: u64,
    level: Level,
    message: &str,
    fields: &[(&str, &dyn Display)],
) {
    let start = format!(
        "{{\"timestamp\":\"{}\",\"level\":\"{}\",\"msg\":\"",
        rfc3339(unix_ms),
        name(level)
    );
    out.extend_from_slice(start.as_bytes());
    escape::json(out, message.as_bytes());
    for (key, value) in fields {
        out.extend_from_slice(format!("\",\"{key}\":\"").as_bytes());
        escape::json(out, value.to_string().as_bytes());
    }
    out.extend_from_slice(b"\"}");
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

fn human_prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "corelane: error: ",
        Level::Warn => "corelane: warning: ",
        Level::Info | Level::Debug => "corelane: ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_look_as_their_reader_wants_them() {
        let fields: &[(&str, &dyn Display)] = &[("shards", &2), ("path", &"a\"b\n")];
        for (human, level, expected) in [
            (
                true,
                Level::Info,
                "corelane: up \\\\ shards=2 path=a\\\"b\\n\n",
            ),
            (
                true,
                Level::Warn,
                "corelane: warning: up \\\\ shards=2 path=a\\\"b\\n\n",
            ),
            (
                false,
                Level::Error,
                concat!(
                    r#"{"timestamp":"1970-01-01T00:00:01.007Z","level":"error","msg":"up \\","#,
                    r#""shards":"2","path":"a\"b\n"}"#,
                    "\n"
                ),
            ),
        ] {
            let mut out = Vec::new();
            Events {
                level: Level::Info,
                human,
            }
            .render(&mut out, 1007, level, "up \\", fields);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
