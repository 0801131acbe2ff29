//! What engines say of themselves: their metrics are read once a second and told to every data plane.
//!
//! The newest build says whom to ask: `targets` makes of it a list of places, each with the handles of the endpoints that
//! it speaks for. `scrape` gets a place's text, `exposition` reads it, `reading` picks out what the engine's families mean,
//! and the result goes to the load lane. What an engine says is advice: where nothing is heard, data planes forget it
//! after a while and count on what they sent; no endpoint is removed for it.

mod exposition;
mod families;
mod reading;
mod scrape;
mod targets;
mod watch;

pub(crate) use scrape::{ScrapeError, scrape};
pub(crate) use targets::Place;
pub use watch::watch;

#[cfg(test)]
pub(crate) mod tests;
