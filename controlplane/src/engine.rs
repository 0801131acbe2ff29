//! What engines say of themselves: they are asked once a second, and every data plane is told.
//!
//! The newest build says whom to ask: `targets` makes of it a list of places, each with the endpoints that it speaks for;
//! `shard` says which of them are this replica's. `question` asks a place what its engine can answer, by `scrape`, one
//! request on a connection of its own, and reads the answer: `exposition`, `families` and `reading` metrics, `openai`,
//! `triton` and `torchserve` what the engines' own APIs say. An engine that pushes its load is listened to besides (`push`),
//! and what it pushes goes before what is read (`pushed`). Load goes to the load lane, completed by `merge` with what
//! only the data planes know. Which adapters are loaded and what is not ready are facts that the next build takes
//! ([`crate::world::Engines`]). What an engine says is advice: where nothing is heard, it is forgotten after a while, and
//! no endpoint is removed for that.

mod exposition;
mod families;
mod merge;
mod openai;
mod push;
mod pushed;
mod question;
mod reading;
mod scrape;
mod shard;
mod targets;
mod torchserve;
mod triton;
mod watch;

pub(crate) use scrape::{Reply, ScrapeError, get, post};
pub use shard::Shard;
pub use watch::{Asked, PERIOD, Told, watch};

#[cfg(test)]
pub(crate) mod tests;
