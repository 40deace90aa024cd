//! JSON that is being written: results of load tests, and what the admin listener tells.
//!
//! Decides: nothing but what is escaped. May not know: what it writes. Invariant: what is finished is one valid value,
//! if every `raw` one is.

use std::fmt::Write;

/// An object that is being written.
#[derive(Default)]
pub(crate) struct Object {
    inside: String,
}

impl Object {
    pub(crate) fn raw(&mut self, name: &str, value: &str) {
        if !self.inside.is_empty() {
            self.inside.push(',');
        }
        let _ = write!(self.inside, "{}:{value}", quoted(name));
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    /// A number, or true or false. All our numbers are finite, and written as Rust does they are JSON.
    pub(crate) fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        self.raw(name, &value.to_string());
    }

    pub(crate) fn optional(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.raw(name, "null"),
        }
    }

    pub(crate) fn list(&mut self, name: &str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        self.raw(name, &format!("[{}]", items.join(",")));
    }

    pub(crate) fn finish(self) -> String {
        format!("{{{}}}", self.inside)
    }
}

pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            _ if character.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(
            quoted("a\"b\\c\nd\u{7f}é"),
            "\"a\\\"b\\\\c\\u000ad\\u007fé\""
        );
    }
}
