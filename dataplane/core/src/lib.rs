//! What the data plane decides. Pure functions over values: no I/O, no clock, no randomness, no environment. Time and
//! random numbers are arguments, so every decision can be replayed in a test.
#![deny(missing_docs)]

pub mod health;
pub mod http;
pub mod index;
pub mod inspect;
pub mod kv;
pub mod load;
pub mod plan;
pub mod relay;
pub mod route;
pub mod scheduler;
pub mod sse;
pub mod table;
