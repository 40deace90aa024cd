//! Host and path → route.

/// The routing table.
#[derive(Debug, Default)]
pub struct Router {}
