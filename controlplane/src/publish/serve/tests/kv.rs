//! The KV lane as data planes see it: what engines say goes into the ears, and a mirror of each subscriber holds it.

use std::collections::BTreeMap;

use api::proto::{KvDigest, KvDigests, KvTrust, KvUpdate};
use api::snapshot::Snapshot;
use tokio::time::Instant;

use super::*;
use crate::kv::event::{Batch, Event, Removed, Stored, Tier};
use crate::kv::store::RankId;
use crate::kv::subscribe::{Heard, What};
use crate::kv::supervise::{Board, Ears, Seat};
use crate::kv::text::Reading;
use crate::kv::trust::Trust;
use crate::kv::vocabulary::Vocabulary;

const MODEL: &str = "m";
/// Tokens of a block of 64 bytes: as many blocks of text as of tokens.
const BLOCK: u64 = 16;

/// Endpoints by their handles.
fn fleet(handles: &[u32]) -> Snapshot {
    let endpoint =
        |handle: &u32| format!(r#"{{"handle": {handle}, "name": "e{handle}", "address": "10.0.0.{handle}:8000"}}"#);
    let endpoints = handles.iter().map(endpoint).collect::<Vec<_>>().join(",");
    let text =
        format!(r#"{{"version": 1, "backends": [{{"name": "d/b", "model": "{MODEL}", "endpoints": [{endpoints}]}}]}}"#);
    api::json::snapshot_from_json(text.as_bytes()).unwrap()
}

/// Engines that are heard by a server. Of each the speaker is a hundred beyond its rank, which is its handle.
struct Engines {
    site: Site,
    ears: Arc<Ears>,
}

impl Engines {
    async fn start(handles: &[u32], options: Options) -> Self {
        let engines = Self::of_fleet(handles, options).await;
        handles.iter().for_each(|handle| engines.admit(*handle, 1));
        engines
    }

    /// The fleet alone, none of which is listened to.
    async fn of_fleet(handles: &[u32], options: Options) -> Self {
        let site = Site::start(options).await;
        let ears = Arc::new(Ears::new(site.lane.clone(), Arc::new(Board::default())));
        let shelf: Arc<dyn Shelf> = ears.clone();
        site.lane.read_from(&shelf);
        site.send(fleet(handles));
        Self { site, ears }
    }

    fn admit(&self, handle: u32, ranks: usize) {
        let key = api::id::EndpointKey { uid: format!("e{handle}").into(), port: 8000, rank: 0 };
        let seat = Seat { key, model: MODEL.into(), handle, capacity_tokens: 1_000, ranks };
        let reading = Reading { vocabulary: Arc::new(Vocabulary::quads()), fleet_seed: 5, model: MODEL.into() };
        self.ears.expect(RankId(handle));
        self.ears.admit(RankId(handle), seat, usize::MAX, reading);
        for speaker in 0..ranks as u32 {
            self.ears.hear(RankId(100 + handle + 1_000 * speaker), RankId(handle));
        }
    }

    fn heard(&self, handle: u32, what: What) {
        self.ears.take([Heard { rank: RankId(100 + handle), what }].into_iter(), std::time::Instant::now());
    }

    fn trust(&self, handle: u32, trust: Trust) {
        self.heard(handle, What::Trust(trust));
    }

    fn event(&self, handle: u32, event: Event) {
        self.heard(handle, What::Apply(Batch { events: vec![event], ..Batch::default() }));
    }

    /// Blocks of a prompt of its own, from one to another.
    fn store(&self, handle: u32, prompt: u64, blocks: std::ops::Range<u64>) {
        self.event(handle, Event::Stored(Self::stored(prompt, blocks)));
    }

    fn stored(prompt: u64, blocks: std::ops::Range<u64>) -> Stored {
        let name = |n: u64| (prompt << 32) | (n + 1);
        let parent = blocks.start.checked_sub(1).map(name);
        let tokens = |n| (0..BLOCK).map(move |at| (prompt << 12 | n << 4 | at) as u32);
        let tokens = blocks.clone().flat_map(tokens).collect();
        Stored::plain(blocks.map(name).collect(), parent, tokens, BLOCK as u32)
    }

    fn remove(&self, handle: u32, prompt: u64, block: u64) {
        let hashes = vec![(prompt << 32) | (block + 1)];
        self.event(handle, Event::Removed(Removed { hashes, tier: Tier::Device, group: 0 }));
    }

    async fn join(&self) -> Mirror {
        let plane = self.site.subscribe(|subscribe| subscribe.kv = true).await;
        self.mirror(plane).await
    }

    /// One that holds this state already.
    async fn return_with(&self, held: &Snapshot) -> Plane {
        let version = api::proto::Version { epoch: held.version.epoch, version: held.version.version };
        let mut plane = self
            .site
            .subscribe(|subscribe| {
                subscribe.kv = true;
                subscribe.held = Some(version);
                subscribe.content_hash = api::hash::content_hash(held);
            })
            .await;
        plane.held = held.clone();
        plane
    }

    async fn mirror(&self, mut plane: Plane) -> Mirror {
        plane.apply().await;
        Mirror {
            plane,
            generation: None,
            sequence: 0,
            level: 0,
            holds: BTreeMap::new(),
            ranks: BTreeMap::new(),
            sizes: BTreeMap::new(),
            entries: 0,
        }
    }

    /// What a new subscriber reads of an endpoint.
    fn truth(&self, handle: u32) -> BTreeMap<u64, u16> {
        let mut blocks = Vec::new();
        let level = self.site.lane.level(MODEL);
        assert_eq!(self.ears.page(MODEL, handle, 0, &mut blocks, usize::MAX), None);
        blocks.iter().map(|block| (block.hash, block.position >> level)).collect()
    }
}

/// A data plane, and what it holds by what it was told.
struct Mirror {
    plane: Plane,
    generation: Option<u64>,
    sequence: u64,
    level: u32,
    holds: BTreeMap<u32, BTreeMap<u64, u16>>,
    ranks: BTreeMap<u32, KvTrust>,
    /// What their caches take.
    sizes: BTreeMap<u32, u64>,
    entries: usize,
}

impl Mirror {
    fn take(&mut self, update: KvUpdate) {
        assert_eq!((update.model.as_str(), update.epoch), (MODEL, self.plane.welcome.epoch));
        if update.reset {
            self.holds.clear();
            self.ranks.clear();
            (self.generation, self.sequence, self.level) = (Some(update.generation), 0, update.level);
        }
        assert_eq!((self.generation, self.sequence), (Some(update.generation), update.sequence));
        assert_eq!(self.level, update.level);
        self.sequence += 1;
        for rank in &update.ranks {
            if rank.forget {
                self.holds.remove(&rank.handle);
            }
            self.ranks.insert(rank.handle, rank.trust());
            self.sizes.insert(rank.handle, rank.capacity_tokens);
        }
        let entries = update.entries.as_chunks::<16>();
        assert!(entries.1.is_empty() && update.entries.len() <= 64 << 10);
        for entry in entries.0 {
            let hash = u64::from_le_bytes(entry[..8].try_into().unwrap());
            let handle = u32::from_le_bytes(entry[8..12].try_into().unwrap());
            let [position, flags] = [12, 14].map(|at| u16::from_le_bytes([entry[at], entry[at + 1]]));
            self.entries += 1;
            let held = self.holds.entry(handle).or_default();
            match flags {
                0 => assert!(held.insert(hash, position).is_none_or(|known| known == position)),
                1 => assert!(held.remove(&hash).is_none_or(|known| known == position)),
                _ => {}
            }
        }
        self.holds.retain(|_, held| !held.is_empty());
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}; {:?}", self.ranks);
            self.plane.drain(Duration::from_millis(5)).await;
            for update in std::mem::take(&mut self.plane.kv) {
                self.take(update);
            }
        }
    }

    /// It holds just what the engines hold that it was told of.
    async fn agrees(&mut self, engines: &Engines, handles: &[u32]) {
        let truth: BTreeMap<u32, BTreeMap<u64, u16>> = handles
            .iter()
            .map(|handle| (*handle, engines.truth(*handle)))
            .filter(|(_, held)| !held.is_empty())
            .collect();
        self.until("it holds what the engines hold", |mirror| mirror.holds == truth).await;
    }

    fn digests(&self) -> KvDigests {
        let digest = |(handle, held): (&u32, &BTreeMap<u64, u16>)| {
            let xor = held.keys().fold(0, |xor, hash| xor ^ hash);
            KvDigest { handle: *handle, xor, blocks: held.len() as u64 }
        };
        let endpoints = self.holds.iter().map(digest).collect();
        KvDigests {
            epoch: self.plane.welcome.epoch,
            model: MODEL.into(),
            generation: self.generation.unwrap(),
            endpoints,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_there_and_who_joins_hold_what_the_engines_hold() {
    let engines = Engines::start(&[1, 2], Options::default()).await;
    let mut early = engines.join().await;
    engines.trust(1, Trust::Trusted);
    engines.store(1, 1, 0..40);
    engines.store(2, 1, 0..10);
    early.agrees(&engines, &[1, 2]).await;
    engines.remove(1, 1, 39);
    engines.remove(1, 1, 38);
    engines.store(2, 2, 0..5);
    early.agrees(&engines, &[1, 2]).await;
    early.until("trust", |mirror| mirror.ranks[&1] == KvTrust::Trusted).await;
    assert_eq!((early.ranks[&2], early.holds[&1].len(), early.holds[&2].len()), (KvTrust::Cold, 38, 15));
    let mut late = engines.join().await;
    late.agrees(&engines, &[1, 2]).await;
    assert_eq!((late.ranks, late.entries), (early.ranks.clone(), 53));
    let mut silent = engines.site.join().await;
    silent.apply().await;
    silent.drain(Duration::from_millis(50)).await;
    assert!(silent.kv.is_empty(), "nobody is told who did not ask");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_says_how_large_it_is_keeps_what_it_has_and_has_no_more_than_that() {
    let engines = Engines::start(&[1, 2], Options::default()).await;
    let mut mirror = engines.join().await;
    engines.trust(1, Trust::Trusted);
    engines.store(1, 1, 0..20);
    mirror.agrees(&engines, &[1]).await;
    let (sized, generation) = (mirror.sizes[&1], mirror.generation);
    assert_eq!(sized, 1_000);
    engines.ears.size(RankId(1), 640, 24);
    mirror.until("the size", |mirror| mirror.sizes[&1] == 640).await;
    assert_eq!((mirror.holds[&1].len(), mirror.ranks[&1], mirror.generation), (20, KvTrust::Trusted, generation));
    engines.store(1, 2, 0..20);
    mirror.agrees(&engines, &[1]).await;
    mirror.until("no more than that", |mirror| mirror.holds[&1].len() <= 24).await;
    // Nobody hears it any more.
    engines.ears.size(RankId(9), 1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_or_cleared_is_gone_at_once_and_what_follows_counts() {
    let engines = Engines::start(&[1, 2], Options::default()).await;
    let mut mirror = engines.join().await;
    for handle in [1, 2] {
        engines.trust(handle, Trust::Trusted);
        engines.store(handle, 1, 0..20);
    }
    mirror.agrees(&engines, &[1, 2]).await;
    engines.heard(1, What::Forget);
    engines.trust(1, Trust::Gapped);
    engines.event(2, Event::Cleared);
    engines.store(2, 3, 0..4);
    mirror.agrees(&engines, &[1, 2]).await;
    mirror.until("trust", |mirror| mirror.ranks[&1] == KvTrust::Gapped).await;
    assert_eq!((mirror.holds.get(&1), mirror.holds[&2].len(), mirror.ranks[&2]), (None, 4, KvTrust::Trusted));
    // All at once: what came before is not in the same message as what came after.
    let apply =
        |prompt| What::Apply(Batch { events: vec![Event::Stored(Engines::stored(prompt, 0..9))], ..Batch::default() });
    let all = [apply(5), What::Forget, apply(6)].map(|what| Heard { rank: RankId(102), what });
    engines.ears.take(all.into_iter(), std::time::Instant::now());
    mirror.agrees(&engines, &[2]).await;
    assert_eq!(mirror.holds[&2].len(), 9);
    engines.ears.dismiss(RankId(2));
    mirror.until("nothing is known of it", |mirror| mirror.ranks[&2] == KvTrust::Unspecified).await;
    assert!(mirror.holds.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_told_of_once_the_data_plane_runs_a_config_that_has_it() {
    let engines = Engines::start(&[1], Options::default()).await;
    let mut mirror = engines.join().await;
    engines.store(1, 1, 0..3);
    engines.admit(2, 1);
    engines.store(2, 1, 0..8);
    mirror.agrees(&engines, &[1]).await;
    assert!(!mirror.ranks.contains_key(&2));
    engines.site.send(fleet(&[1, 2]));
    mirror.plane.apply().await;
    engines.store(2, 1, 8..9);
    mirror.agrees(&engines, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reconnect_only_what_differs_is_sent() {
    let engines = Engines::start(&[1, 2, 3], Options::default()).await;
    for handle in [1, 2, 3] {
        engines.trust(handle, Trust::Trusted);
        engines.store(handle, u64::from(handle), 0..50);
    }
    let mut first = engines.join().await;
    first.agrees(&engines, &[1, 2, 3]).await;
    assert_eq!(first.entries, 150);
    let digests = first.digests();
    // It was told of nothing meanwhile: one block more in one of three.
    engines.store(2, 2, 50..51);
    engines.trust(3, Trust::Gapped);
    let mut again = engines.return_with(&first.plane.held).await;
    again.apply().await;
    again.digests(digests).await;
    let mut second = Mirror { plane: again, entries: 0, sequence: 0, ..first };
    second.agrees(&engines, &[1, 2, 3]).await;
    second.until("trust", |mirror| mirror.ranks[&3] == KvTrust::Gapped).await;
    assert_eq!(second.entries, 51, "one endpoint as a whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_to_say_what_it_holds_and_does_not_begins_anew() {
    let engines = Engines::start(&[1], Options::default()).await;
    engines.store(1, 1, 0..7);
    let first = engines.join().await;
    let plane = engines.return_with(&first.plane.held).await;
    let mut mirror = engines.mirror(plane).await;
    mirror.agrees(&engines, &[1]).await;
}

/// Much more than the log holds and the budget allows: who joins gets it within its budget, and who does not read meanwhile
/// gets pages again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_falls_back_to_pages_and_ends_up_right() {
    let options = Options { bytes_per_second: 500_000, ..Options::default() };
    let engines = Engines::start(&[1, 2], options).await;
    let mut mirror = engines.join().await;
    engines.store(1, 1, 0..10);
    mirror.agrees(&engines, &[1]).await;
    // It does not read while 10 MB of changes pass through a log of 4 MiB.
    for round in 0..12_u64 {
        (0..250).for_each(|prompt| engines.store(2, 1 + prompt, 0..200));
        if round < 11 {
            engines.event(2, Event::Cleared);
        }
    }
    let counts = engines.site.lane.counts();
    mirror.agrees(&engines, &[1, 2]).await;
    assert!(counts.behind.load(Relaxed) > 0);
    assert!(mirror.entries < 400_000, "{}", mirror.entries);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_more_there_is_the_fewer_positions_are_told() {
    let options = Options { bytes_per_second: 20_000_000, ..Options::default() };
    let engines = Engines::start(&[1], options).await;
    let mut mirror = engines.join().await;
    engines.store(1, 1, 0..100);
    mirror.agrees(&engines, &[1]).await;
    assert_eq!((mirror.level, mirror.holds[&1].len()), (0, 100));
    (2..1_400).for_each(|prompt| engines.store(1, prompt, 0..200));
    mirror.until("another level", |mirror| mirror.level == 1).await;
    mirror.agrees(&engines, &[1]).await;
    assert_eq!(mirror.holds[&1].len(), 50 + 1_398 * 100);
    assert!(mirror.holds[&1].values().all(|position| *position < 100), "positions count in steps of two");
    engines.event(1, Event::Cleared);
    engines.store(1, 1, 0..64);
    mirror.until("the first level again", |mirror| mirror.level == 0).await;
    mirror.agrees(&engines, &[1]).await;
    assert_eq!(mirror.holds[&1].len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranks_of_one_endpoint_are_never_more_than_gapped() {
    let engines = Engines::of_fleet(&[1], Options::default()).await;
    engines.admit(1, 2);
    let mut mirror = engines.join().await;
    engines.trust(1, Trust::Trusted);
    engines.store(1, 1, 0..3);
    mirror.agrees(&engines, &[1]).await;
    assert_eq!(mirror.ranks[&1], KvTrust::Cold, "the other one is not heard yet");
    let other = Heard { rank: RankId(1_101), what: What::Trust(Trust::Trusted) };
    engines.ears.take([other].into_iter(), std::time::Instant::now());
    mirror.until("trust", |mirror| mirror.ranks[&1] == KvTrust::Gapped).await;
}
