//! What every proxy decides for each backend, and for each proxy the sum of the others'.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use api::limits::{MAX_BACKENDS, MAX_NAME_BYTES};
use api::proto::BackendShare;

use super::Owner;

/// Backends that are known at once, idle ones included.
const MOST: usize = 2 * MAX_BACKENDS;

#[derive(Debug, Default)]
pub(super) struct Shares {
    backends: HashMap<Arc<str>, Backend>,
    /// Backends by the change that is to be told.
    order: BTreeMap<u64, Arc<str>>,
    /// For which each proxy decides.
    of: HashMap<Owner, HashSet<Arc<str>>>,
    /// How many of the backends nobody decides for.
    idle: usize,
}

#[derive(Debug, Default)]
struct Backend {
    /// Tokens per second of those who decide any.
    rates: HashMap<Owner, f64>,
    /// When it last changed and by whom, and when by anyone but that one.
    changed: (u64, Owner),
    changed_by_others: u64,
}

impl Backend {
    fn changed_for(&self, owner: Owner) -> u64 {
        if self.changed.1 == owner { self.changed_by_others } else { self.changed.0 }
    }

    /// Without what the proxy itself decides.
    fn share(&self, name: &str, owner: Owner) -> BackendShare {
        let others = self.rates.iter().filter(|(other, _)| **other != owner);
        let (proxies, token_rate) = others.fold((0, 0.0), |(count, sum), (_, rate)| (count + 1, sum + rate));
        BackendShare { backend: name.to_owned(), token_rate, age_ms: 0, proxies }
    }
}

impl Shares {
    /// Takes in what a proxy decides for a backend, as this change if that is one. What makes no sense is zero.
    pub(super) fn set(&mut self, owner: Owner, share: &BackendShare, change: u64) -> bool {
        let BackendShare { backend: name, token_rate, age_ms: _, proxies: _ } = share;
        // No sum of what an f32 can hold is infinite.
        if !(*token_rate > 0.0 && *token_rate <= f64::from(f32::MAX)) {
            return self.end(owner, name, change);
        }
        self.admit(owner, name).is_some_and(|name| self.put(owner, &name, *token_rate, change))
    }

    /// The name as it is kept; none where it is too long, or there are too many.
    fn admit(&mut self, owner: Owner, name: &str) -> Option<Arc<str>> {
        let own = self.of.get(&owner);
        let more = own.is_none_or(|own| !own.contains(name));
        if more && own.is_some_and(|own| own.len() >= MAX_BACKENDS) || name.len() > MAX_NAME_BYTES {
            return None;
        }
        if let Some((known, _)) = self.backends.get_key_value(name) {
            return Some(known.clone());
        }
        if self.backends.len() >= MOST {
            self.prune();
        }
        (self.backends.len() < MOST).then(|| name.into())
    }

    fn put(&mut self, owner: Owner, name: &Arc<str>, token_rate: f64, change: u64) -> bool {
        let revived = self.backends.get(name).is_some_and(|backend| backend.rates.is_empty());
        self.idle -= usize::from(revived);
        self.of.entry(owner).or_default().insert(name.clone());
        let old = self.backends.entry(name.clone()).or_default().rates.insert(owner, token_rate);
        old != Some(token_rate) && self.mark(name, owner, change)
    }

    /// A proxy decides nothing more for a backend.
    fn end(&mut self, owner: Owner, name: &str, change: u64) -> bool {
        let Some(own) = self.of.get_mut(&owner) else { return false };
        let Some(name) = own.take(name) else { return false };
        if own.is_empty() {
            self.of.remove(&owner);
        }
        if let Some(backend) = self.backends.get_mut(&name) {
            backend.rates.remove(&owner);
            self.idle += usize::from(backend.rates.is_empty());
        }
        self.mark(&name, owner, change)
    }

    /// The backends for which a proxy decides.
    pub(super) fn of(&self, owner: Owner) -> Vec<Arc<str>> {
        self.of.get(&owner).into_iter().flatten().cloned().collect()
    }

    /// Backends that changed after `seen` in the eyes of one proxy, each by that change.
    pub(super) fn since(&self, owner: Owner, seen: u64) -> Vec<(u64, Arc<str>)> {
        let changed = self.order.range(seen + 1..).map(|(_, name)| (self.backends[name].changed_for(owner), name));
        changed.filter(|(change, _)| *change > seen).map(|(change, name)| (change, name.clone())).collect()
    }

    /// What all but one decide for a backend that is known.
    pub(super) fn others(&self, name: &str, owner: Owner) -> BackendShare {
        self.backends[name].share(name, owner)
    }

    fn mark(&mut self, name: &Arc<str>, owner: Owner, change: u64) -> bool {
        let Some(backend) = self.backends.get_mut(name) else { return false };
        self.order.remove(&backend.changed.0);
        if backend.changed.1 != owner {
            backend.changed_by_others = backend.changed.0;
        }
        backend.changed = (change, owner);
        self.order.insert(change, name.clone());
        true
    }

    /// Backends come and go: those that have been idle for longest are let go, once they are so many that it pays to look
    /// for them.
    fn prune(&mut self) {
        if self.idle < MOST / 4 {
            return;
        }
        let idle = |name: &Arc<str>| self.backends.get(name).is_none_or(|backend| backend.rates.is_empty());
        let spare: Vec<(u64, Arc<str>)> =
            self.order.iter().filter(|(_, name)| idle(name)).take(MOST / 2).map(|(c, n)| (*c, n.clone())).collect();
        self.idle -= spare.len();
        for (change, name) in spare {
            self.order.remove(&change);
            self.backends.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests;
