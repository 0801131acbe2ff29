//! What every proxy has outstanding at every engine, and for each proxy the sum of the others', with what engines say of
//! themselves. Values are absolute: a report replaces, a sum replaces, and nothing is lost where one is skipped. Another
//! replica of the control plane is one more that reports, for all of its proxies; what it is told is only of ours.

mod cut;
mod engines;
mod own;
mod shares;
mod uses;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use api::limits::{MAX_BACKENDS, MAX_ENDPOINTS};
use api::proto::{BackendShare, EndpointLoad, EngineLoad, LoadReport, LoadSum, UseCounts};
use api::uses::UseCount;
use tokio::sync::watch;

use cut::{Room, USES_IN_ONE, earliest};
use engines::{Engines, Read};
use shares::Shares;
use uses::Uses;

/// Endpoints that are known at once, idle ones included.
const MOST: usize = 2 * MAX_ENDPOINTS;

/// Who reports, whichever of its streams it speaks by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    #[default]
    Nobody,
    Proxy(u64),
    /// Another replica, for its proxies.
    Peer(u64),
}

/// What one has outstanding at one endpoint, or all have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Uncached prompt tokens without a first event.
    pub queued_tokens: u64,
    /// Requests sent and not finished.
    pub running: u32,
    /// Seconds to the first event as last measured; of all, the mean over those who measure now, or else what was measured
    /// last. 0: nobody did.
    pub ttft: f32,
    /// Of `running`, those that wait in the engine's queue or for their prefill.
    pub queue_depth: u32,
}

/// What one proxy has outstanding at all endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Endpoints at which it has anything.
    pub endpoints: usize,
    /// As in [`Load`], from here on.
    pub queued_tokens: u64,
    /// Requests.
    pub running: u64,
    /// Of these.
    pub queue_depth: u64,
}

/// A proxy, or a peer.
#[derive(Debug, Default)]
struct Proxy {
    /// The stream that it speaks by.
    stream: u64,
    loads: HashMap<u32, Load>,
    /// Of all of them, so that who looks adds up nothing while reports wait.
    sum: Outstanding,
    sequence: u64,
}

impl Proxy {
    fn outstanding(&self) -> Outstanding {
        Outstanding { endpoints: self.loads.len(), ..self.sum }
    }

    /// It has this at an endpoint instead of that. What overflows wraps, and comes back as it is taken away.
    fn count(&mut self, old: &Load, new: &Load) {
        let sum = &mut self.sum;
        sum.queued_tokens = sum.queued_tokens.wrapping_sub(old.queued_tokens).wrapping_add(new.queued_tokens);
        sum.running = sum.running.wrapping_sub(old.running.into()).wrapping_add(new.running.into());
        sum.queue_depth = sum.queue_depth.wrapping_sub(old.queue_depth.into()).wrapping_add(new.queue_depth.into());
    }
}

#[derive(Debug, Default)]
struct Endpoint {
    queued_tokens: u64,
    running: u32,
    queue_depth: u32,
    /// As somebody measured it last.
    ttft: f32,
    /// The sum over those who measure now, and how many they are: hundreds of proxies are not asked for each of thousands of endpoints.
    measured: (f64, u32),
    /// When it last changed, as a number that counts changes, and by whom.
    changed: (u64, Owner),
    /// When it last changed by anyone but that one.
    changed_by_others: u64,
    /// When it last changed by one of our own proxies.
    changed_here: u64,
}

impl Endpoint {
    fn ttft(&self) -> f32 {
        match self.measured {
            (_, 0) => self.ttft,
            (sum, count) => (sum / f64::from(count)) as f32,
        }
    }

    /// Unknown until one said this of it.
    fn measured(load: &Load) -> Self {
        let mut endpoint = Self::default();
        endpoint.measure(0.0, load.ttft);
        endpoint.deepen(0, load.queue_depth);
        endpoint
    }

    /// One has so many instead of those. It goes with the rest of what is told, and is no news by itself.
    fn deepen(&mut self, old: u32, new: u32) {
        self.queue_depth = self.queue_depth.wrapping_sub(old).wrapping_add(new);
    }

