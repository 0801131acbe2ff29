//! Hostile bytes: named cases with exact expectations against a real proxy over sockets, on io_uring, on epoll by
//! choice, and on epoll because io_uring is denied. Each leg is a process of its own.
//!
//! `cargo test -p dataplane --test hostile` runs all; `-- epoll NAME` runs one leg's cases that hold NAME.

#![allow(clippy::unwrap_used, reason = "a test may end at what cannot happen")]

mod after;
mod body;
mod bounds;
mod case;
mod chunks;
mod client;
mod engine;
mod events;
mod fields;
mod framing;
mod lane;
mod leg;
mod line;
mod response;

use std::process::{Child, Command, ExitCode};

/// Says to a child which leg it is.
const LEG: &str = "KTHENA_HOSTILE_LEG";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if std::env::args().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Ok(leg) = std::env::var(LEG) {
        return leg::run(&leg, arguments.first().map_or("", String::as_str));
    }
    let all = ["uring", "epoll", "denied"];
    let (legs, names): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|a| all.contains(&a.as_str()));
    let legs = if legs.is_empty() { all.map(str::to_owned).to_vec() } else { legs };
    // Side by side: much of a leg is waiting for limits.
    let start = |leg: &String| Command::new(std::env::current_exe().unwrap()).args(&names).env(LEG, leg).spawn();
    let children: Vec<_> = legs.iter().map(start).collect();
    let ended = |child: std::io::Result<Child>| child.and_then(|mut child| child.wait()).is_ok_and(|s| s.success());
    let failed = children.into_iter().map(ended).filter(|passed| !passed).count() > 0;
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
