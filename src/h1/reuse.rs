//! How each half ended → keep, close, linger.
