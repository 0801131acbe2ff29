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
    /// Those that our own proxies changed, by their last change of it.
    order_here: BTreeMap<u64, Arc<str>>,
    /// For which each proxy decides.
    of: HashMap<Owner, HashSet<Arc<str>>>,
    /// How many of the backends nobody decides for.
    idle: usize,
}

#[derive(Debug, Default)]
struct Backend {
    /// Of those who decide any.
    rates: HashMap<Owner, Rate>,
    /// When it last changed and by whom, and when by anyone but that one.
    changed: (u64, Owner),
    changed_by_others: u64,
    /// When it last changed by one of our own proxies.
    changed_here: u64,
}

/// What one decides, or the proxies of a peer together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    tokens_per_s: f64,
    proxies: u32,
}

impl Backend {
    fn changed_for(&self, owner: Owner) -> u64 {
        if self.changed.1 == owner { self.changed_by_others } else { self.changed.0 }
    }

    /// Without what the proxy itself decides.
    fn share(&self, name: &str, owner: Owner) -> BackendShare {
        self.sum(name, |other| other != owner)
    }

    fn sum(&self, name: &str, counts: impl Fn(Owner) -> bool) -> BackendShare {
        let rates = self.rates.iter().filter(|(owner, _)| counts(**owner));
        let (proxies, token_rate) = rates.fold((0_u32, 0.0), |(count, sum), (_, rate)| {
            (count.saturating_add(rate.proxies), sum + rate.tokens_per_s)
        });
        BackendShare { backend: name.to_owned(), token_rate, age_ms: 0, proxies }
    }
}

impl Shares {
    /// Takes in what a proxy decides for a backend, as this change if that is one. What makes no sense is zero.
    pub(super) fn set(&mut self, owner: Owner, share: &BackendShare, change: u64) -> bool {
        let BackendShare { backend: name, token_rate, age_ms: _, proxies } = share;
        // No sum of what an f32 can hold is infinite.
        if !(*token_rate > 0.0 && *token_rate <= f64::from(f32::MAX)) {
            return self.end(owner, name, change);
        }
        let proxies = if matches!(owner, Owner::Peer(_)) { (*proxies).max(1) } else { 1 };
        let rate = Rate { tokens_per_s: *token_rate, proxies };
        self.admit(owner, name).is_some_and(|name| self.put(owner, &name, rate, change))
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

    fn put(&mut self, owner: Owner, name: &Arc<str>, rate: Rate, change: u64) -> bool {
        let revived = self.backends.get(name).is_some_and(|backend| backend.rates.is_empty());
        self.idle -= usize::from(revived);
        self.of.entry(owner).or_default().insert(name.clone());
        let old = self.backends.entry(name.clone()).or_default().rates.insert(owner, rate);
        old != Some(rate) && self.mark(name, owner, change)
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

    /// What our own proxies decide together, where they changed it after `seen`; the first `most`, by their changes.
    pub(super) fn own_since(&self, seen: u64, most: usize) -> impl Iterator<Item = (u64, BackendShare)> {
        let own = |owner| matches!(owner, Owner::Proxy(_));
        let changed = self.order_here.range(seen + 1..).take(most);
        changed.map(move |(change, name)| (*change, self.backends[name].sum(name, own)))
    }

    fn mark(&mut self, name: &Arc<str>, owner: Owner, change: u64) -> bool {
        let Some(backend) = self.backends.get_mut(name) else { return false };
        self.order.remove(&backend.changed.0);
        if backend.changed.1 != owner {
            backend.changed_by_others = backend.changed.0;
        }
        backend.changed = (change, owner);
        if matches!(owner, Owner::Proxy(_)) {
            self.order_here.remove(&backend.changed_here);
            backend.changed_here = change;
            self.order_here.insert(change, name.clone());
        }
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
            let gone = self.backends.remove(&name);
            self.order_here.remove(&gone.unwrap_or_default().changed_here);
        }
    }
}

#[cfg(test)]
mod tests;
