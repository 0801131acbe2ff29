//! What of a table the next one takes over as it is: of ten thousand endpoints mostly one changes at a time.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::AHashSet;
use api::id::{BackendName, EndpointKey, RouteName};
use api::snapshot::{Backend, Endpoint, Route, Snapshot};

use super::compile::{Backends, Profiles};
use super::{BackendTable, CompiledProfile, Models, RouteTable, Table};

/// Backends of a table that hold for a snapshot.
#[derive(Debug)]
pub struct Kept<'t> {
    table: &'t Table,
    backends: AHashSet<&'t BackendName>,
}

impl<'t> Kept<'t> {
    /// All that is the same. States that are changes to each other share their endpoints, so to compare these is to compare pointers.
    pub fn of(table: &'t Table, snapshot: &Snapshot) -> Self {
        let profiles = Profiles::of(snapshot);
        let holds = |backend: &Backend| {
            let (name, held) = table.backends.get_key_value(&backend.name)?;
            held.holds_for(backend, profiles.of_backend(backend)).then_some(name)
        };
        Self { table, backends: snapshot.backends.iter().filter_map(holds).collect() }
    }

    /// Nothing: where this proxy runs, say, has changed.
    pub fn nothing(table: &'t Table) -> Self {
        Self { table, backends: AHashSet::new() }
    }

    /// Endpoints of the backends that are not taken over: those may have left.
    pub fn left(&self) -> impl Iterator<Item = &'t EndpointKey> {
        let backends = self.table.backends.iter().filter(|(name, _)| !self.backends.contains(name));
        backends.flat_map(|(_, backend)| &backend.slots).map(|entry| &entry.endpoint.key)
    }

    /// Endpoints of the snapshot's other backends: those may have come.
    pub fn came<'s>(&self, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s Arc<Endpoint>> {
        let backends = snapshot.backends.iter().filter(|backend| !self.backends.contains(&backend.name));
        backends.flat_map(|backend| &backend.endpoints)
    }

    pub(super) fn backend(&self, name: &BackendName) -> Option<&'t Arc<BackendTable>> {
        self.backends.get(name).and_then(|name| self.table.backends.get(*name))
    }

    /// Of a table of which no backend is left no route is, either.
    pub(super) fn routes(&self) -> HashMap<&'t RouteName, &'t Arc<RouteTable>, ahash::RandomState> {
        let routes = self.table.routes.iter().filter(|_| !self.backends.is_empty());
        routes.map(|route| (&route.name, route)).collect()
    }

    /// The index of the table's routes, where the new ones are asked for by the same names.
    pub(super) fn models(&self, snapshot: &Snapshot, routes: &[Arc<RouteTable>]) -> Option<Arc<Models>> {
        let same = |(a, b): (&Arc<RouteTable>, &Arc<RouteTable>)| {
            Arc::ptr_eq(a, b) || (&a.model, &a.adapters) == (&b.model, &b.adapters)
        };
        let held = &self.table.routes;
        let all = self.table.fleet_seed == snapshot.fleet_seed && held.len() == routes.len();
        (all && held.iter().zip(routes).all(same)).then(|| Arc::clone(&self.table.models))
    }
}

impl BackendTable {
    /// Whether it is what would be compiled of this backend. An endpoint that found no seat looks for one each time.
    fn holds_for(&self, backend: &Backend, profile: &CompiledProfile) -> bool {
        let Backend {
            name,
            engine,
            model,
            endpoints,
            profile: _,
            timeouts,
            retry,
            ejection,
            max_in_flight,
            usage,
            credentials,
            chat_template,
        } = backend;
        let chat = self.chat.as_ref().map(|chat| &chat.template);
        let same = |(held, endpoint): (&super::EndpointEntry, &Arc<Endpoint>)| {
            held.seat.is_some() && Arc::ptr_eq(&held.endpoint, endpoint)
        };
        (&self.name, self.engine, &self.model, &*self.profile) == (name, *engine, model, profile)
            && (self.timeouts, self.retry, self.ejection) == (*timeouts, *retry, *ejection)
            && (self.max_in_flight, self.usage, self.credentials) == (*max_in_flight, *usage, *credentials)
            && chat == chat_template.as_ref()
            && self.slots.len() == endpoints.len()
            && self.slots.iter().zip(endpoints).all(same)
    }
}

impl RouteTable {
    /// Whether it is what would be compiled of this route with these backends.
    pub(super) fn holds_for(&self, route: &Route, backends: &Backends) -> bool {
        let Route { name, model, adapters, rules, rate_limit } = route;
        let same = |held: &Option<Arc<BackendTable>>, name| {
            held.as_ref().map(Arc::as_ptr) == backends.get(name).map(Arc::as_ptr)
        };
        let mut targets = self.rules.iter().flat_map(|rule| &rule.targets);
        (&self.name, &self.model, &*self.adapters, &self.rate_limit) == (name, model, &**adapters, rate_limit)
            && Arc::ptr_eq(&self.source, rules)
            && targets.all(|target| same(&target.backend, &target.name))
    }
}

#[cfg(test)]
mod tests;
