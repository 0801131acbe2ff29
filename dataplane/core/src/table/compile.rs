//! From a snapshot to a table.

use std::collections::HashMap;
use std::sync::Arc;

use api::id::{BackendName, EndpointKey, ModelName, ProfileName};
use api::snapshot::{Route, Rule, Snapshot};

use super::{BackendTable, CompiledMatch, CompiledProfile, CompiledRule, Destination, ModelRoutes, RouteTable, Table};
use crate::load::LiveRegistry;

type Backends = HashMap<BackendName, Arc<BackendTable>, ahash::RandomState>;

/// Which seat the prefix tables know an endpoint by.
pub(super) type SeatOf<'a> = &'a mut dyn FnMut(&EndpointKey) -> Option<u32>;

pub(super) fn compile(snapshot: &Snapshot, registry: &mut LiveRegistry, seat_of: SeatOf<'_>) -> Table {
    let backends = backends(snapshot, registry, seat_of);
    let routes: Box<[Arc<RouteTable>]> =
        snapshot.routes.iter().map(|route| Arc::new(compile_route(route, &backends, registry))).collect();
    let models = index(&routes, hasher(snapshot.fleet_seed));
    let mut model_names: Box<[Arc<str>]> = models.keys().cloned().collect();
    model_names.sort_unstable();
    Table { version: snapshot.version, fleet_seed: snapshot.fleet_seed, routes, models, model_names, backends }
}

/// Only names from the snapshot are stored, so a seed that clients do not know is all that is needed.
fn hasher(seed: u64) -> ahash::RandomState {
    ahash::RandomState::with_seeds(seed, seed.rotate_left(17), !seed, seed.rotate_left(41))
}

fn backends(snapshot: &Snapshot, registry: &mut LiveRegistry, seat_of: SeatOf<'_>) -> Backends {
    registry.reserve(snapshot.backends.iter().map(|backend| backend.endpoints.len()).sum());
    let default = Arc::new(CompiledProfile::default());
    let profiles: HashMap<&ProfileName, Arc<CompiledProfile>> =
        snapshot.profiles.iter().map(|p| (&p.name, Arc::new(CompiledProfile::compile(p)))).collect();
    let mut backends = Backends::with_capacity_and_hasher(snapshot.backends.len(), hasher(snapshot.fleet_seed));
    for backend in &snapshot.backends {
        let profile = backend.profile.as_ref().and_then(|name| profiles.get(name)).unwrap_or(&default);
        let table = Arc::new(BackendTable::compile(backend, Arc::clone(profile), registry, seat_of));
        backends.insert(backend.name.clone(), table);
    }
    backends
}

fn compile_route(route: &Route, backends: &Backends, registry: &mut LiveRegistry) -> RouteTable {
    let Route { name, model, adapters, rules, rate_limit } = route;
    RouteTable {
        name: name.clone(),
        model: model.clone(),
        adapters: adapters.clone().into(),
        rules: rules.iter().map(|rule| compile_rule(rule, backends, registry)).collect(),
        rate_limit: rate_limit.clone(),
    }
}

fn compile_rule(rule: &Rule, backends: &Backends, registry: &mut LiveRegistry) -> CompiledRule {
    let Rule { name, headers, uri, body_model, targets } = rule;
    let mut condition = |source| CompiledMatch::compile(source, |pattern| registry.pattern(pattern));
    let headers = headers.iter().map(|(name, on)| (name.to_ascii_lowercase().into(), condition(on))).collect();
    let uri = uri.as_ref().map(condition);
    let mut up_to = 0u32;
    let targets = targets
        .iter()
        .map(|target| {
            up_to = up_to.saturating_add(target.weight);
            let backend = backends.get(&target.backend).cloned();
            Destination { name: target.backend.clone(), backend, up_to }
        })
        .collect();
    CompiledRule { name: name.as_str().into(), headers, uri, body_model: body_model.clone(), targets }
}

fn index(routes: &[Arc<RouteTable>], hasher: ahash::RandomState) -> HashMap<Arc<str>, ModelRoutes, ahash::RandomState> {
    let mut models = HashMap::with_hasher(hasher);
    for (at, route) in routes.iter().enumerate() {
        if let Some(model) = &route.model {
            entry(&mut models, model).base.push(at as u32);
        }
        for adapter in &route.adapters {
            entry(&mut models, adapter).adapter.push(at as u32);
        }
    }
    models
}

fn entry<'m>(
    models: &'m mut HashMap<Arc<str>, ModelRoutes, ahash::RandomState>,
    name: &ModelName,
) -> &'m mut ModelRoutes {
    models.entry(name.as_str().into()).or_default()
}
