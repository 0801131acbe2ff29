//! Whom to ask: the places where the endpoints of a build expose metrics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use api::snapshot::Engine;

use super::families::{Families, families};
use crate::model_server::{MetricsAt, validate};
use crate::run::Round;

/// One place, which is asked once, whichever backends its endpoints are in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) path: Arc<str>,
}

/// Whom a place speaks for, and in which terms.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) families: &'static Families,
    pub(super) handles: Vec<u32>,
}

/// Where servers expose metrics, by backend. A server keeps its place while its latest form is refused, as it keeps all else.
#[derive(Debug, Default)]
pub(super) struct Servers(HashMap<String, (Engine, MetricsAt)>);

impl Servers {
    /// The places of a build. Where servers differ about an endpoint, the older one's word counts.
    pub(super) fn targets(&mut self, round: &Round) -> BTreeMap<Place, Target> {
        self.learn(round);
        let (mut targets, mut placed) = (BTreeMap::<Place, Target>::new(), HashSet::new());
        for backend in &round.snapshot.backends {
            let Some((engine, at)) = self.0.get(backend.name.as_str()) else { continue };
            let Some(families) = families(*engine) else { continue };
            for endpoint in &backend.endpoints {
                if placed.insert(endpoint.handle) {
                    let address = SocketAddr::new(endpoint.address.ip(), at.port);
                    let place = Place { address, path: Arc::clone(&at.path) };
                    let target = targets.entry(place).or_insert(Target { families, handles: Vec::new() });
                    target.handles.push(endpoint.handle);
                }
            }
        }
        targets
    }

    fn learn(&mut self, round: &Round) {
        let mut before = std::mem::take(&mut self.0);
        for (name, held) in &round.world.servers {
            let name = name.to_string();
            let valid = held.spec.as_ref().ok().and_then(|spec| validate(spec).ok());
            let known = valid.map(|valid| (valid.engine, valid.metrics)).or_else(|| before.remove(&name));
            self.0.extend(known.map(|known| (name, known)));
        }
    }
}

#[cfg(test)]
mod tests;
