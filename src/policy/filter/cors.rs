//! Cross-origin requests (the Fetch standard's CORS protocol).
//!
//! Decides: whether a page of another origin may ask, and the fields that tell its browser. May not know: how requests
//! without Origin fare: they pass. Invariant: credentials are never allowed to any origin at all.

#[derive(Debug)]
pub struct Cors {
    pub origins: Box<[Origin]>,
    /// Methods of a preflight's answer, as one list: `GET, POST`.
    pub methods: Box<str>,
    /// Fields that requests may have; `None`: those that are asked for.
    pub headers: Option<Box<str>>,
    /// Fields of responses that pages may read; empty for none.
    pub exposed: Box<str>,
    pub credentials: bool,
    /// How long a browser keeps a preflight's answer; `None` leaves it to the browser.
    pub max_age_s: Option<u64>,
}

/// Whose pages may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Any,
    /// `https://app.example.org:8443`, in lower case.
    Exact(Box<str>),
    /// `https://*.example.org`, as its scheme and `.example.org`, with a port if there is one; without a scheme, any.
    Suffix {
        scheme: Option<Box<str>>,
        suffix: Box<str>,
    },
}
