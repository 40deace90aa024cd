//! Which length rule applies; incremental decoder; encoder.
