//! What peers tell us: into the loads, the engines' loads, the facts and what their data planes have, for as long as they are heard.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use api::limits::{MAX_ENDPOINTS, MAX_NAME_BYTES};
use api::proto::{KvUpdate, PeerDiffering, PeerEngine, PeerFacts, PeerLoad, PeerName, PeerObject};
use api::proto::{PeerProgress, PeerRefusal, PeerReport};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::caches::{self, differing_in};
use super::names::{Index, Names};
use super::others::{self, Parts};
use super::reach::Part;
use super::wire::{WireError, engine_in, facts_in, key_in, load_in, predictions_in};
use super::{Caches, MOST};
use crate::kv::supervise::PeerNews;
use crate::publish::serve::{Identify, Load, Loads, Owner, Predictions};
use crate::world::Facts;

/// Of a peer that is alive something is heard three times in this time.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Who is heard, and which engines said what to them.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<u64, Peer>);

#[derive(Debug)]
struct Peer {
    stream: u64,
    member: Arc<str>,
    /// It tells what engines have cached that it hears.
    tells_caches: bool,
    facts: BTreeMap<EndpointKey, Arc<Facts>>,
}

impl Heard {
    pub(super) fn names(&self) -> BTreeSet<Arc<str>> {
        self.0.values().map(|peer| peer.member.clone()).collect()
    }

    /// Of those that tell what engines have cached.
    pub(super) fn tellers(&self) -> BTreeSet<Arc<str>> {
        self.0.values().filter(|peer| peer.tells_caches).map(|peer| peer.member.clone()).collect()
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = (&EndpointKey, &Arc<Facts>)> {
        self.0.values().flat_map(|peer| &peer.facts)
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(peers: [BTreeMap<EndpointKey, Arc<Facts>>; N]) -> Self {
        let peer = |facts| Peer { stream: 0, member: "".into(), tells_caches: true, facts };
        Self((1..).zip(peers.into_iter().map(peer)).collect())
    }
}

#[derive(Debug)]
pub(super) struct Options {
    /// Ours.
    pub(super) epoch: u64,
    pub(super) load_kept: Duration,
    pub(super) identify: Arc<dyn Identify>,
}

/// What of this replica peers change, and what endpoints are called.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) loads: Arc<Loads>,
    pub(super) predictions: Arc<Predictions>,
    pub(super) index: Arc<Index>,
    pub(super) caches: Caches,
}

/// Where all peers are heard.
#[derive(Debug)]
pub(crate) struct Ear {
    options: Options,
    loads: Arc<Loads>,
    predictions: Arc<Predictions>,
    index: Arc<Index>,
    caches: Caches,
    heard: watch::Sender<Heard>,
    parts: watch::Sender<Parts>,
    streams: AtomicU64,
}

impl Ear {
    pub(super) fn new(options: Options, Shared { loads, predictions, index, caches }: Shared) -> Self {
        let (heard, parts) = (watch::channel(Heard::default()).0, watch::channel(Parts::default()).0);
        Self { options, loads, predictions, index, caches, heard, parts, streams: AtomicU64::new(0) }
    }

    pub(super) fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// What the data planes have of those that are heard.
    pub(super) fn parts(&self) -> watch::Receiver<Parts> {
        self.parts.subscribe()
    }

    /// Finds out who dials.
    pub(crate) fn identify(&self) -> &Arc<dyn Identify> {
        &self.options.identify
    }

    /// Listens to one until it ends or falls silent; `uid` is who it was proved to be, empty where that is not asked.
    pub(crate) async fn listen(self: &Arc<Self>, uid: &str, mut said: Streaming<PeerReport>) -> Result<(), Status> {
        let Some(first) = soon(said.message()).await? else { return Ok(()) };
        let mut seat = self.sit(uid, &first)?;
        seat.take(first)?;
        while let Some(report) = soon(said.message()).await? {
            seat.take(report)?;
        }
        Ok(())
    }

