//! Engines, replicas, links and data planes of this test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use api::proto::{KvTrust, KvUpdate};

use super::super::*;
use crate::chance::testing::Rng;
use crate::kv::event::{Batch, Event, Removed, Stored, Tier};
use crate::kv::store::{RankId, Store, TextBlock};
use crate::kv::subscribe::{Heard as Said, What};
use crate::kv::supervise::{Board, Ears, OwnShelf, Seat};
use crate::kv::text::Reading;
use crate::kv::trust::Trust;
use crate::kv::vocabulary::Vocabulary;
use crate::publish::serve::Shelf;

pub(super) const MODEL: &str = "m";
pub(super) const ENGINES: usize = 4;
/// Tokens of a block of 64 bytes.
pub(super) const BLOCK: u64 = 16;
/// Of a prompt.
pub(super) const BLOCKS: u64 = 6;
pub(super) const PROMPTS: u64 = 5;

pub(super) fn key(engine: usize) -> EndpointKey {
    EndpointKey { uid: format!("e{engine}").into(), port: 8000, rank: 0 }
}

pub(super) fn reading() -> Reading {
    Reading { vocabulary: Arc::new(Vocabulary::quads()), fleet_seed: 5, model: MODEL.into() }
}

/// An engine: all that it ever said since it was empty, and what that comes to.
pub(super) struct Engine {
    pub(super) said: Vec<Event>,
    /// How many blocks of each prompt it has.
    pub(super) has: [u64; PROMPTS as usize],
    /// All may be lost: what follows is told from its beginning on.
    pub(super) clears: bool,
    pub(super) store: Store,
}

impl Engine {
    pub(super) fn new() -> Self {
        let mut store = Store::new();
        store.admit(RankId(0), 10_000);
        store.read_as(RankId(0), reading());
        Self { said: Vec::new(), has: [0; PROMPTS as usize], clears: true, store }
    }

    /// A prompt grows, loses its end, or all is lost.
    pub(super) fn act(&mut self, rng: &mut Rng) -> Event {
        let prompt = rng.index(PROMPTS as usize);
        let (has, name) = (self.has[prompt], |n: u64| (prompt as u64) << 32 | (n + 1));
        let event = match rng.index(20) {
            0 if self.clears => {
                self.has = [0; _];
                Event::Cleared
            }
            1..8 if has > 0 => {
                self.has[prompt] -= 1;
                Event::Removed(Removed { hashes: vec![name(has - 1)], tier: Tier::Device, group: 0 })
            }
            _ if has == BLOCKS => return self.act(rng),
            _ => {
                let to = has + 1 + rng.index((BLOCKS - has) as usize) as u64;
                self.has[prompt] = to;
                let tokens = |n: u64| (0..BLOCK).map(move |at| ((prompt as u64) << 12 | n << 4 | at) as u32);
                let tokens = (has..to).flat_map(tokens).collect();
                let parent = has.checked_sub(1).map(name);
                Event::Stored(Stored::plain((has..to).map(name).collect(), parent, tokens, BLOCK as u32))
            }
        };
        if event == Event::Cleared {
            self.said.clear();
        }
        self.said.push(event.clone());
        self.store.apply(RankId(0), &batch(&event), &mut Vec::new());
        event
    }

    pub(super) fn holds(&self) -> BTreeSet<u64> {
        let mut blocks = Vec::new();
        self.store.rank(RankId(0)).unwrap().page(0, 0, usize::MAX, &mut blocks);
        blocks.iter().map(|block: &TextBlock| block.hash).collect()
    }
}

pub(super) fn batch(event: &Event) -> Batch {
    Batch { events: vec![event.clone()], ..Batch::default() }
}

/// A page has few blocks.
#[derive(Debug)]
pub(super) struct Short(Arc<dyn Shelf>);

impl Shelf for Short {
    fn page(&self, model: &str, handle: u32, from: u32, blocks: &mut Vec<TextBlock>, most: usize) -> Option<u32> {
        self.0.page(model, handle, from, blocks, most.min(3))
    }
}

/// A replica with a data plane.
pub(super) struct Site {
    pub(super) ears: Arc<Ears>,
    pub(super) peers: Arc<Lane>,
    /// Each gives handles of its own, this one to the first engine.
    pub(super) first: u32,
    /// Engines that its config has.
    pub(super) placed: BTreeSet<usize>,
    /// The same when its data plane and who is told by it knew of it last.
    pub(super) names: Arc<Names>,
    /// The rank and the speaker of each engine that is heard.
    pub(super) hears: BTreeMap<usize, RankId>,
    pub(super) ranks: u32,
    pub(super) plane: Plane,
    pub(super) _shelves: [Arc<dyn Shelf>; 2],
}

