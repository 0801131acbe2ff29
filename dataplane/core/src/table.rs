//! The compiled state: a [`Snapshot`] turned into look-ups. Immutable, replaced whole; what it shares with requests
//! hangs on `Arc`s of its own, so that a long stream pins its backend's numbers, not the table.

mod backend;
mod bitset;
mod chat;
mod compile;
mod distance;
mod kept;
mod maglev;
mod members;
mod profile;
mod rule;

pub use backend::{BackendTable, EndpointEntry};
pub use bitset::Bitset;
pub use chat::ChatTable;
pub use distance::{Distance, Place};
pub use kept::Kept;
pub use maglev::Maglev;
pub use members::Membership;
pub use profile::CompiledProfile;
pub use rule::{CompiledMatch, CompiledRule, Destination};

use std::collections::HashMap;
use std::sync::Arc;

use api::id::{BackendName, EndpointKey, ModelName, RouteName};
use api::snapshot::{RateLimit, Rule, Snapshot, Version};

use crate::load::LiveRegistry;

/// Everything that a decision looks at, but for live numbers and the prefix tables.
#[derive(Debug)]
pub struct Table {
    version: Version,
    fleet_seed: u64,
    routes: Box<[Arc<RouteTable>]>,
    models: Arc<Models>,
    backends: HashMap<BackendName, Arc<BackendTable>, ahash::RandomState>,
}

/// One route, its conditions compiled.
#[derive(Debug)]
pub struct RouteTable {
    /// `namespace/name`.
    pub name: RouteName,
    /// The model that clients ask for.
    pub model: Option<ModelName>,
    /// Further names, forwarded unchanged.
    pub adapters: Box<[ModelName]>,
    /// The first that matches is used.
    pub rules: Box<[CompiledRule]>,
    /// How many tokens its clients may use together. Nothing enforces it yet.
    pub rate_limit: Option<RateLimit>,
    /// What the rules were compiled from.
    source: Arc<[Rule]>,
}

impl RouteTable {
    /// Whether a policy counts the tokens of its requests.
    pub fn counts_tokens(&self) -> bool {
        self.rate_limit.is_some()
    }
}

/// Routes by the names that clients ask for.
#[derive(Debug, Default)]
struct Models {
    routes: HashMap<Arc<str>, ModelRoutes, ahash::RandomState>,
    /// Each once, sorted.
    names: Box<[Arc<str>]>,
}

/// Positions in the table's routes, oldest first.
#[derive(Debug, Default)]
struct ModelRoutes {
    base: Vec<u32>,
    adapter: Vec<u32>,
}

impl Table {
    /// Compiles a decoded snapshot. It cannot fail: what could be refused has been refused by the decoder.
    pub fn compile(snapshot: &Snapshot, registry: &mut LiveRegistry) -> Self {
        let nothing = Self::empty();
        let table = compile::compile(&Kept::nothing(&nothing), snapshot, registry, &mut |_| None);
        registry.prune();
        table
    }

    /// The same, with the seats that the prefix tables know the endpoints by. To forget what no table uses any longer is left to
    /// whoever calls, for when the table is in force.
    pub fn compile_seated(
        snapshot: &Snapshot,
        registry: &mut LiveRegistry,
        mut seat_of: impl FnMut(&EndpointKey) -> Option<u32>,
    ) -> Self {
        let nothing = Self::empty();
        compile::compile(&Kept::nothing(&nothing), snapshot, registry, &mut seat_of)
    }

    /// The same for the state after that of another table: what did not change is taken over as it is, so that a change costs what
    /// it changes.
    pub fn compile_next(
        kept: &Kept<'_>,
        snapshot: &Snapshot,
        registry: &mut LiveRegistry,
        mut seat_of: impl FnMut(&EndpointKey) -> Option<u32>,
    ) -> Self {
        compile::compile(kept, snapshot, registry, &mut seat_of)
    }

    fn empty() -> Self {
        let (version, routes, models) = (Version::default(), Box::default(), Arc::default());
        Self { version, fleet_seed: 0, routes, models, backends: HashMap::default() }
    }

    /// Which state this is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Salts every prefix hash.
    pub fn fleet_seed(&self) -> u64 {
        self.fleet_seed
    }

    /// Every name that a client can ask for, sorted, each once.
    pub fn models(&self) -> &[Arc<str>] {
        &self.models.names
    }

    /// The name as the table holds it; none for a name that no route has, so that it never becomes a metric label.
    pub fn known_model(&self, name: &str) -> Option<&Arc<str>> {
        self.models.routes.get_key_value(name).map(|(known, _)| known)
    }

    /// Routes in order of precedence.
    pub fn routes(&self) -> &[Arc<RouteTable>] {
        &self.routes
    }

    /// A backend by name.
    pub fn backend(&self, name: &BackendName) -> Option<&Arc<BackendTable>> {
        self.backends.get(name)
    }

    /// All backends, in no order.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<BackendTable>> {
        self.backends.values()
    }

    /// Routes to try for a model name: those that have it as their model, then those that have it as an adapter. A
    /// base route never hides an adapter's.
    pub(crate) fn candidates(&self, model: &str) -> impl Iterator<Item = (&Arc<RouteTable>, Named)> {
        let routes = self.models.routes.get(model);
        let base = routes.into_iter().flat_map(|r| &r.base).map(|at| (*at, Named::Base));
        let adapter = routes.into_iter().flat_map(|r| &r.adapter).map(|at| (*at, Named::Adapter));
        base.chain(adapter).map(|(at, named)| (&self.routes[at as usize], named))
    }

    /// Recomputes the backends' medians and ejection counts. Once a second, off the cores.
    pub fn refresh(&self, now_ms: u64) {
        for backend in self.backends.values() {
            backend.refresh(now_ms);
        }
    }
}

/// By which of a route's names it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Base,
    Adapter,
}

#[cfg(test)]
pub(crate) mod tests;
