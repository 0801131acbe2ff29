//! What came of the questions, for people.

use std::net::SocketAddr;
use std::sync::Arc;

use api::snapshot::Engine;

use super::Watched;
use crate::engine::targets::Topic;

/// A place that this replica asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where it is.
    pub address: SocketAddr,
    /// Of which kind the engine is.
    pub engine: Engine,
    /// What it is asked for: `metrics` or `models`.
    pub topic: &'static str,
    /// Endpoints that it speaks for.
    pub endpoints: usize,
    /// Why its last answer is missing, or lacks something.
    pub fault: Option<Arc<str>>,
}

/// All of them.
pub(super) fn asked(watched: &Watched) -> Vec<Asked> {
    let row = |(place, watch): (&super::Place, &super::Watch)| Asked {
        address: place.address,
        engine: place.engine,
        topic: match place.topic {
            Topic::Metrics => "metrics",
            Topic::Models => "models",
        },
        endpoints: watch.target.members.len(),
        fault: watch.fault.clone(),
    };
    watched.iter().map(row).collect()
}
