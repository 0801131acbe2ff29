//! What a user sees first: simulated engines, control plane and proxy in one process, and one question asked
//! through it.

pub mod ask;
pub mod control;
pub mod stage;

pub use ask::{Served, ask};
pub use stage::{Options, Stage};
