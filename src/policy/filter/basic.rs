//! Basic authentication (RFC 7617).
//!
//! Decides: who a request says that it comes from, and what its answer is if that is nobody. May not know: threads
//! (hashing a password is slow, so it is done elsewhere). Invariant: an unknown user costs as much as a wrong password.

#[derive(Debug)]
pub struct Basic {
    /// As it stands in the challenge.
    pub realm: Box<str>,
    /// By name.
    pub users: Box<[User]>,
}

pub struct User {
    pub name: Box<str>,
    /// bcrypt (`$2y$…`) or Argon2 (`$argon2id$…`).
    pub hash: Box<str>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
