//! The text form of a wire case. Its grammar stands in tests/cases/README.md.

use std::path::Path;

/// One case: a configuration and what happens in order.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// `theme/name`.
    pub(crate) name: String,
    pub(crate) config: String,
    /// The client's first bytes are not cut.
    pub(crate) whole: bool,
    /// What it leaves behind in the proxy would disturb others: it has a proxy of its own, and is run once.
    pub(crate) alone: bool,
    pub(crate) steps: Vec<Step>,
    /// The lines that they were made of.
    text: String,
}

/// What one side does or sees.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Which client or which backend, from 0.
    pub(crate) number: usize,
    pub(crate) deed: Deed,
}

#[derive(Debug, Clone)]
pub(crate) enum Deed {
    ClientSends(Vec<u8>),
    Client(Act),
    ClientGets(Message),
    ClientRaw(Vec<u8>),
    ClientSees(State),
    BackendSends(Vec<u8>),
    Backend(Act),
    BackendGets(Message),
    BackendRaw(Vec<u8>),
    BackendSees(State),
    Counted(String),
    Logged(String),
    /// A metric comes to have this value.
    Until(String, u64),
}

/// What a side does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Sends nothing more.
    End,
    Close,
    Reset,
    /// Takes no more connections.
    Down,
    /// Takes them again.
    Up,
}

/// What a side finds its connection to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Reset,
    /// Closed in either way.
    Gone,
    /// Another request on it is served.
    Open,
}

/// What a message must look like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// A whole start line, or a status code.
    pub(crate) start: String,
    pub(crate) checks: Vec<Check>,
    pub(crate) body: Vec<u8>,
    /// The label in the body of our own refusal, which stands for the body.
    pub(crate) reason: Option<String>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Only the head is read.
    pub(crate) head_only: bool,
    /// `body` is what the content coding makes of it.
    pub(crate) coded: bool,
    /// The connection ends before the message does; by a reset, if true.
    pub(crate) cut: Option<bool>,
    /// On a new backend connection, or on the one before.
    pub(crate) is_new: Option<bool>,
}

#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// Exactly one field of this name, with this value.
    Field(String, String),
    Present(String),
    Absent(String),
    /// One of the fields of this name has this value.
    Among(String, String),
    /// Exactly one field of this name, whose value begins so.
    Begins(String, String),
    /// The same values as in the message that the other side got last, one at least.
    Same(String),
}

impl Case {
    /// Its steps in the run of this number: what one run leaves in a cache is nothing to the next.
    pub(crate) fn steps_of_run(&self, run: usize) -> Vec<Step> {
        if !self.text.contains("{run}") {
            return self.steps.clone();
        }
        let (theme, _) = self.name.split_once('/').unwrap();
        // Of one length, so that the places of the cuts are the same.
        let text = self.text.replace("{run}", &format!("{run:06}"));
        let mut cases = parse(theme, &format!("=== numbered\n{text}"));
        cases.remove(0).steps
    }

    /// The refusals that it asks for by name.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match &step.deed {
            Deed::ClientGets(message) => message.reason.as_deref(),
            Deed::Counted(label) => Some(label.as_str()),
            Deed::ClientSends(_)
            | Deed::Client(_)
            | Deed::ClientRaw(_)
            | Deed::ClientSees(_)
            | Deed::BackendSends(_)
            | Deed::Backend(_)
            | Deed::BackendGets(_)
            | Deed::BackendRaw(_)
            | Deed::BackendSees(_)
            | Deed::Logged(_)
            | Deed::Until(..) => None,
        })
    }

    /// The lines that it wants to see in the access log.
    pub(crate) fn log_texts(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match &step.deed {
            Deed::Logged(text) => Some(text.as_str()),
            Deed::ClientSends(_)
            | Deed::Client(_)
            | Deed::ClientGets(_)
            | Deed::ClientRaw(_)
            | Deed::ClientSees(_)
            | Deed::BackendSends(_)
            | Deed::Backend(_)
            | Deed::BackendGets(_)
            | Deed::BackendRaw(_)
            | Deed::BackendSees(_)
            | Deed::Counted(_)
            | Deed::Until(..) => None,
        })
    }
}

/// All cases below `tests/cases`.
pub(crate) fn all() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases = Vec::new();
    let mut themes: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    themes.sort();
    for theme in themes.iter().filter(|path| path.is_dir()) {
        let mut files: Vec<_> = std::fs::read_dir(theme)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        let theme = theme.file_name().unwrap().to_str().unwrap();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            cases.extend(parse(theme, &text));
        }
    }
    cases
}

fn parse(theme: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case {
                name: format!("{theme}/{}", name.trim()),
                config: String::new(),
                whole: false,
                alone: false,
                steps: Vec::new(),
                text: String::new(),
            });
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let case = cases.last_mut().expect("a line before the first case");
            let name = case.name.clone();
            case.text.push_str(line);
            case.text.push('\n');
            case.line(line)
                .unwrap_or_else(|| panic!("{name}: {line:?}"));
        }
    }
    cases
}

