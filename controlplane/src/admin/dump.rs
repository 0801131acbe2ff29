//! The dumps of Kthena's router, in its shapes: ModelRoutes and ModelServers as they were read, and the pods that are endpoints.
//! Gateways, HTTPRoutes and InferencePools it has too; here nobody reads these, so there are none.

use std::collections::{BTreeMap, BTreeSet};

use api::proto::EngineLoad;
use api::snapshot::{Backend, Endpoint, Engine, Role};
use serde::Serialize;
use serde_json::{Value, json};

use super::pages::engine_name;
use crate::run::Round;
use crate::world::{Held, ObjectName, Pod};

/// What can be dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Routes,
    Servers,
    Pods,
    Gateways,
    HttpRoutes,
    InferencePools,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dump {
    All(Kind),
    One(Kind, ObjectName),
}

/// Below `/debug/config_dump/`.
pub(super) const PATHS: [&str; 7] = [
    "modelroutes",
    "modelservers",
    "pods",
    "gateways",
    "httproutes",
    "inferencepools",
    "namespaces/NAMESPACE/KIND/NAME",
];

impl Dump {
    /// What a path below `/debug/config_dump/` asks for.
    pub(super) fn of(path: &str) -> Option<Self> {
        let kind = |plural: &str| match plural {
            "modelroutes" => Some(Kind::Routes),
            "modelservers" => Some(Kind::Servers),
            "pods" => Some(Kind::Pods),
            "gateways" => Some(Kind::Gateways),
            "httproutes" => Some(Kind::HttpRoutes),
            "inferencepools" => Some(Kind::InferencePools),
            _ => None,
        };
        match path.split('/').collect::<Vec<_>>()[..] {
            [plural] => kind(plural).map(Self::All),
            ["namespaces", namespace, plural, name] => {
                kind(plural).map(|kind| Self::One(kind, ObjectName::new(namespace, name)))
            }
            _ => None,
        }
    }
}

impl Kind {
    /// As objects say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Routes => "ModelRoute",
            Self::Servers => "ModelServer",
            Self::Pods => "Pod",
            Self::Gateways => "Gateway",
            Self::HttpRoutes => "HTTPRoute",
            Self::InferencePools => "InferencePool",
        }
    }
}

/// All of a kind.
pub(super) fn all(kind: Kind, round: &Round, loads: &Loads) -> Value {
    match kind {
        Kind::Routes => {
            let routes = round.world.routes.iter().map(|(name, held)| custom(name, held));
            json!({"modelroutes": routes.collect::<Vec<_>>()})
        }
        Kind::Servers => {
            let backends = backends(round);
            let servers = round.world.servers.iter();
            let servers =
                servers.map(|(name, held)| server(custom(name, held), backends.get(&*name.to_string()).copied()));
            json!({"modelservers": servers.collect::<Vec<_>>()})
        }
        Kind::Pods => {
            let members = members(round);
            json!({"pods": members.iter().map(|(pod, member)| member.dump(pod, loads)).collect::<Vec<_>>()})
        }
        Kind::Gateways => json!({"gateways": []}),
        Kind::HttpRoutes => json!({"httproutes": []}),
        Kind::InferencePools => json!({"inferencepools": []}),
    }
}

/// One; none where it is not there.
pub(super) fn one(kind: Kind, name: &ObjectName, round: &Round, loads: &Loads) -> Option<Value> {
    let world = &round.world;
    match kind {
        Kind::Routes => world.routes.get(name).map(|held| custom(name, held)),
        Kind::Servers => {
            let held = world.servers.get(name)?;
            Some(server(custom(name, held), backends(round).get(&*name.to_string()).copied()))
        }
        Kind::Pods => {
            let (members, pod) = (members(round), world.pods.get(name)?);
            let mut dump = members.get(name)?.dump(name, loads);
            dump["podInfo"] = info(pod);
            Some(dump)
        }
        Kind::Gateways | Kind::HttpRoutes | Kind::InferencePools => None,
    }
}

/// What engines said lately, by the handles of their endpoints.
pub(super) type Loads = BTreeMap<u32, EngineLoad>;

fn custom<T: Serialize>(name: &ObjectName, held: &Held<T>) -> Value {
    let mut dump = json!({"name": &*name.name, "namespace": &*name.namespace});
    match &held.spec {
        Ok(spec) => dump["spec"] = serde_json::to_value(&**spec).expect("a spec is plain data"),
        Err(problems) => dump["problems"] = json!(problems[..]),
    }
    dump
}

fn backends(round: &Round) -> BTreeMap<&str, &Backend> {
    round.snapshot.backends.iter().map(|backend| (backend.name.as_str(), backend)).collect()
}

/// A server without endpoints has no lists of them.
fn server(mut dump: Value, backend: Option<&Backend>) -> Value {
    let endpoints = || backend.iter().flat_map(|backend| &backend.endpoints);
    let of = |role: Role| endpoints().filter(|endpoint| endpoint.role == role).map(|e| &*e.name).collect::<Vec<_>>();
    let all: Vec<&str> = endpoints().map(|endpoint| &*endpoint.name).collect();
    for (list, pods) in [("associatedPods", all), ("decodePods", of(Role::Decode)), ("prefillPods", of(Role::Prefill))]
    {
        if !pods.is_empty() {
            dump[list] = json!(pods);
        }
    }
    dump
}

/// A pod as an endpoint of one server or more.
struct Member<'r> {
    engine: Engine,
    endpoints: Vec<&'r Endpoint>,
    models: BTreeSet<&'r str>,
    servers: Vec<&'r str>,
}

fn members(round: &Round) -> BTreeMap<ObjectName, Member<'_>> {
    let mut members = BTreeMap::new();
    for backend in &round.snapshot.backends {
        for endpoint in &backend.endpoints {
            let Some((namespace, name)) = endpoint.name.split_once('/') else { continue };
            let empty = || Member {
                engine: backend.engine,
                endpoints: Vec::new(),
                models: BTreeSet::new(),
                servers: Vec::new(),
            };
            let member = members.entry(ObjectName::new(namespace, name)).or_insert_with(empty);
            member.endpoints.push(endpoint);
            let models = backend.model.iter().chain(endpoint.adapters.iter().flatten());
            member.models.extend(models.map(|model| model.as_str()));
            member.servers.push(backend.name.as_str());
        }
    }
    members
}

impl Member<'_> {
    fn dump(&self, pod: &ObjectName, loads: &Loads) -> Value {
        let said = self.endpoints.iter().find_map(|endpoint| loads.get(&endpoint.handle));
        let metrics = said.map(|said| {
            json!({
                "gpuCacheUsage": said.cache_usage,
                "requestWaitingNum": said.waiting,
                "requestRunningNum": said.running,
                "tpot": said.tpot,
                "ttft": said.ttft,
            })
        });
        json!({
            "name": &*pod.name,
            "namespace": &*pod.namespace,
            "engine": engine_name(self.engine),
            // None where the engine said nothing lately.
            "metrics": metrics,
            "models": self.models,
            "modelServers": self.servers,
        })
    }
}

/// It runs, or else it would be no endpoint.
fn info(pod: &Pod) -> Value {
    let mut info = json!({
        "podIP": pod.address().map(|ip| ip.to_string()),
        "nodeName": pod.node.as_deref(),
        "phase": "Running",
        "labels": pod.labels,
    });
    if let Some(started) = pod.started {
        info["startTime"] = started.to_string().into();
    }
    info
}
