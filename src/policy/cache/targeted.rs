//! CDN-Cache-Control (RFC 9213), a dictionary of structured fields (RFC 8941 section 3.2).
//!
//! Decides: whether it can be read, and what it says. May not know: Cache-Control. Invariant: a dictionary with a fault
//! in any place says nothing at all.

use super::control::{Argument, Directive, Said};
use super::fields::named;
use super::fresh;
use crate::h1::head::Response;

/// `None`: there is none, or it is empty, or it cannot be read (RFC 9213 section 2.1).
pub(super) fn read(response: &Response<'_, '_>) -> Option<Said> {
    let mut said = Said::default();
    let mut has_members = false;
    for line in named(response.headers, "cdn-cache-control") {
        let mut text = Text(line.trim_ascii());
        if !text.0.is_empty() {
            has_members = true;
            text.dictionary(&mut said)?;
        }
    }
    has_members.then_some(said)
}

/// A bare item, or a list of them. What the others are worth does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Integer(i64),
    Boolean(bool),
    Other,
}

/// What is left to read. `None` of its methods: a fault.
struct Text<'t>(&'t [u8]);

impl<'t> Text<'t> {
    /// RFC 8941 section 4.2.2.
    fn dictionary(&mut self, said: &mut Said) -> Option<()> {
        loop {
            let key = self.key()?;
            let value = if self.skips(b'=') {
                self.value()?
            } else {
                Value::Boolean(true)
            };
            self.parameters()?;
            if let Some(directive) = Directive::of(key) {
                take(said, directive, value)?;
            }
            self.0 = self.0.trim_ascii_start();
            if self.0.is_empty() {
                return Some(());
            }
            if !self.skips(b',') {
                return None;
            }
            self.0 = self.0.trim_ascii_start();
        }
    }

    /// RFC 8941 section 4.2.3.3: in lower case.
    fn key(&mut self) -> Option<&'t [u8]> {
        let first = self.0.first()?;
        if !first.is_ascii_lowercase() && *first != b'*' {
            return None;
        }
        Some(self.while_in(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        }))
    }

    /// RFC 8941 section 4.2.1.1, with what else a dictionary may hold.
    fn value(&mut self) -> Option<Value> {
        if !self.skips(b'(') {
            return self.item();
        }
        loop {
            self.spaces();
            if self.skips(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    /// RFC 8941 section 4.2.3.2. RFC 9213 section 2.1: they say nothing.
    fn parameters(&mut self) -> Option<()> {
        while self.skips(b';') {
            self.spaces();
            self.key()?;
            if self.skips(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    /// RFC 8941 section 4.2.3.1.
    fn item(&mut self) -> Option<Value> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.while_in(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Some(Value::Other)
            }
            b':' => {
                self.skips(b':');
                self.while_in(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.skips(b':').then_some(Value::Other)
            }
            b'?' => {
                self.skips(b'?');
                let is_true = self.skips(b'1');
                (is_true || self.skips(b'0')).then_some(Value::Boolean(is_true))
            }
            _ => None,
        }
    }

    /// RFC 8941 section 4.2.4: 15 digits, or 12 and at most three decimals.
    fn number(&mut self) -> Option<Value> {
        let sign = if self.skips(b'-') { -1 } else { 1 };
        let digits = self.while_in(|byte| byte.is_ascii_digit());
        if !(1..=15).contains(&digits.len()) {
            return None;
        }
        if self.skips(b'.') {
            let decimals = self.while_in(|byte| byte.is_ascii_digit());
            let is_decimal = digits.len() <= 12 && (1..=3).contains(&decimals.len());
            return is_decimal.then_some(Value::Other);
        }
        let number = digits
            .iter()
            .fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Value::Integer(sign * number))
    }

    /// RFC 8941 section 4.2.5.
    fn string(&mut self) -> Option<Value> {
        self.skips(b'"');
        loop {
            match self.0 {
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    return Some(Value::Other);
                }
                [b'\\', b'"' | b'\\', rest @ ..] => self.0 = rest,
                [b'\\', ..] | [] => return None,
                [b' '..=b'~', rest @ ..] => self.0 = rest,
                [_, ..] => return None,
            }
        }
    }

    fn spaces(&mut self) {
        self.while_in(|byte| byte == b' ');
    }

    fn skips(&mut self, byte: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == byte => {
                self.0 = rest;
                true
            }
            [] | [_, ..] => false,
        }
    }

    fn while_in(&mut self, set: impl Fn(u8) -> bool) -> &'t [u8] {
        let count = self.0.iter().take_while(|byte| set(**byte)).count();
        let (found, rest) = self.0.split_at(count);
        self.0 = rest;
        found
    }
}

/// RFC 9213 section 2.1: an argument has the type that fits; what has none is true. A lifetime of another type is a
/// fault. What forbids is taken with any argument but false, as in Cache-Control.
fn take(said: &mut Said, directive: Directive, value: Value) -> Option<()> {
    let argument = match value {
        Value::Integer(seconds) => Argument::Seconds(fresh::capped_s(seconds.max(0) as u64)),
        Value::Boolean(false) if !directive.has_seconds() => return Some(()),
        Value::Boolean(true) => Argument::None,
        Value::Boolean(false) | Value::Other => Argument::Other,
    };
    if directive.has_seconds() && !matches!(argument, Argument::Seconds(_)) {
        return None;
    }
    said.take(directive, argument);
    Some(())
}
