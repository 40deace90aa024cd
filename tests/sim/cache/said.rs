//! What was said once, and for whom.
//!
//! Decides: what each sort of path means for caches, and every byte of a response. May not know: who has got it.

use corelane::config::plan::Nanos;

use crate::world::SECOND;

/// The longest that a request may have been under way when what it gets was confirmed.
pub const SLACK_NS: Nanos = SECOND;

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// For all, for longer than a run.
    Plain,
    /// The same, by X-Variant.
    Varied,
    /// The same, of a status that is no success.
    Absent,
    /// For a second, and to be validated then.
    Brief,
    /// For a second, and stale for some more.
    Windowed,
    /// To be validated always.
    NoCache,
    /// For their askers alone.
    Private,
    Cookie,
    NoStore,
}

impl Sort {
    pub const ALL: [Sort; 9] = [
        Sort::Plain,
        Sort::Varied,
        Sort::Absent,
        Sort::Brief,
        Sort::Windowed,
        Sort::NoCache,
        Sort::Private,
        Sort::Cookie,
        Sort::NoStore,
    ];

    pub fn path(self) -> String {
        format!("/{self:?}").to_lowercase()
    }

    pub fn of(path: &str) -> Sort {
        let found = Sort::ALL.into_iter().find(|sort| sort.path() == path);
        found.unwrap_or_else(|| panic!("{path}"))
    }

    pub fn fields(self) -> &'static str {
        match self {
            Sort::Plain | Sort::Absent => "Cache-Control: max-age=600\r\n",
            Sort::Varied => "Cache-Control: public, max-age=600\r\nVary: X-Variant\r\n",
            Sort::Brief => "Cache-Control: max-age=1, must-revalidate\r\n",
            Sort::Windowed => {
                "Cache-Control: max-age=1, stale-while-revalidate=2, stale-if-error=4\r\n"
            }
            Sort::NoCache => "Cache-Control: no-cache\r\n",
            Sort::Private => "Cache-Control: private, max-age=600\r\n",
            Sort::Cookie => "Cache-Control: max-age=600\r\nSet-Cookie: who=me\r\n",
            Sort::NoStore => "Cache-Control: no-store\r\n",
        }
    }

    /// How long after it was said or confirmed it may be sent to anybody.
    pub fn usable_ns(self) -> Nanos {
        match self {
            Sort::Plain | Sort::Varied | Sort::Absent => 600 * SECOND,
            Sort::Brief => SECOND,
            Sort::Windowed => 5 * SECOND,
            Sort::NoCache | Sort::Private | Sort::Cookie | Sort::NoStore => 0,
        }
    }

    /// How long it may be sent without a question.
    pub fn fresh_ns(self) -> Nanos {
        match self {
            Sort::Windowed => SECOND,
            _ => self.usable_ns(),
        }
    }

    /// One answer is for all who ask at the same time.
    pub fn is_shared(self) -> bool {
        match self {
            Sort::Plain | Sort::Varied | Sort::Absent | Sort::Brief | Sort::Windowed => true,
            Sort::NoCache | Sort::Private | Sort::Cookie | Sort::NoStore => false,
        }
    }

    pub fn status(self) -> u16 {
        if self == Sort::Absent { 404 } else { 200 }
    }
}

/// What was said once.
#[derive(Debug, Clone)]
pub struct Said {
    pub serial: u64,
    pub key: String,
    pub variant: String,
    pub user: String,
    /// The request that it answers.
    pub ask: u64,
    /// It is for that request alone.
    pub is_private: bool,
    pub status: u16,
    pub bytes: usize,
    /// It will be said to its end.
    pub is_whole: bool,
    /// When its request came, in the order of events.
    pub came: u64,
    /// The same for the last request that was told that it still holds.
    pub confirmed: u64,
    pub confirmed_ns: Nanos,
    pub usable_ns: Nanos,
    pub must_confirm: bool,
}

impl Said {
    pub fn body(&self) -> Vec<u8> {
        let (serial, key, variant, user) = (self.serial, &self.key, &self.variant, &self.user);
        let mut body = Vec::with_capacity(self.bytes + 100);
        while body.len() < self.bytes {
            let at = body.len();
            body.extend(format!("<{serial} {key} {variant} {user} {at}>").into_bytes());
        }
        body.truncate(self.bytes);
        body
    }

    pub fn tag(&self) -> String {
        format!("\"{}\"", self.serial)
    }

    pub fn head(&self, sort: Sort, is_public: bool) -> String {
        let mut head = format!(
            "HTTP/1.1 {} Sure\r\nX-Serial: {}\r\nX-Key: {}\r\n",
            self.status, self.serial, self.key
        );
        head += &format!(
            "X-For: {} {}\r\nETag: {}\r\n",
            self.variant,
            self.user,
            self.tag()
        );
        if self.status < 500 {
            head += sort.fields();
        }
        if is_public {
            head += "Cache-Control: public\r\n";
        }
        head
    }
}
