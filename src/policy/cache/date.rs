//! Dates of HTTP (RFC 9110 section 5.6.7).
//!
//! Decides: which second a text means. May not know: what happens then. Invariant: there is one reading of a text, or
//! none.
//!
//! By hand, since dates with another case or a wrong day of the week are found in the wild and mean one second only;
//! crates that we know refuse them.

const DAYS: [&[u8]; 7] = [
    b"monday",
    b"tuesday",
    b"wednesday",
    b"thursday",
    b"friday",
    b"saturday",
    b"sunday",
];
const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

/// Seconds since 1970; `None`: no date of the three forms, or one before 1970.
pub(super) fn parse(text: &[u8]) -> Option<u64> {
    let mut text = Text(text.trim_ascii());
    let name = text.letters();
    let is_short = DAYS.iter().any(|day| name.eq_ignore_ascii_case(&day[..3]));
    if text.skip(b", ").is_none() {
        return if is_short { asctime(&mut text) } else { None };
    }
    if is_short {
        return fixdate(&mut text);
    }
    let is_long = DAYS.iter().any(|day| name.eq_ignore_ascii_case(day));
    if is_long { rfc850(&mut text) } else { None }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn fixdate(text: &mut Text<'_>) -> Option<u64> {
    let day = text.number(2)?;
    text.skip(b" ")?;
    let month = text.month()?;
    text.skip(b" ")?;
    let year = text.number(4)?;
    text.skip(b" ")?;
    let second = text.time()?;
    text.skip(b" GMT")?;
    text.ended(seconds(year, month, day, second))
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &mut Text<'_>) -> Option<u64> {
    let day = text.number(2)?;
    text.skip(b"-")?;
    let month = text.month()?;
    text.skip(b"-")?;
    // Whoever writes two digits means the years around 2000: the form went out of use with them.
    let year = match text.number(2)? {
        year @ 0..70 => 2000 + year,
        year => 1900 + year,
    };
    text.skip(b" ")?;
    let second = text.time()?;
    text.skip(b" GMT")?;
    text.ended(seconds(year, month, day, second))
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &mut Text<'_>) -> Option<u64> {
    text.skip(b" ")?;
    let month = text.month()?;
    text.skip(b" ")?;
    let day = match text.skip(b" ") {
        Some(()) => text.number(1)?,
        None => text.number(2)?,
    };
    text.skip(b" ")?;
    let second = text.time()?;
    text.skip(b" ")?;
    let year = text.number(4)?;
    text.ended(seconds(year, month, day, second))
}

/// What is left to read.
struct Text<'t>(&'t [u8]);

impl<'t> Text<'t> {
    fn letters(&mut self) -> &'t [u8] {
        let letters = self.0.iter().take_while(|byte| byte.is_ascii_alphabetic());
        let (letters, rest) = self.0.split_at(letters.count());
        self.0 = rest;
        letters
    }

    fn skip(&mut self, wanted: &[u8]) -> Option<()> {
        let (found, rest) = self.0.split_at_checked(wanted.len())?;
        found.eq_ignore_ascii_case(wanted).then(|| self.0 = rest)
    }

    fn number(&mut self, digits: usize) -> Option<u64> {
        let (found, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        found.iter().try_fold(0, |number, byte| {
            let digit = u64::from(byte.wrapping_sub(b'0'));
            (digit < 10).then_some(number * 10 + digit)
        })
    }

    /// 1 to 12.
    fn month(&mut self) -> Option<u64> {
        let (found, rest) = self.0.split_at_checked(3)?;
        self.0 = rest;
        let at = MONTHS
            .iter()
            .position(|month| found.eq_ignore_ascii_case(*month))?;
        Some(at as u64 + 1)
    }

    /// Seconds since midnight; 60 is a leap second.
    fn time(&mut self) -> Option<u64> {
        let hour = self.number(2)?;
        self.skip(b":")?;
        let minute = self.number(2)?;
        self.skip(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }

    fn ended(&self, seconds: Option<u64>) -> Option<u64> {
        seconds.filter(|_| self.0.is_empty())
    }
}

fn seconds(year: u64, month: u64, day: u64, second: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || day == 0 || day > days {
        return None;
    }
    // Years begin in March, so that a leap day comes last; 719,468 days lie between March of the year 0 and 1970.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::answer::http_date;
    use proptest::prelude::*;

    #[test]
    fn three_forms_are_read() {
        let cases: &[(&str, Option<u64>)] = &[
            // RFC 9110 section 5.6.7: the same second three times.
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sun Nov 06 08:49:37 1994", Some(784_111_777)),
            (" Sun, 06 Nov 1994 08:49:37 GMT\t", Some(784_111_777)),
            // Another case, and a day that it was not.
            ("SUN, 06 NOV 1994 08:49:37 gMT", Some(784_111_777)),
            ("Thu, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Thursday, 18-Aug-69 02:01:18 GMT", Some(3_144_016_878)),
            ("Thursday, 18-Aug-70 02:01:18 GMT", Some(19_792_878)),
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_800)),
            ("", None),
            ("0", None),
            ("-1", None),
            ("784111777", None),
            ("Sun, 06 Nov 1969 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("Sun, 06 Nov 1994 08:49:37 AEST", None),
            ("Sun, 06 Nov 1994 08:49:37 +0000", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 94 08:49:37 GMT", None),
            ("Sun 06 Nov 1994 08:49:37 GMT", None),
            ("Sun,06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06  Nov  1994 08:49:37 GMT", None),
            ("Sun, 06-Nov-1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08.49.37 GMT", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 6 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:60:00 GMT", None),
            ("Sun, 06 Nov 1994 08:00:61 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None),
            ("Tue, 29 Feb 2100 00:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT, ", None),
            ("Sun, 06 Nov 1994 08:49:37 GMTx", None),
            ("Xyz, 06 Nov 1994 08:49:37 GMT", None),
            ("Sunday, 06 Nov 1994 08:49:37 GMT", None),
            ("Sunday Nov  6 08:49:37 1994", None),
        ];
        for (text, second) in cases {
            assert_eq!(parse(text.as_bytes()), *second, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_we_write_we_read(second in 0_u64..=253_402_300_799) {
            let mut text = String::new();
            http_date(&mut text, second);
            prop_assert_eq!(parse(text.as_bytes()), Some(second));
        }

        #[test]
        fn any_text_is_a_date_or_none(text: Vec<u8>, at in 0_usize..29, byte: u8) {
            parse(&text);
            let mut almost = *b"Sun, 06 Nov 1994 08:49:37 GMT";
            almost[at] = byte;
            parse(&almost);
            parse(&almost[..at]);
        }
    }
}
