//! From the world to what data planes are told.
//!
//! `build` is pure: a [`crate::world::World`] gives a [`api::snapshot::Snapshot`] and, for each object, a verdict from
//! which its status is written later. `route`, `server` and `profile` judge one object alone and turn it into the
//! contract's terms, with the contract's own decoder as the judge; `conflicts` says whom a model name belongs to;
//! `endpoints` finds a server's pods; `handles` numbers them; `memory` is what a build leaves to the next; `last_good` says what takes
//! the place of a refused form; `unbuilt` what is built and said where a build panics.
//! `serve` brings the newest snapshot to every data plane.

mod build;
mod conflicts;
mod contract;
mod endpoints;
mod handles;
mod last_good;
mod memory;
mod profile;
mod provider;
mod route;
pub mod serve;
mod server;
mod unbuilt;
mod verdict;

#[cfg(test)]
mod tests;

use crate::problem::Problem;

pub(crate) use build::judged_alone;
pub use build::{Built, Settings, build};
pub use endpoints::zones;
pub use last_good::{Fallback, GoodForm, MAX_KEPT_BYTES};
pub use memory::Memory;
pub use unbuilt::{settled, unbuilt};
pub use verdict::{
    Condition, LeftOut, ObjectVerdict, ProviderVerdict, Reason, RouteVerdict, SchedulerVerdict, ServerVerdict, Verdicts,
};

fn sentences(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