    /// One measures this instead of that; 0 is nothing.
    fn measure(&mut self, old: f32, new: f32) {
        let (sum, count) = &mut self.measured;
        *count = (*count + u32::from(new > 0.0)).saturating_sub(u32::from(old > 0.0));
        // What rounding leaves does not add up.
        *sum = if *count == 0 { 0.0 } else { *sum + f64::from(new.max(0.0)) - f64::from(old.max(0.0)) };
    }

    /// When it last changed in the eyes of one proxy, whose own changes do not count.
    fn changed_for(&self, owner: Owner) -> u64 {
        if self.changed.1 == owner { self.changed_by_others } else { self.changed.0 }
    }
}

#[derive(Debug, Default)]
struct Book {
    change: u64,
    proxies: HashMap<Owner, Proxy>,
    endpoints: HashMap<u32, Endpoint>,
    /// Endpoints by their last change.
    order: BTreeMap<u64, u32>,
    /// Those that our own proxies changed, by their last change of it.
    order_here: BTreeMap<u64, u32>,
    engines: Engines,
    shares: Shares,
    uses: Uses,
}

/// The fleet's load.
#[derive(Debug)]
pub struct Loads {
    epoch: u64,
    room: Room,
    book: Mutex<Book>,
    changed: watch::Sender<u64>,
}

impl Loads {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, room: Room::default(), book: Mutex::default(), changed: watch::channel(0).0 }
    }

    /// What the whole fleet has at an endpoint, by its handle.
    pub fn at(&self, handle: u32) -> Load {
        let book = self.book();
        let known = book.endpoints.get(&handle);
        known.map_or(Load::default(), |e| {
            let Endpoint { queued_tokens, running, queue_depth, .. } = *e;
            Load { queued_tokens, running, ttft: e.ttft(), queue_depth }
        })
    }

    /// What each of our proxies has outstanding, by its process's random number.
    pub fn outstanding(&self) -> HashMap<u64, Outstanding> {
        let book = self.book();
        let of = |(owner, proxy): (&Owner, &Proxy)| match owner {
            Owner::Proxy(instance) => Some((*instance, proxy.outstanding())),
            Owner::Peer(_) | Owner::Nobody => None,
        };
        book.proxies.iter().filter_map(of).collect()
    }

    /// How many proxies have reported here.
    pub fn proxies(&self) -> usize {
        self.book().proxies.keys().filter(|owner| matches!(owner, Owner::Proxy(_))).count()
    }

    /// Counts changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes a report in. The first one of a stream replaces all that the proxy said by another.
    pub(super) fn report(&self, owner: Owner, stream: u64, report: &LoadReport) {
        if report.epoch != self.epoch {
            return;
        }
        let mut book = self.book();
        book.proxies.entry(owner).or_default().sequence = report.sequence;
        let load = |load: &EndpointLoad| {
            let EndpointLoad { handle, queued_tokens, running, ttft, queue_depth } = *load;
            (handle, Load { queued_tokens, running, ttft, queue_depth })
        };
        // There are no more; what a hostile proxy adds is not looked at.
        if book.take(owner, stream, report.endpoints.iter().take(MAX_ENDPOINTS).map(load)) {
            let told: HashSet<&str> = report.shares.iter().map(|share| &*share.backend).collect();
            book.end_shares(owner, |backend| !told.contains(backend));
        }
        for share in report.shares.iter().take(MAX_BACKENDS) {
            book.share(owner, share);
        }
        let now = Instant::now();
        for count in counts(&report.uses).take(USES_IN_ONE) {
            let change = book.change + 1;
            book.change += u64::from(book.uses.add(owner, count, change, now));
        }
        self.tell(&book);
    }

    /// It is gone, unless it speaks by another stream now.
    pub(crate) fn forget(&self, owner: Owner, stream: u64) {
        let mut book = self.book();
        if book.proxies.get(&owner).is_none_or(|proxy| proxy.stream != stream) {
            return;
        }
        let handles: Vec<u32> = book.proxies[&owner].loads.keys().copied().collect();
        handles.into_iter().for_each(|handle| book.set(owner, handle, Load::default()));
        book.end_shares(owner, |_| true);
        book.proxies.remove(&owner);
        self.tell(&book);
    }

    /// Takes in what an engine's metrics said at a time. Only what an endpoint of the newest build says is to come here.
    pub(crate) fn engine(&self, said: EngineLoad, read: Instant) {
        self.engine_by(said, Read { at: read, here: true });
    }

    fn engine_by(&self, said: EngineLoad, read: Read) {
        let mut book = self.book();
        let change = book.change + 1;
        if book.engines.set(said, read, change) {
            book.change = change;
            self.tell(&book);
        }
    }

    /// Forgets what engines said of endpoints that are not among these.
    pub(crate) fn keep_engines(&self, handles: &HashSet<u32>) {
        self.book().engines.keep(handles);
    }

    /// What changed for a proxy since the change `seen`, and up to which change that is. It is to be asked again while
    /// the latter is not the last one.
    pub(super) fn sum(&self, owner: Owner, seen: u64, now: Instant) -> (LoadSum, u64) {
        let book = self.book();
        let (endpoints, cut_endpoints) = earliest(book.since(owner, seen), self.room.endpoints);
        let (shares, cut_shares) = earliest(book.shares.since(owner, seen), self.room.shares);
        let (engines, cut_engines) = book.engines.since(seen, self.room.endpoints, now);
        let (uses, cut_uses) = earliest(book.uses.since(owner, seen, now), self.room.uses);
        let cuts = [cut_endpoints, cut_shares, cut_engines, cut_uses];
        let up_to = cuts.into_iter().flatten().min().unwrap_or(book.change);
        let own = book.proxies.get(&owner);
        let sum = LoadSum {
            epoch: self.epoch,
            sequence_seen: own.map_or(0, |own| own.sequence),
            endpoints: within(endpoints, up_to).map(|handle| book.others(own, handle)).collect(),
            shares: within(shares, up_to).map(|name| book.shares.others(&name, owner)).collect(),
            uses: packed(within(uses, up_to)),
            engines: within(engines, up_to).collect(),
        };
        (sum, up_to)
    }

    /// What engines said of themselves lately, by handle.
    pub fn said(&self, now: Instant) -> BTreeMap<u32, EngineLoad> {
        let (told, _) = self.book().engines.since(0, usize::MAX, now);
        told.into_iter().map(|(_, said)| (said.handle, said)).collect()
    }

    fn tell(&self, book: &Book) {
        self.changed.send_if_modified(|change| std::mem::replace(change, book.change) != book.change);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no thread panics while it holds the loads")
    }
}

