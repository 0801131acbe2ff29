//! Whom to ask: the places where the engines of a build answer questions about themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::id::{EndpointKey, ModelName};
use api::snapshot::Engine;

use crate::model_server::{MetricsAt, ValidServer, validate};
use crate::publish::LeftOut;
use crate::run::Round;
use crate::world::ObjectName;

/// One place, which is asked once, whichever backends its endpoints are in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) topic: Topic,
    pub(super) engine: Engine,
    /// Of its metrics; empty where the engine's own API is asked.
    pub(super) path: Arc<str>,
}

/// What a place is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Its load, as metrics.
    Metrics,
    /// Which models and adapters it has, and whether they are ready; of TorchServe also its load.
    Models,
}

/// The rest of the question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ask {
    /// Models that servers name; it is asked whether these are ready.
    pub(super) models: BTreeSet<ModelName>,
    /// Where its load is looked for if it does not answer.
    pub(super) otherwise: Option<Place>,
    /// Whether it is to be looked for there alone, this time.
    pub(super) spare: bool,
}

/// Whom a place speaks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) ask: Ask,
    pub(super) members: Vec<Member>,
    /// Of the place of an engine's metrics: where it says whether it pushes its load; none where its kind never does.
    pub(super) pushes: Option<SocketAddr>,
}

/// An endpoint, or a pod that is none because its engine says that it is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) key: EndpointKey,
    /// None where no data plane knows it.
    pub(super) handle: Option<u32>,
}

/// Where the engines of servers answer, by backend. A server keeps its places while its latest form is refused, as it
/// keeps all else.
#[derive(Debug, Default)]
pub(super) struct Servers(HashMap<String, Server>);

#[derive(Debug)]
struct Server {
    name: ObjectName,
    engine: Engine,
    model: Option<ModelName>,
    port: u16,
    metrics: MetricsAt,
    management_port: Option<u16>,
}

impl Servers {
    /// The places of a build. Where servers differ about an endpoint, the older one's word counts.
    pub(super) fn targets(&mut self, round: &Round) -> BTreeMap<Place, Target> {
        self.learn(round);
        let mut targets = BTreeMap::<Place, Target>::new();
        let mut placed: HashMap<EndpointKey, Place> = HashMap::new();
        for backend in &round.snapshot.backends {
            let Some(server) = self.0.get(backend.name.as_str()) else { continue };
            let published = backend.endpoints.iter().map(|endpoint| {
                let member = Member { key: endpoint.key.clone(), handle: Some(endpoint.handle) };
                (member, endpoint.address.ip())
            });
            for (member, ip) in published.chain(server.left_out(round)) {
                let first = placed.get(&member.key).cloned();
                let place = first.clone().unwrap_or_else(|| server.models_at(ip));
                let target = targets.entry(place.clone()).or_default();
                target.ask.models.extend(server.model.clone());
                if first.is_some() {
                    continue;
                }
                placed.insert(member.key.clone(), place);
                target.members.push(member.clone());
                let metrics = server.metrics_at(ip);
                match server.engine {
                    Engine::Torchserve => target.ask.otherwise = Some(metrics),
                    engine => {
                        let target = targets.entry(metrics).or_default();
                        target.members.push(member);
                        if engine == Engine::Sglang {
                            target.pushes.get_or_insert(SocketAddr::new(ip, server.port));
                        }
                    }
                }
            }
        }
        targets
    }

    fn learn(&mut self, round: &Round) {
        let mut before = std::mem::take(&mut self.0);
        for (name, held) in &round.world.servers {
            let valid = held.spec.as_ref().ok().and_then(|spec| validate(spec).ok());
            let text = name.to_string();
            let known = valid.map(|valid| Server::of(name, valid)).or_else(|| before.remove(&text));
            self.0.extend(known.map(|known| (text, known)));
        }
    }
}

impl Server {
    fn of(name: &ObjectName, valid: ValidServer) -> Self {
        let ValidServer { engine, model, port, metrics, management_port, .. } = valid;
        Self { name: name.clone(), engine, model, port, metrics, management_port }
    }

    /// Pods that would be its endpoints if their engines did not say that they are not ready: they are asked on.
    fn left_out<'r>(&'r self, round: &'r Round) -> impl Iterator<Item = (Member, IpAddr)> + 'r {
        let verdict = round.verdicts.servers.get(&self.name);
        let left_out = verdict.into_iter().flat_map(|verdict| &verdict.left_out);
        let unready = left_out.filter(|(_, why)| *why == LeftOut::Unready);
        unready.filter_map(|(pod, _)| {
            let pod = round.world.pods.get(pod)?;
            let key = EndpointKey { uid: Arc::clone(&pod.uid), port: self.port, rank: 0 };
            Some((Member { key, handle: None }, pod.address()?))
        })
    }

    fn models_at(&self, ip: IpAddr) -> Place {
        let port = self.management_port.unwrap_or(self.port);
        Place { address: SocketAddr::new(ip, port), topic: Topic::Models, engine: self.engine, path: "".into() }
    }

    fn metrics_at(&self, ip: IpAddr) -> Place {
        let MetricsAt { port, path } = &self.metrics;
        let address = SocketAddr::new(ip, *port);
        Place { address, topic: Topic::Metrics, engine: self.engine, path: Arc::clone(path) }
    }
}

#[cfg(test)]
mod tests;
