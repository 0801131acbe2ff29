//! What measures the data plane: a simulated engine, a load generator, the floor relay, and the runner that compares.

pub mod engine;
pub mod floor;
pub mod load;
pub mod runner;
