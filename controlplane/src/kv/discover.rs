//! Asks an engine where its ranks publish.
//!
//! vLLM tells it at `/kv_event_sources`, SGLang within `/server_info`. An engine that tells nothing is followed where
//! engines publish by convention, if it is said that it does.

mod told;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::snapshot::Engine;
use tokio::time::timeout;

use super::endpoint::{Endpoint, EndpointError};
use crate::engine::{Reply, ScrapeError, get};

/// Ranks of one engine.
const MOST_RANKS: usize = 1_024;
/// The port of rank 0 by convention, and where it repeats.
const PORTS: (u16, u16) = (5557, 5558);

/// Where one rank publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publisher {
    /// The data-parallel rank.
    pub rank: u32,
    /// Events.
    pub events: Endpoint,
    /// What was lost.
    pub replay: Option<Endpoint>,
    /// Load events, on their own place and with their own topic.
    pub load: Option<(Endpoint, String)>,
    /// Messages' topic.
    pub topic: String,
}

/// What an engine told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// By rank; empty where it publishes nothing.
    pub publishers: Vec<Publisher>,
    /// Tokens of a block, where it says so.
    pub block_size: Option<u32>,
}

/// Why it is not known where an engine publishes.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// It has no such page, as older ones have not.
    #[error("the engine does not tell where it publishes its KV events")]
    Silent,
    /// It did not answer, or not so.
    #[error("cannot ask an engine where it publishes its KV events: {0}")]
    Ask(String),
    /// What it answered is of no known form.
    #[error("an engine's answer to where it publishes its KV events: {0}")]
    Form(String),
    /// It names a place that cannot be dialled.
    #[error("an engine publishes its KV events where nobody gets: {0}")]
    Endpoint(#[from] EndpointError),
}

type Read = fn(&str, IpAddr) -> Result<Told, DiscoverError>;

/// Asks an engine. One that has no page for it is [`DiscoverError::Silent`].
pub async fn discover(engine: Engine, address: SocketAddr, time: Duration) -> Result<Told, DiscoverError> {
    let (path, read) = match engine {
        Engine::Vllm => ("/kv_event_sources", told::vllm as Read),
        Engine::Sglang => ("/server_info", told::sglang as Read),
        Engine::Triton | Engine::Torchserve => return Err(DiscoverError::Silent),
    };
    let answer = timeout(time, get(address, path)).await;
    let answer = answer.map_err(|_| DiscoverError::Ask("it has not answered in time".to_owned()))?;
    match answer.and_then(Reply::ok) {
        Ok(text) => read(&text, address.ip()),
        Err(ScrapeError::Status(status)) if status.as_u16() == 404 => Err(DiscoverError::Silent),
        Err(error) => Err(DiscoverError::Ask(error.to_string())),
    }
}

/// Where an engine with so many ranks publishes if it does as all do.
pub fn by_convention(engine: IpAddr, ranks: u32) -> Result<Told, DiscoverError> {
    let (events, replay) = (Endpoint::of(engine, PORTS.0), Endpoint::of(engine, PORTS.1));
    // With several ranks the places of one would be those of the next: none is known to repeat.
    let replay = (ranks == 1).then_some(replay);
    let publishers = told::ranks(ranks)?.map(|rank| {
        Ok(Publisher { rank, events: events.of_rank(rank)?, replay: replay.clone(), load: None, topic: String::new() })
    });
    Ok(Told { publishers: publishers.collect::<Result<_, DiscoverError>>()?, block_size: None })
}

#[cfg(test)]
mod tests;
