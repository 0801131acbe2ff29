//! The I/O shell of the data plane: one thread per core, each with its own listener, connections, pool, table cache and
//! metrics. What is decided lives in `dataplane-core`; here it is carried out.

/// What `--version` prints, and control planes are told.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod admin;
pub mod agent;
pub mod cli;
pub mod config;
pub mod doctor;
mod escape;
pub mod logging;
pub mod metrics;
pub mod offload;
pub mod probe;
pub mod process;
pub mod recorder;
pub mod refusal;
mod request;
pub mod rt;
pub mod seccomp_profile;
mod server;
pub mod shared;
pub mod signals;
pub mod snapshot_file;
pub mod sys;
pub mod tables;
mod upstream;
mod worker;
