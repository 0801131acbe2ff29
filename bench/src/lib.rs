//! What measures the data plane: a simulated engine, a load generator, the floor relay, the runner that compares, the
//! runs that must show something, and the quickstart.

pub mod ask;
pub mod engine;
pub mod floor;
pub mod load;
pub mod quickstart;
pub mod runner;
pub mod show;
