//! Load: what is asked, when, over which connections, and what came of it. One thread runs a whole plan on epoll, so
//! that the generator costs little beside what it measures; `threads` splits a plan over several.

pub mod client;
mod conn;
pub mod hist;
pub mod hold;
pub mod plan;
pub mod process;
pub mod report;
pub mod rng;
pub mod schedule;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod text;
pub mod trace;
pub mod workload;

pub use client::run;
pub use plan::{Arrival, Pace, Plan, Reuse, Shape};
pub use report::Report;

/// Nanoseconds of CLOCK_MONOTONIC, the clock that every process of a machine shares.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