    fn sit(self: &Arc<Self>, uid: &str, first: &PeerReport) -> Result<Seat, Status> {
        let PeerReport { epoch, member, tells_caches, .. } = first;
        if *epoch == self.options.epoch {
            return Err(Status::failed_precondition("a replica does not talk to itself"));
        }
        if member.len() > MAX_NAME_BYTES || (!uid.is_empty() && uid != member) {
            return Err(Status::permission_denied("this is not the pod that the token is of"));
        }
        let peers = self.heard.borrow().0.len();
        if peers >= MOST && !self.heard.borrow().0.contains_key(epoch) {
            return Err(Status::resource_exhausted(format!("there are {MOST} other replicas already")));
        }
        let stream = self.next();
        let (ear, epoch, name) = (self.clone(), *epoch, Arc::<str>::from(member.as_str()));
        let peer = Peer { stream, member: name.clone(), tells_caches: *tells_caches, facts: BTreeMap::new() };
        self.heard.send_modify(|heard| drop(heard.0.insert(epoch, peer)));
        let part = first.progress.is_some().then(Part::default);
        let heard = others::Heard { member: name, stream, part: part.clone().map(Arc::new) };
        self.parts.send_modify(|parts| drop(parts.insert(epoch, heard)));
        tracing::info!(peer = member, "a replica is heard");
        let caches = caches::Heard::default();
        Ok(Seat { ear, epoch, stream, names: Arc::default(), loads_as: 0, told: HashMap::new(), part, caches })
    }

    fn next(&self) -> u64 {
        self.streams.fetch_add(1, Relaxed) + 1
    }
}

async fn soon<T>(said: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(SILENCE, said).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("nothing was heard for 1.5 s")))
}