impl Site {
    pub(super) fn new(epoch: u64) -> Self {
        let (lane, peers) = (Arc::new(Lane::new(epoch)), Arc::new(Lane::new(epoch)));
        let ears = Arc::new(Ears::new(lane.clone(), Arc::new(Board::default())).with_peers(peers.clone()));
        let shelves: [Arc<dyn Shelf>; 2] = [ears.clone(), Arc::new(OwnShelf(ears.clone()))];
        let shelves = shelves.map(|shelf| Arc::new(Short(shelf)) as Arc<dyn Shelf>);
        lane.read_from(&shelves[0]);
        peers.read_from(&shelves[1]);
        let (plane, first) = (Plane::new(lane), 100 * epoch as u32);
        let (placed, names, hears) = (BTreeSet::new(), Arc::default(), BTreeMap::new());
        let mut site = Self { ears, peers, first, placed, names, hears, ranks: 0, plane, _shelves: shelves };
        (0..ENGINES).for_each(|engine| site.place(engine));
        site.run();
        site
    }

    pub(super) fn handle(&self, engine: usize) -> u32 {
        self.first + engine as u32
    }

    pub(super) fn place(&mut self, engine: usize) {
        if self.placed.insert(engine) {
            self.ears.place(&key(engine), &MODEL.into(), self.handle(engine));
        }
    }

    pub(super) fn unplace(&mut self, engine: usize) {
        if self.placed.remove(&engine) {
            self.leave(engine);
            self.ears.leave(&key(engine), &MODEL.into());
        }
    }

    /// What the config has by now is known to all.
    pub(super) fn run(&mut self) {
        let named = self.placed.iter().map(|engine| (self.handle(*engine), key(*engine)));
        let keys: HashMap<u32, EndpointKey> = named.collect();
        let handles = keys.iter().map(|(handle, key)| (key.clone(), *handle)).collect();
        self.names = Arc::new(Names { keys, handles });
        self.plane.run(&self.names);
    }

    pub(super) fn say(&self, rank: RankId, what: What) {
        let speaker = RankId(1_000_000 + rank.0);
        self.ears.take([Said { rank: speaker, what }].into_iter(), Instant::now());
    }

    /// Reads all that it has said, and is not sure of it before that is done.
    pub(super) fn hear(&mut self, engine: usize, known: &Engine) {
        self.ranks += 1;
        let rank = RankId(self.ranks);
        let handle = self.handle(engine);
        let seat = Seat { key: key(engine), model: MODEL.into(), handle, capacity_tokens: 1_000, ranks: 1 };
        self.ears.expect(rank);
        self.ears.admit(rank, seat, 10_000, reading());
        self.ears.hear(RankId(1_000_000 + rank.0), rank);
        self.say(rank, What::Trust(Trust::Replaying));
        known.said.iter().for_each(|event| self.say(rank, What::Apply(batch(event))));
        self.say(rank, What::Trust(Trust::Trusted));
        self.hears.insert(engine, rank);
    }

    pub(super) fn may_hear(&self, engine: usize) -> bool {
        self.placed.contains(&engine) && !self.hears.contains_key(&engine)
    }

    pub(super) fn doubt(&self, engine: usize, trust: Trust) {
        self.hears.get(&engine).into_iter().for_each(|rank| self.say(*rank, What::Trust(trust)));
    }

    pub(super) fn leave(&mut self, engine: usize) {
        if let Some(rank) = self.hears.remove(&engine) {
            self.ears.let_go(rank);
        }
    }
}

/// What one site tells another, by one stream after another.
pub(super) struct Link {
    pub(super) told: Told,
    pub(super) heard: Heard,
    pub(super) stream: u64,
}

impl Link {
    pub(super) fn new(from: &Site) -> Self {
        static STREAMS: AtomicU64 = AtomicU64::new(1);
        let stream = STREAMS.fetch_add(1, Relaxed);
        Self { told: Told::new(from.peers.clone()), heard: Heard::default(), stream }
    }

    /// Whether there was anything.
    pub(super) fn carry(&mut self, from: &Site, to: &Site) -> bool {
        let reports = self.told.next(&from.names, Instant::now());
        for PeerReport { names, kv, .. } in &reports {
            self.heard.name(names).unwrap();
            for update in kv {
                to.ears.of_peer(self.heard.news(self.stream, update.clone()).unwrap(), Instant::now());
            }
        }
        !reports.is_empty()
    }
}

/// A data plane.
pub(super) struct Plane {
    pub(super) teller: Teller,
    pub(super) handles: Handles,
    pub(super) holds: BTreeMap<u32, BTreeSet<u64>>,
    pub(super) trusts: BTreeMap<u32, KvTrust>,
    pub(super) entries: usize,
}

