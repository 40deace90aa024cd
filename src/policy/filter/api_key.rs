//! API keys.
//!
//! Decides: whose key a request has. May not know: the keys: it has their digests. Invariant: how long a comparison
//! takes says nothing of a key.

#[derive(Debug)]
pub struct ApiKey {
    /// The field that holds the key; for `Authorization`, behind `Bearer`. Lower case.
    pub header: Box<str>,
    pub keys: Box<[Key]>,
}

pub struct Key {
    /// Whose it is.
    pub name: Box<str>,
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
