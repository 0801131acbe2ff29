//! From a snapshot to a table.

use std::collections::HashMap;
use std::sync::Arc;

use api::id::{BackendName, EndpointKey, ModelName, ProfileName};
use api::snapshot::{Backend, Route, Rule, Snapshot, StringMatch};

use super::{
    BackendTable, CompiledMatch, CompiledProfile, CompiledRule, Destination, Kept, ModelRoutes, Models, RouteTable,
    Table,
};
use crate::load::LiveRegistry;

pub(super) type Backends = HashMap<BackendName, Arc<BackendTable>, ahash::RandomState>;

/// Which seat the prefix tables know an endpoint by.
pub(super) type SeatOf<'a> = &'a mut dyn FnMut(&EndpointKey) -> Option<u32>;

pub(super) fn compile(kept: &Kept<'_>, snapshot: &Snapshot, registry: &mut LiveRegistry, seat_of: SeatOf<'_>) -> Table {
    let backends = backends(kept, snapshot, registry, seat_of);
    let held = kept.routes();
    let routes: Box<[Arc<RouteTable>]> = (snapshot.routes.iter())
        .map(|route| match held.get(&route.name).filter(|table| table.holds_for(route, &backends)) {
            Some(table) => {
                patterns(&route.rules).for_each(|pattern| drop(registry.pattern(pattern)));
                Arc::clone(table)
            }
            None => Arc::new(compile_route(route, &backends, registry)),
        })
        .collect();
    let models = kept.models(snapshot, &routes).unwrap_or_else(|| Arc::new(Models::of(&routes, snapshot.fleet_seed)));
    Table { version: snapshot.version, fleet_seed: snapshot.fleet_seed, routes, models, backends }
}

/// Only names from the snapshot are stored, so a seed that clients do not know is all that is needed.
fn hasher(seed: u64) -> ahash::RandomState {
    ahash::RandomState::with_seeds(seed, seed.rotate_left(17), !seed, seed.rotate_left(41))
}

/// The profiles of a snapshot as they are run.
pub(super) struct Profiles<'s> {
    default: Arc<CompiledProfile>,
    by_name: HashMap<&'s ProfileName, Arc<CompiledProfile>>,
}

impl<'s> Profiles<'s> {
    pub(super) fn of(snapshot: &'s Snapshot) -> Self {
        let compiled = |profile| Arc::new(CompiledProfile::compile(profile));
        let by_name = snapshot.profiles.iter().map(|profile| (&profile.name, compiled(profile))).collect();
        Self { default: Arc::default(), by_name }
    }

    pub(super) fn of_backend(&self, backend: &Backend) -> &Arc<CompiledProfile> {
        backend.profile.as_ref().and_then(|name| self.by_name.get(name)).unwrap_or(&self.default)
    }
}

fn backends(kept: &Kept<'_>, snapshot: &Snapshot, registry: &mut LiveRegistry, seat_of: SeatOf<'_>) -> Backends {
    registry.reserve(snapshot.backends.iter().map(|backend| backend.endpoints.len()).sum());
    let profiles = Profiles::of(snapshot);
    let mut backends = Backends::with_capacity_and_hasher(snapshot.backends.len(), hasher(snapshot.fleet_seed));
    for backend in &snapshot.backends {
        let table = kept.backend(&backend.name).cloned().unwrap_or_else(|| {
            let profile = Arc::clone(profiles.of_backend(backend));
            Arc::new(BackendTable::compile(backend, profile, registry, seat_of))
        });
        backends.insert(backend.name.clone(), table);
    }
    backends
}

/// Which patterns rules need: those of a route that is taken over are as much in use as those that are compiled.
fn patterns(rules: &[Rule]) -> impl Iterator<Item = &str> {
    let conditions = rules.iter().flat_map(|rule| rule.headers.values().chain(&rule.uri));
    conditions.filter_map(|condition| match condition {
        StringMatch::Regex(pattern) => Some(pattern.as_str()),
        StringMatch::Exact(_) | StringMatch::Prefix(_) => None,
    })
}

fn compile_route(route: &Route, backends: &Backends, registry: &mut LiveRegistry) -> RouteTable {
    let Route { name, model, adapters, rules, rate_limit } = route;
    RouteTable {
        name: name.clone(),
        model: model.clone(),
        adapters: adapters.clone().into(),
        rules: rules.iter().map(|rule| compile_rule(rule, backends, registry)).collect(),
        rate_limit: rate_limit.clone(),
        source: Arc::clone(rules),
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

impl Models {
    fn of(routes: &[Arc<RouteTable>], fleet_seed: u64) -> Self {
        let routes = index(routes, hasher(fleet_seed));
        let mut names: Box<[Arc<str>]> = routes.keys().cloned().collect();
        names.sort_unstable();
        Self { routes, names }
    }
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