/// Whatever models they are of; what is malformed is left out.
fn counts(uses: &[UseCounts]) -> impl Iterator<Item = UseCount> {
    uses.iter().filter_map(|uses| api::uses::unpack(&uses.entries).ok()).flatten()
}

fn packed(uses: impl Iterator<Item = UseCount>) -> Vec<UseCounts> {
    let entries = api::uses::pack(uses);
    if entries.is_empty() { Vec::new() } else { vec![UseCounts { model: String::new(), entries }] }
}

fn within<T>(changes: Vec<(u64, T)>, up_to: u64) -> impl Iterator<Item = T> {
    changes.into_iter().filter(move |(change, _)| *change <= up_to).map(|(_, what)| what)
}

impl Book {
    /// Endpoints that changed after `seen` in the eyes of one proxy, each by that change.
    fn since(&self, owner: Owner, seen: u64) -> Vec<(u64, u32)> {
        let changed = |handle: &u32| (self.endpoints[handle].changed_for(owner), *handle);
        self.order.range(seen + 1..).map(|(_, handle)| changed(handle)).filter(|(change, _)| *change > seen).collect()
    }

    /// What all but one have at an endpoint.
    fn others(&self, own: Option<&Proxy>, handle: u32) -> EndpointLoad {
        let total = &self.endpoints[&handle];
        let own = own.and_then(|own| own.loads.get(&handle)).copied().unwrap_or_default();
        EndpointLoad {
            handle,
            queued_tokens: total.queued_tokens.wrapping_sub(own.queued_tokens),
            running: total.running.wrapping_sub(own.running),
            ..EndpointLoad::default()
        }
    }

