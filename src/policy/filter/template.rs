//! Texts with variables in braces: values of header fields, locations, bodies.
//!
//! Decides: which variables exist, how a text is read, what it becomes. May not know: where the text stands. Invariant:
//! what a client sent never brings a line end or a control character into a field.

/// A text, cut at its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// What stands between braces, in lower case: `{client_ip}`. A brace itself is doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The client as trusted proxies tell it.
    ClientIp,
    /// `http` or `https`: how the client asked, as trusted proxies tell it.
    Scheme,
    Method,
    /// As the client sent it, with its port.
    Host,
    /// Without the query.
    Path,
    /// With its `?`; empty if there is none.
    Query,
    RequestId,
    /// Who the request comes from, as `[access]` has found.
    User,
    /// The route's name.
    Route,
    /// The authority of the backend that was chosen.
    Backend,
    /// The status of our own answer, and the reason's label.
    Status,
    Reason,
}

/// What variables become. Empty where there is nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    pub client_ip: &'a str,
    pub scheme: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub request_id: &'a str,
    pub user: &'a str,
    pub route: &'a str,
    pub backend: &'a str,
    pub status: u16,
    pub reason: &'a str,
}
