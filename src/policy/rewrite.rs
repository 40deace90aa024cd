//! The path that a backend sees, and where a client is sent instead.
//!
//! Decides: what becomes of a path. May not know: routes, what the path is for. Invariant: a path that is rewritten is
//! the normal one (see `route`): no dot segment or escape of a letter goes round a prefix that is taken off.

use super::filter::template::Template;

/// What becomes of the path of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Taken off, at a segment's border.
    pub strip: Option<Box<str>>,
    /// Put before what is left.
    pub add: Option<Box<str>>,
    /// The whole path in place of it.
    pub replace: Option<Box<str>>,
}

/// A route that answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    Redirect {
        status: u16,
        location: Template,
    },
    Answer {
        status: u16,
        content_type: Box<str>,
        body: Template,
    },
}

/// The body of our own error responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// First and last status.
    pub statuses: Box<[(u16, u16)]>,
    pub content_type: Box<str>,
    pub body: Template,
}
