//! Responses that we make ourselves.
