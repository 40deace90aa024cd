//! The head that we send on.
