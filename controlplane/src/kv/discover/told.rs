//! From an engine's JSON to where its ranks publish.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{DiscoverError, MOST_RANKS, Publisher, Told};
use crate::kv::endpoint::Endpoint;

/// The topic of SGLang's load events, where it does not say.
const LOAD_TOPIC: &str = "load";

/// vLLM's: a list, or (as its Rust frontend has it) a map by rank.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Sources {
    List(Vec<Source>),
    ByRank(BTreeMap<String, Source>),
}

#[derive(Debug, Deserialize)]
struct Source {
    #[serde(default)]
    data_parallel_rank: Option<u32>,
    endpoint: String,
    #[serde(default)]
    replay_endpoint: Option<String>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    enable_kv_cache_events: Option<bool>,
}

/// SGLang's.
#[derive(Debug, Deserialize)]
struct ServerInfo {
    #[serde(default)]
    kv_events: Option<KvEvents>,
}

#[derive(Debug, Deserialize)]
struct KvEvents {
    endpoint_host: String,
    endpoint_port_base: u16,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    block_size: Option<u32>,
    #[serde(default)]
    dp_size: Option<u32>,
    #[serde(default)]
    load_endpoint_port_base: Option<u16>,
    #[serde(default)]
    load_topic: Option<String>,
    #[serde(default)]
    replay_endpoint_port_base: Option<u16>,
}

pub(super) fn vllm(text: &str, engine: IpAddr) -> Result<Told, DiscoverError> {
    let sources: Sources = serde_json::from_str(text).map_err(form)?;
    let sources: Vec<(u32, Source)> = match sources {
        Sources::List(list) => {
            let numbered = list.into_iter().enumerate();
            numbered.map(|(at, source)| (source.data_parallel_rank.unwrap_or(at as u32), source)).collect()
        }
        Sources::ByRank(map) => {
            let numbered = map.into_iter().map(|(rank, source)| Ok((rank.parse().map_err(form)?, source)));
            numbered.collect::<Result<_, DiscoverError>>()?
        }
    };
    let sources = sources.into_iter().filter(|(_, source)| source.enable_kv_cache_events != Some(false));
    let mut publishers = BTreeMap::new();
    for (rank, source) in sources {
        if publishers.insert(rank, publisher(rank, source, engine)?).is_some() {
            return Err(form(format!("rank {rank} is there twice")));
        }
        if publishers.len() > MOST_RANKS {
            return Err(form(format!("more than {MOST_RANKS} ranks")));
        }
    }
    Ok(Told { publishers: publishers.into_values().collect(), block_size: None })
}

fn publisher(rank: u32, source: Source, engine: IpAddr) -> Result<Publisher, DiscoverError> {
    let replay = source.replay_endpoint.filter(|replay| !replay.is_empty());
    Ok(Publisher {
        rank,
        events: Endpoint::parse(&source.endpoint, engine)?,
        replay: replay.map(|replay| Endpoint::parse(&replay, engine)).transpose()?,
        load: None,
        topic: source.topic.unwrap_or_default(),
    })
}

pub(super) fn sglang(text: &str, engine: IpAddr) -> Result<Told, DiscoverError> {
    let info: ServerInfo = serde_json::from_str(text).map_err(form)?;
    let Some(events) = info.kv_events else { return Ok(Told::default()) };
    let KvEvents { endpoint_host: host, block_size, topic, .. } = &events;
    let load_topic = events.load_topic.as_deref().unwrap_or(LOAD_TOPIC);
    let at = |port: u16, rank| Endpoint::parse(&format!("tcp://{host}:{port}"), engine)?.of_rank(rank);
    let publishers = ranks(events.dp_size.unwrap_or(1))?.map(|rank| {
        Ok(Publisher {
            rank,
            events: at(events.endpoint_port_base, rank)?,
            replay: events.replay_endpoint_port_base.map(|port| at(port, rank)).transpose()?,
            load: match events.load_endpoint_port_base {
                Some(port) => Some((at(port, rank)?, load_topic.to_owned())),
                None => None,
            },
            topic: topic.clone().unwrap_or_default(),
        })
    });
    Ok(Told { publishers: publishers.collect::<Result<_, DiscoverError>>()?, block_size: *block_size })
}

pub(super) fn ranks(count: u32) -> Result<std::ops::Range<u32>, DiscoverError> {
    if (1..=MOST_RANKS as u32).contains(&count) { Ok(0..count) } else { Err(form(format!("{count} ranks"))) }
}

fn form(error: impl ToString) -> DiscoverError {
    DiscoverError::Form(error.to_string())
}
