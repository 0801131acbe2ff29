//! Which endpoints are to be heard, and what requests call the model that they serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use api::id::EndpointKey;
use api::snapshot::{Engine, Snapshot};
use api::template::ChatTemplate;

/// An endpoint that may publish what it caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// See [`api::snapshot::Endpoint::handle`].
    pub handle: u32,
    /// Where it is asked.
    pub address: SocketAddr,
    /// What it is.
    pub engine: Engine,
    /// What requests call its model once they get there; none where they may call it by several names, so that it is not
    /// known with which of them prompts are hashed.
    pub model: Option<Arc<str>>,
    /// By which templates chats are written for it, none where a backend has none; each once.
    pub templates: Vec<Option<Arc<ChatTemplate>>>,
    /// Tokens that its cache takes, where that is known.
    pub cache_tokens: Option<u64>,
    /// See [`Snapshot::fleet_seed`].
    pub fleet_seed: u64,
}

impl Wanted {
    /// Whether it is what it was, but perhaps for how chats are written for it, and for what is known of its size: what it caches does not depend on
    /// that.
    pub fn is_as(&self, before: &Self) -> bool {
        let Self { handle, address, engine, model, templates: _, cache_tokens: _, fleet_seed } = self;
        (handle, address, engine, model) == (&before.handle, &before.address, &before.engine, &before.model)
            && *fleet_seed == before.fleet_seed
    }
}

/// By endpoint; Triton and TorchServe publish nothing.
pub fn wanted(snapshot: &Snapshot) -> BTreeMap<EndpointKey, Wanted> {
    let asked = asked(snapshot);
    let mut wanted: BTreeMap<EndpointKey, (Wanted, BTreeSet<&str>)> = BTreeMap::new();
    for backend in &snapshot.backends {
        if !matches!(backend.engine, Engine::Vllm | Engine::Sglang) {
            continue;
        }
        let names = match &backend.model {
            Some(model) => BTreeSet::from([model.as_str()]),
            None => asked.get(backend.name.as_str()).cloned().unwrap_or_default(),
        };
        for endpoint in &backend.endpoints {
            let entry = wanted.entry(endpoint.key.clone()).or_insert_with(|| {
                let wanted = Wanted {
                    handle: endpoint.handle,
                    address: endpoint.address,
                    engine: backend.engine,
                    model: None,
                    templates: Vec::new(),
                    cache_tokens: endpoint.cache_tokens,
                    fleet_seed: snapshot.fleet_seed,
                };
                (wanted, BTreeSet::new())
            });
            entry.1.extend(&names);
            if !entry.0.templates.contains(&backend.chat_template) {
                entry.0.templates.push(backend.chat_template.clone());
            }
        }
    }
    let named = wanted.into_iter().map(|(key, (wanted, names))| {
        let mut names = names.into_iter();
        let model = names.next().filter(|_| names.next().is_none());
        (key, Wanted { model: model.map(Arc::from), ..wanted })
    });
    named.collect()
}

/// By what names the routes to a backend are asked for; adapters have names of their own.
fn asked(snapshot: &Snapshot) -> HashMap<&str, BTreeSet<&str>> {
    let mut asked: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for route in &snapshot.routes {
        let Some(model) = &route.model else { continue };
        for target in route.rules.iter().flat_map(|rule| &rule.targets) {
            asked.entry(target.backend.as_str()).or_default().insert(model.as_str());
        }
    }
    asked
}