fn nonsense(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// One peer's stream.
struct Seat {
    ear: Arc<Ear>,
    epoch: u64,
    stream: u64,
    names: Arc<Names>,
    /// The stream by which the loads know it: another one whenever the names change, so that all is said anew.
    loads_as: u64,
    /// Where its proxies have anything outstanding, whether such an endpoint is known here or not yet.
    told: HashMap<EndpointKey, Load>,
    /// What its data planes have; none where it does not say.
    part: Option<Part>,
    /// What engines have cached that it hears.
    caches: caches::Heard,
}

impl Seat {
    fn take(&mut self, report: PeerReport) -> Result<(), Status> {
        let PeerReport {
            epoch,
            member: _,
            loads,
            engines,
            facts,
            progress,
            objects,
            refusals,
            shares,
            uses,
            predictions,
            names,
            kv,
            differing,
            tells_caches: _,
        } = report;
        if epoch != self.epoch {
            return Err(Status::invalid_argument("a stream is of one process"));
        }
        self.reach(progress, objects, refusals).map_err(nonsense)?;
        let first = self.loads_as == 0;
        self.loads(&loads).map_err(nonsense)?;
        if first || !shares.is_empty() {
            self.ear.loads.peer_shares(self.epoch, first, &shares);
        }
        self.engines(&engines).map_err(nonsense)?;
        if !uses.is_empty() {
            self.ear.loads.uses_of_peer(self.epoch, &uses);
        }
        if let Some(said) = predictions {
            let marks = predictions_in(&said, &self.names.handles).map_err(nonsense)?;
            let (owner, marks) = (Owner::Peer(self.epoch), marks.into_iter());
            match said.warming {
                true => self.ear.predictions.learn(owner, marks),
                false => self.ear.predictions.take(owner, marks),
            }
        }
        self.facts(&facts).map_err(nonsense)?;
        self.caches(&names, kv, differing.as_ref()).map_err(nonsense)
    }

    fn caches(
        &mut self,
        names: &[PeerName],
        kv: Vec<KvUpdate>,
        differing: Option<&PeerDiffering>,
    ) -> Result<(), WireError> {
        let Caches { ears, board, told: _ } = &self.ear.caches;
        self.caches.name(names)?;
        for update in kv {
            let model: Arc<str> = update.model.as_str().into();
            let news = self.caches.news(self.stream, update).unwrap_or_else(|error| {
                // What cannot be read may have been a removal. The rest of what the peer says is as good as before.
                tracing::warn!(%model, %error, "what a replica tells of a model's caches cannot be read, and counts no longer");
                board.peer_fault();
                PeerNews { stream: self.stream, model, reset: true, ..PeerNews::default() }
            });
            ears.of_peer(news, Instant::now());
        }
        if let Some(said) = differing {
            board.peer_differs(self.stream, Some(differing_in(said)?));
        }
        Ok(())
    }

    fn reach(
        &mut self,
        progress: Option<PeerProgress>,
        objects: Vec<PeerObject>,
        refusals: Vec<PeerRefusal>,
    ) -> Result<(), WireError> {
        let Some(part) = &mut self.part else { return Ok(()) };
        if progress.is_none() && objects.is_empty() && refusals.is_empty() {
            return Ok(());
        }
        part.take(objects, refusals)?;
        if let Some(numbers) = progress {
            part.count(numbers);
        }
        let now = Arc::new(part.clone());
        self.ear.parts.send_if_modified(|parts| {
            let ours = parts.get_mut(&self.epoch).filter(|heard| heard.stream == self.stream);
            ours.map(|heard| heard.part = Some(now)).is_some()
        });
        Ok(())
    }

    fn loads(&mut self, loads: &[PeerLoad]) -> Result<(), WireError> {
        let mut news = Vec::new();
        let names = self.ear.index.newest();
        for said in loads {
            let (key, load) = (key_in(said.key.as_ref())?, load_in(said));
            news.extend(names.handles.get(&key).map(|handle| (*handle, load)));
            if (load.queued_tokens, load.running) == (0, 0) {
                self.told.remove(&key);
            } else if self.told.len() < MAX_ENDPOINTS || self.told.contains_key(&key) {
                self.told.insert(key, load);
            }
        }
        if self.loads_as == 0 || !Arc::ptr_eq(&names, &self.names) {
            self.loads_as = self.ear.next();
            let all = self.told.iter().filter_map(|(key, load)| Some((*names.handles.get(key)?, *load)));
            news = all.collect();
            self.names = names;
        } else if news.is_empty() {
            return Ok(());
        }
        self.ear.loads.peer(self.epoch, self.loads_as, &news);
        Ok(())
    }

    fn engines(&self, engines: &[PeerEngine]) -> Result<(), WireError> {
        let now = Instant::now();
        for said in engines {
            let key = key_in(said.key.as_ref())?;
            let read = now.checked_sub(Duration::from_millis(said.age_ms.into()));
            if let (Some(handle), Some(read)) = (self.names.handles.get(&key), read) {
                self.ear.loads.engine_of_peer(engine_in(*handle, said), read);
            }
        }
        Ok(())
    }

    fn facts(&self, facts: &[PeerFacts]) -> Result<(), WireError> {
        let news = facts.iter().map(|said| Ok((key_in(said.key.as_ref())?, facts_in(said))));
        let news: Vec<_> = news.collect::<Result<_, WireError>>()?;
        let change = |heard: &mut Heard| {
            let peer = heard.0.get_mut(&self.epoch).filter(|peer| peer.stream == self.stream);
            let Some(Peer { facts, .. }) = peer else { return false };
            for (key, said) in news {
                match said {
                    Some(said) if facts.len() < MAX_ENDPOINTS || facts.contains_key(&key) => {
                        facts.insert(key, said);
                    }
                    Some(_) => {}
                    None => drop(facts.remove(&key)),
                }
            }
            true
        };
        if !facts.is_empty() {
            self.ear.heard.send_if_modified(change);
        }
        Ok(())
    }
}

impl Drop for Seat {
    /// What its proxies have counts on for a moment: they look for another replica, and tell that.
    fn drop(&mut self) {
        let (ear, epoch, loads_as) = (self.ear.clone(), self.epoch, self.loads_as);
        ear.caches.ears.peer_is_gone(self.stream, Instant::now());
        ear.caches.board.peer_differs(self.stream, None);
        ear.heard.send_if_modified(|heard| {
            let ours = heard.0.get(&epoch).is_some_and(|peer| peer.stream == self.stream);
            if ours && let Some(peer) = heard.0.remove(&epoch) {
                tracing::info!(peer = &*peer.member, "a replica is not heard any more");
            }
            ours
        });
        ear.parts.send_if_modified(|parts| {
            let ours = parts.get(&epoch).is_some_and(|heard| heard.stream == self.stream);
            ours && parts.remove(&epoch).is_some()
        });
        // Without a runtime the process ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(ear.options.load_kept).await;
                ear.loads.forget(Owner::Peer(epoch), loads_as);
            });
        }
    }
}

#[cfg(test)]
mod tests;
