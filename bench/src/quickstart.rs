//! What a user sees first: simulated engines and the proxy in one process, and one question asked through it.

pub mod ask;
pub mod stage;

pub use ask::{Served, ask};
pub use stage::{Options, Stage};