impl Case {
    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(check) = line.strip_prefix("  ") {
            return match &mut self.steps.last_mut()?.deed {
                Deed::ClientGets(message) | Deed::BackendGets(message) => message.check(check),
                _ => None,
            };
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "config" => {
                self.config.push_str(rest);
                self.config.push('\n');
            }
            "whole" => self.whole = true,
            "alone" => self.alone = true,
            "counted" => self.push(0, Deed::Counted(rest.to_owned())),
            "logged" => self.push(0, Deed::Logged(rest.to_owned())),
            "until" => {
                let (metric, value) = rest.rsplit_once(' ')?;
                let deed = Deed::Until(metric.to_owned(), value.parse().ok()?);
                self.push(0, deed);
            }
            _ => {
                let (side, number, sign) = actor(word)?;
                let deed = deed(side, sign, rest)?;
                self.push(number, deed);
            }
        }
        Some(())
    }

    /// Adds a step; what one side sends in steps that follow each other is sent together.
    fn push(&mut self, number: usize, deed: Deed) {
        let last = self.steps.last_mut().filter(|last| last.number == number);
        match (last.map(|last| &mut last.deed), deed) {
            (Some(Deed::ClientSends(bytes)), Deed::ClientSends(more))
            | (Some(Deed::BackendSends(bytes)), Deed::BackendSends(more)) => bytes.extend(more),
            (_, deed) => self.steps.push(Step { number, deed }),
        }
    }
}

/// The parts of `C>` or `B2<`: which side, which of them, and the sign.
fn actor(word: &str) -> Option<(char, usize, &str)> {
    let side = word.chars().next()?;
    let at = word.find(|c: char| !c.is_ascii_alphanumeric())?;
    let number = match word.get(1..at)? {
        "" => 1,
        digits => digits.parse().ok().filter(|number| *number > 1)?,
    };
    Some((side, number - 1, &word[at..]))
}

fn deed(side: char, sign: &str, rest: &str) -> Option<Deed> {
    Some(match (side, sign) {
        ('C', ">") => Deed::ClientSends(unescape(rest)?),
        ('B', ">") => Deed::BackendSends(unescape(rest)?),
        ('C', "<") => Deed::ClientGets(Message::new(rest)?),
        ('B', "<") => Deed::BackendGets(Message::new(rest)?),
        ('C', "=") => Deed::ClientRaw(unescape(rest)?),
        ('B', "=") => Deed::BackendRaw(unescape(rest)?),
        ('C', "!") => Deed::Client(act(rest).filter(|act| !matches!(act, Act::Down | Act::Up))?),
        ('B', "!") => Deed::Backend(act(rest)?),
        ('C', ".") => Deed::ClientSees(state(rest)?),
        ('B', ".") => Deed::BackendSees(state(rest)?),
        _ => return None,
    })
}

impl Message {
    fn new(start: &str) -> Option<Message> {
        Some(Message {
            start: unescape(start)?.into_iter().map(char::from).collect(),
            ..Message::default()
        })
    }

    fn check(&mut self, line: &str) -> Option<()> {
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) {
            let value = value.trim().to_owned();
            self.checks.push(Check::Field(name.to_owned(), value));
            return Some(());
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "no" => self.checks.push(Check::Absent(rest.to_owned())),
            "with" => self.checks.push(Check::Present(rest.to_owned())),
            "same" => self.checks.push(Check::Same(rest.to_owned())),
            "among" | "begins" => {
                let (name, value) = rest.split_once(": ")?;
                let check = if word == "among" {
                    Check::Among
                } else {
                    Check::Begins
                };
                self.checks.push(check(name.to_owned(), value.to_owned()));
            }
            "body" => self.body.extend(unescape(rest)?),
            "reason" => self.reason = Some(rest.to_owned()),
            "trailer" => {
                let (name, value) = rest.split_once(": ")?;
                self.trailers.push((name.to_owned(), value.to_owned()));
            }
            "head" => self.head_only = true,
            "coded" => self.coded = true,
            "cut" => self.cut = Some(rest == "by a reset"),
            "on" => self.is_new = Some(rest == "a new connection"),
            _ => return None,
        }
        Some(())
    }
}

fn act(word: &str) -> Option<Act> {
    match word {
        "end" => Some(Act::End),
        "close" => Some(Act::Close),
        "reset" => Some(Act::Reset),
        "down" => Some(Act::Down),
        "up" => Some(Act::Up),
        _ => None,
    }
}

fn state(word: &str) -> Option<State> {
    match word {
        "closed" => Some(State::Closed),
        "reset" => Some(State::Reset),
        "gone" => Some(State::Gone),
        "open" => Some(State::Open),
        _ => None,
    }
}

/// `\r \n \t \\ \0 \xNN`, and `\*N(text)` for N repetitions.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let kind = rest.chars().next()?;
        rest = &rest[1..];
        match kind {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            '0' => out.push(0),
            '\\' => out.push(b'\\'),
            's' => out.push(b' '),
            'x' => {
                out.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = &rest[2..];
            }
            '*' => {
                let (count, more) = rest.split_once('(')?;
                let (piece, more) = more.split_once(')')?;
                let piece = unescape(piece)?;
                out.extend(piece.repeat(count.parse().ok()?));
                rest = more;
            }
            _ => return None,
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}
