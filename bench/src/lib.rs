//! Measuring tools: the floor relay, the load generator, the interleaved runner.

pub mod floor;
pub mod load;
pub mod runner;