    /// What one reports of these endpoints; of all others it has nothing if it speaks by this stream for the first time,
    /// which is what is returned.
    fn take(&mut self, owner: Owner, stream: u64, loads: impl Iterator<Item = (u32, Load)> + Clone) -> bool {
        let proxy = self.proxies.entry(owner).or_default();
        let first = std::mem::replace(&mut proxy.stream, stream) != stream;
        if first {
            let told: HashSet<u32> = loads.clone().map(|(handle, _)| handle).collect();
            let old: Vec<u32> = proxy.loads.keys().copied().filter(|handle| !told.contains(handle)).collect();
            old.into_iter().for_each(|handle| self.set(owner, handle, Load::default()));
        }
        loads.for_each(|(handle, load)| self.set(owner, handle, load));
        first
    }

    fn set(&mut self, owner: Owner, handle: u32, load: Load) {
        let Some(proxy) = self.proxies.get_mut(&owner) else { return };
        // What makes no sense is not measured: in a sum it would stay. Of what is not there nothing waits.
        let ttft = if load.ttft.is_finite() { load.ttft } else { 0.0 };
        let load = Load { ttft, queue_depth: load.queue_depth.min(load.running), ..load };
        let idle = (load.queued_tokens, load.running) == (0, 0);
        if !idle && proxy.loads.len() >= MAX_ENDPOINTS && !proxy.loads.contains_key(&handle) {
            return;
        }
        let full = self.endpoints.len() > MOST && !self.endpoints.contains_key(&handle);
        if !idle && full {
            return;
        }
        let old = if idle { proxy.loads.remove(&handle) } else { proxy.loads.insert(handle, load) };
        let old = old.unwrap_or_default();
        proxy.count(&old, &load);
        if let Some(endpoint) = self.endpoints.get_mut(&handle) {
            endpoint.measure(old.ttft, if idle { 0.0 } else { load.ttft });
            endpoint.deepen(old.queue_depth, load.queue_depth);
        }
        if (old.queued_tokens, old.running) == (load.queued_tokens, load.running) {
            return;
        }
        self.change += 1;
        let endpoint = self.endpoints.entry(handle).or_insert_with(|| Endpoint::measured(&load));
        if load.ttft > 0.0 {
            endpoint.ttft = load.ttft;
        }
        // A hostile proxy may report what overflows; its own part is what it gets back out.
        endpoint.queued_tokens =
            endpoint.queued_tokens.wrapping_sub(old.queued_tokens).wrapping_add(load.queued_tokens);
        endpoint.running = endpoint.running.wrapping_sub(old.running).wrapping_add(load.running);
        self.order.remove(&endpoint.changed.0);
        if endpoint.changed.1 != owner {
            endpoint.changed_by_others = endpoint.changed.0;
        }
        endpoint.changed = (self.change, owner);
        if matches!(owner, Owner::Proxy(_)) {
            self.order_here.remove(&endpoint.changed_here);
            endpoint.changed_here = self.change;
            self.order_here.insert(self.change, handle);
        }
        self.order.insert(self.change, handle);
        if self.endpoints.len() > MOST {
            self.prune();
        }
    }

    fn share(&mut self, owner: Owner, share: &BackendShare) {
        if self.shares.set(owner, share, self.change + 1) {
            self.change += 1;
        }
    }

    /// What a proxy decides for these backends is over.
    fn end_shares(&mut self, owner: Owner, which: impl Fn(&str) -> bool) {
        for backend in self.shares.of(owner).into_iter().filter(|backend| which(backend)) {
            self.share(owner, &BackendShare { backend: backend.to_string(), ..BackendShare::default() });
        }
    }

    /// Endpoints come and go, and their handles are never used again: those that have been idle for longest are let go.
    fn prune(&mut self) {
        let idle = |handle: &u32| self.endpoints.get(handle).is_none_or(|e| (e.queued_tokens, e.running) == (0, 0));
        let spare: Vec<(u64, u32)> =
            self.order.iter().filter(|(_, handle)| idle(handle)).take(MOST / 2).map(|(c, h)| (*c, *h)).collect();
        for (change, handle) in spare {
            self.order.remove(&change);
            let gone = self.endpoints.remove(&handle);
            self.order_here.remove(&gone.unwrap_or_default().changed_here);
        }
    }
}

#[cfg(test)]
mod tests;
