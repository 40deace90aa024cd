//! Text → `File` → `Plan`.

pub mod plan;
