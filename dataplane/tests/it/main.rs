//! The proxy with real bytes on real sockets, on io_uring, on epoll, and where io_uring is denied.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aborts;
mod admin_socket;
mod blocks;
mod body;
mod doctor;
mod drain;
mod elf;
mod engines;
mod idle;
mod limits;
mod listening;
mod metrics;
#[allow(unreachable_pub, reason = "it is public where it is at home")]
#[path = "../../../perf-tests/src/missing.rs"]
mod missing;
mod operators;
mod program;
mod retries;
mod routing;
mod scrapes;
mod snapshot_file;
mod static_program;
mod streams;
mod support;
mod templates;
