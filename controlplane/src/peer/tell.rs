//! What a peer is told: all there is at first, then what changed, and a sign of life.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use api::proto::{PeerFacts, PeerPredictions, PeerReport};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::caches::Told;
use super::dial::Voice;
use super::names::Names;
use super::reach;
use super::wire::{engine_out, facts_out, load_out, predictions_out};
use crate::publish::serve::{Feed, Hearer};
use crate::world::{Engines, Facts};

/// Who hears nothing for three times this takes us for dead.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// Changes in one message, which stays far under what is taken.
const IN_ONE: usize = 4_096;
/// Bytes of facts in one message.
const FACTS_BYTES: usize = 1 << 20;
/// Bytes per second of predictions; of those that are there when a peer comes it gets four times as many.
const PREDICTED_BYTES: u32 = 4_000_000;
/// To take a message. Who does not is dialled again, and told all.
const TAKEN: Duration = Duration::from_secs(2);

/// Tells one until it takes no more.
pub(super) async fn tell(voice: &Voice, me: &str, out: mpsc::Sender<PeerReport>) {
    let (mut changed, mut facts) = (voice.loads.watch(), voice.facts.clone());
    let (mut standings, mut progress) = (voice.standings.clone(), voice.progress.clone());
    let (mut predicted, mut differing) = (voice.predictions.watch(), voice.differing.clone());
    let mut cached = voice.caches.watch();
    let (mut telling, mut said) = (Telling::new(voice), None::<Instant>);
    loop {
        let up_to = *changed.borrow_and_update();
        let (numbers, reach) = telling.reach.news(&standings.borrow_and_update(), &progress.borrow_and_update());
        let differs = telling.caches.differing(&differing.borrow_and_update());
        cached.borrow_and_update();
        // The first of a stream replaces what an older one said, so it has the loads, and the numbers, which say that they are said.
        let tells_caches = said.is_none();
        let loads = telling.loads(voice, Instant::now());
        let first = PeerReport { progress: numbers, differing: differs, tells_caches, ..loads };
        let more = telling.facts(&facts.borrow_and_update().clone());
        // What came from a peer is a change, too, and none for another.
        let due = said.is_none_or(|said| said.elapsed() >= SIGN_OF_LIFE) || first != PeerReport::default();
        let predictions = telling.predictions(voice, Instant::now());
        let caches = telling.caches.next(&voice.index.newest(), Instant::now());
        let cut = Told::is_cut(&caches);
        let reports = due.then_some(first).into_iter().chain(reach).chain(more).chain(predictions).chain(caches);
        for report in reports {
            said = Some(Instant::now());
            let report = PeerReport { epoch: voice.epoch, member: me.to_owned(), ..report };
            if !matches!(timeout(TAKEN, out.send(report)).await, Ok(Ok(()))) {
                return;
            }
        }
        if telling.seen < up_to {
            continue;
        }
        sleep(voice.load_interval).await;
        if cut {
            continue;
        }
        let quiet = said.map_or(Duration::ZERO, |said| SIGN_OF_LIFE.saturating_sub(said.elapsed()));
        tokio::select! {
            Ok(()) = changed.changed() => {}
            Ok(()) = facts.changed() => {}
            Ok(()) = standings.changed() => {}
            Ok(()) = progress.changed() => {}
            Ok(()) = differing.changed() => {}
            Ok(()) = cached.changed() => {}
            () = telling.predicted(&mut predicted) => {}
            () = sleep(quiet) => {}
        }
    }
}

/// What one has been told.
#[derive(Debug)]
struct Telling {
    reach: reach::Told,
    caches: Told,
    /// Up to which change.
    seen: u64,
    /// Where our proxies had something. An endpoint may go while requests run there, and that these end is told, too.
    busy: HashMap<u32, EndpointKey>,
    facts: BTreeMap<EndpointKey, Arc<Facts>>,
    feed: Feed,
}

impl Telling {
    fn new(voice: &Voice) -> Self {
        let caches = Told::new(voice.caches.clone());
        let feed = Feed::new(Hearer::Peer, PREDICTED_BYTES, Instant::now());
        Self { reach: reach::Told::default(), caches, seen: 0, busy: HashMap::new(), facts: BTreeMap::new(), feed }
    }

    /// Until there is something to tell of predictions, and the time for it has come.
    async fn predicted(&self, predicted: &mut watch::Receiver<u64>) {
        // Where they end so does this replica.
        let _ = predicted.wait_for(|logged| self.feed.is_behind(*logged)).await;
        sleep_until(self.feed.due().into()).await;
    }

    fn predictions(&mut self, voice: &Voice, now: Instant) -> Option<PeerReport> {
        if now < self.feed.due() || !self.feed.is_behind(*voice.predictions.watch().borrow()) {
            return None;
        }
        let warming = self.feed.is_warming();
        let marks = self.feed.next(&voice.predictions, now);
        let told = PeerPredictions { warming, ..predictions_out(&marks, &voice.index.newest().keys) };
        (!told.entries.is_empty()).then(|| PeerReport { predictions: Some(told), ..PeerReport::default() })
    }

    fn loads(&mut self, voice: &Voice, now: Instant) -> PeerReport {
        let own = voice.loads.own(self.seen, IN_ONE, now);
        let names = voice.index.newest();
        self.seen = own.up_to;
        let mut loads = Vec::new();
        for (handle, load) in own.loads {
            let Some(key) = self.key(&names, handle) else { continue };
            loads.push(load_out(&key, load));
            if (load.queued_tokens, load.running) == (0, 0) {
                self.busy.remove(&handle);
            } else {
                self.busy.insert(handle, key);
            }
        }
        let engines = own.engines.into_iter();
        let engines = engines.filter_map(|said| Some(engine_out(names.keys.get(&said.handle)?, said)));
        PeerReport { loads, engines: engines.collect(), shares: own.shares, uses: own.uses, ..PeerReport::default() }
    }

    fn key(&self, names: &Names, handle: u32) -> Option<EndpointKey> {
        names.keys.get(&handle).or_else(|| self.busy.get(&handle)).cloned()
    }

    /// In as many messages as it takes.
    fn facts(&mut self, newest: &Engines) -> Vec<PeerReport> {
        let news = newest.iter().filter(|(key, facts)| self.facts.get(*key) != Some(*facts));
        let gone = self.facts.keys().filter(|key| newest.of(key).is_none());
        let news = news.map(|(key, facts)| facts_out(key, Some(facts)));
        let told: Vec<PeerFacts> = news.chain(gone.map(|key| facts_out(key, None))).collect();
        self.facts = newest.iter().map(|(key, facts)| (key.clone(), facts.clone())).collect();
        let mut reports = Vec::new();
        let (mut part, mut bytes) = (Vec::new(), 0);
        for facts in told {
            bytes += facts.encoded_len();
            part.push(facts);
            if bytes >= FACTS_BYTES {
                reports.push(PeerReport { facts: std::mem::take(&mut part), ..PeerReport::default() });
                bytes = 0;
            }
        }
        if !part.is_empty() {
            reports.push(PeerReport { facts: part, ..PeerReport::default() });
        }
        reports
    }
}
