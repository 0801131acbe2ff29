//! ModelBooster: a model in a few lines.

mod transfer;
mod validate;

pub use transfer::{Transfer, transfer};
pub use validate::{engine_port, validate};