impl Plane {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        let teller = Teller::new(lane, &Subscribe::default(), 1);
        Self { teller, handles: Handles::default(), holds: BTreeMap::new(), trusts: BTreeMap::new(), entries: 0 }
    }

    /// What its config has no longer it drops.
    pub(super) fn run(&mut self, names: &Names) {
        self.handles = Arc::new(names.keys.keys().copied().collect());
        self.read();
        self.holds.retain(|handle, _| names.keys.contains_key(handle));
        self.trusts.retain(|handle, _| names.keys.contains_key(handle));
    }

    pub(super) fn read(&mut self) -> bool {
        self.teller.knows(self.handles.clone(), Instant::now());
        let Some((update, entries)) = self.teller.next_update(Instant::now()) else { return false };
        let KvUpdate { reset, ranks, .. } = update;
        if reset {
            (self.holds, self.trusts) = (BTreeMap::new(), BTreeMap::new());
        }
        for rank in ranks {
            if rank.forget {
                self.holds.remove(&rank.handle);
            }
            self.trusts.insert(rank.handle, rank.trust());
        }
        for entry in entries.as_chunks::<16>().0 {
            let hash = u64::from_le_bytes(entry[..8].try_into().unwrap());
            let held = self.holds.entry(u32::from_le_bytes(entry[8..12].try_into().unwrap())).or_default();
            if entry[14] & 1 == 0 {
                held.insert(hash)
            } else {
                held.remove(&hash)
            };
            self.entries += 1;
        }
        true
    }
}

/// All of it.
pub(super) struct World {
    pub(super) engines: Vec<Engine>,
    pub(super) sites: [Site; 2],
    /// From the first to the second, and back.
    pub(super) links: [Link; 2],
}

impl World {
    pub(super) fn new() -> Self {
        let sites = [Site::new(1), Site::new(2)];
        let links = [Link::new(&sites[0]), Link::new(&sites[1])];
        Self { engines: (0..ENGINES).map(|_| Engine::new()).collect(), sites, links }
    }

    pub(super) fn act(&mut self, engine: usize, rng: &mut Rng) {
        let event = self.engines[engine].act(rng);
        for site in &self.sites {
            if let Some(rank) = site.hears.get(&engine) {
                site.say(*rank, What::Apply(batch(&event)));
            }
        }
    }

    pub(super) fn carry(&mut self, from: usize) -> bool {
        let [a, b] = &self.sites;
        let (from_site, to_site) = if from == 0 { (a, b) } else { (b, a) };
        self.links[from].carry(from_site, to_site)
    }

    pub(super) fn cut(&mut self, from: usize) {
        self.sites[1 - from].ears.peer_is_gone(self.links[from].stream, Instant::now());
        self.links[from] = Link::new(&self.sites[from]);
    }

    /// Until nothing moves any more.
    pub(super) fn rest(&mut self) {
        loop {
            let carried = [0, 1].map(|from| self.carry(from));
            let read = self.sites.each_mut().map(|site| site.plane.read());
            if carried == [false; 2] && read == [false; 2] {
                return;
            }
        }
    }

    /// The same, and what was said by who is heard no longer is over.
    pub(super) fn later(&mut self) {
        let later = Instant::now() + Duration::from_secs(10);
        self.rest();
        self.sites.iter().for_each(|site| site.ears.take(std::iter::empty(), later));
        self.rest();
    }

    /// The first site hears these, and all know what they have.
    pub(super) fn heard(engines: &[usize]) -> (Self, Rng) {
        let (mut rng, mut world) = (Rng::new(7), Self::new());
        for engine in engines {
            world.engines[*engine].clears = false;
            world.sites[0].hear(*engine, &world.engines[*engine]);
            (0..30).for_each(|_| world.act(*engine, &mut rng));
        }
        world.rest();
        (world, rng)
    }

    pub(super) fn step(&mut self, rng: &mut Rng) {
        let (engine, site) = (rng.index(ENGINES), rng.index(2));
        match rng.index(36) {
            30..32 => self.sites[site].unplace(engine),
            32..34 => self.sites[site].place(engine),
            34 => self.sites[site].run(),
            35 => self.sites[site].doubt(engine, Trust::Gapped),
            0..14 => self.act(engine, rng),
            14..16 if self.sites[site].may_hear(engine) => {
                self.sites[site].hear(engine, &self.engines[engine]);
            }
            16..18 => self.sites[site].leave(engine),
            18 => self.cut(site),
            19..25 => drop(self.carry(site)),
            _ => drop(self.sites[site].plane.read()),
        }
    }

    /// What each data plane holds of an engine, if it is trusted.
    pub(super) fn known(&self, engine: usize) -> [Option<BTreeSet<u64>>; 2] {
        self.sites.each_ref().map(|site| {
            let handle = site.handle(engine);
            let trusted = site.plane.trusts.get(&handle) == Some(&KvTrust::Trusted);
            trusted.then(|| site.plane.holds.get(&handle).cloned().unwrap_or_default())
        })
    }
}
