//! What is told of a rank's text, against a model that reads each prompt from its beginning.

use std::collections::{BTreeMap, BTreeSet};

use api::prefix;

use super::super::*;
use super::rules::store;
use crate::chance::testing::Rng;
use crate::kv::event::{Adapter, Extra, Removed, Salting, Stored};
use crate::kv::vocabulary::Vocabulary;

const RANK: RankId = RankId(7);
/// Tokens of a block: 20 bytes, so that a block of text takes three or four.
const BLOCK: usize = 5;

fn reading(vocabulary: Vocabulary) -> Reading {
    Reading { vocabulary: Arc::new(vocabulary), fleet_seed: 9, model: "m".into() }
}

/// A store, and what a listener that heard all its news holds.
struct Case {
    store: Store,
    told: BTreeMap<u64, u16>,
}

impl Case {
    fn new(vocabulary: Vocabulary) -> Self {
        let mut store = Store::new();
        store.admit(RANK, 10_000);
        store.read_as(RANK, reading(vocabulary));
        Self { store, told: BTreeMap::new() }
    }

    fn apply(&mut self, event: Event) {
        self.store.apply(RANK, &Batch { events: vec![event], ..Batch::default() }, &mut Vec::new());
        self.hear();
    }

    fn hear(&mut self) {
        let News { forgotten, blocks } = self.store.news(RANK);
        if forgotten {
            self.told.clear();
        }
        for TextBlock { hash, position, held } in blocks {
            let before = if held { self.told.insert(hash, position) } else { self.told.remove(&hash) };
            assert_eq!(before.is_some(), !held, "only what changes is told");
        }
    }

    fn settle(&mut self) {
        self.store.settle(RANK);
        self.hear();
    }

    fn rank(&self) -> &Rank {
        self.store.rank(RANK).unwrap()
    }

    /// All that a newcomer would be told, in pages.
    fn pages(&self, level: u8) -> BTreeSet<u64> {
        let (mut all, mut from) = (BTreeSet::new(), Some(0));
        while let Some(at) = from {
            let mut page = Vec::new();
            from = self.rank().page(level, at, 3, &mut page);
            all.extend(page.iter().map(|block| block.hash));
        }
        all
    }

    /// The digest and the pages say what was told, at every sampling level.
    fn agrees(&self) {
        for level in 0..4 {
            let told = self.told.iter().filter(|(_, position)| **position % (1 << level) == 0);
            let told: BTreeSet<u64> = told.map(|(hash, _)| *hash).collect();
            let digest = Digest { xor: told.iter().fold(0, |xor, hash| xor ^ hash), blocks: told.len() as u64 };
            assert_eq!((self.rank().sampled(level), self.pages(level)), (digest, told), "level {level}");
        }
        assert_eq!(self.rank().digest(), self.rank().sampled(0));
        assert!(self.told.keys().all(|hash| self.rank().tells(*hash)) && !self.rank().tells(1));
    }
}

/// A block by all tokens up to its end.
type Path = Vec<u32>;

fn name(path: &[u32]) -> u64 {
    path.iter().fold(7, |hash, token| (hash ^ u64::from(*token)).wrapping_mul(0x100_0000_01b3))
}

fn seed() -> u64 {
    reading(Vocabulary::quads()).seed(&Adapter::None, &Salting::None).unwrap()
}

/// The blocks of text of a prompt.
fn text(path: &[u32]) -> Vec<u64> {
    let bytes: Vec<u8> = path.iter().flat_map(|token| token.to_le_bytes()).collect();
    let mut hashes = Vec::new();
    prefix::chain(seed(), &bytes, &mut hashes);
    hashes
}

/// What can be hit, given how often each block is held.
fn expected(held: &BTreeMap<Path, u32>) -> BTreeMap<u64, u16> {
    let prefixes = |path: &Path| (1..=path.len() / BLOCK).map(|n| n * BLOCK).collect::<Vec<_>>();
    let reached = held.keys().filter(|path| prefixes(path).iter().all(|end| held.contains_key(&path[..*end])));
    reached.flat_map(|path| text(path).into_iter().zip(0..)).collect()
}

fn stored(path: &[u32], from: usize) -> Event {
    let ends: Vec<usize> = (from + 1..=path.len() / BLOCK).map(|n| n * BLOCK).collect();
    let hashes: Vec<u64> = ends.iter().map(|end| name(&path[..*end])).collect();
    let parent = (from > 0).then(|| name(&path[..from * BLOCK]));
    let tokens = path[from * BLOCK..].to_vec();
    Event::Stored(Stored { tokens, block_size: BLOCK as u32, ..store(parent, &hashes) })
}

/// A prompt of up to 12 blocks; two that part do so anywhere in a block.
fn prompt(rng: &mut Rng) -> Path {
    let blocks = 1 + rng.index(12);
    let (part, side) = (rng.index(60), 1 + rng.below(2) as u32);
    (0..blocks * BLOCK).map(|n| if n < part { 0x6161_6161 } else { 0x6262_6262 + side }).collect()
}

fn run(rng_seed: u64) {
    let mut rng = Rng::new(rng_seed);
    let mut case = Case::new(Vocabulary::quads());
    let mut held = BTreeMap::<Path, u32>::new();
    for _ in 0..150 {
        let path = prompt(&mut rng);
        let known: BTreeSet<Path> = held.keys().cloned().collect();
        let is_known = |end: usize| known.contains(&path[..end * BLOCK]);
        match rng.below(40) {
            0 => {
                case.apply(Event::Cleared);
                held.clear();
            }
            1..25 => {
                let from = (0..path.len() / BLOCK).rfind(|end| *end == 0 || is_known(*end)).unwrap_or(0);
                case.apply(stored(&path, from));
                (from + 1..=path.len() / BLOCK).for_each(|n| *held.entry(path[..n * BLOCK].to_vec()).or_default() += 1);
            }
            // Any block goes, not only last ones.
            _ => {
                let Some(gone) = known.iter().nth(rng.index(known.len().max(1))) else { continue };
                case.apply(Event::Removed(Removed { hashes: vec![name(gone)], tier: Tier::Device, group: 0 }));
                let count = held.get_mut(gone).unwrap();
                *count -= 1;
                held.retain(|_, count| *count > 0);
            }
        }
        case.settle();
        assert_eq!(case.told, expected(&held), "seed {rng_seed}");
        case.agrees();
    }
}

#[test]
fn what_is_told_is_what_a_request_would_hit() {
    (0..60).for_each(run);
}

fn of(count: usize) -> Path {
    (0..count * BLOCK).map(|n| 0x6161_0000 + n as u32).collect()
}

#[test]
fn behind_a_block_that_is_gone_nothing_is_told_until_it_is_back() {
    let mut case = Case::new(Vocabulary::quads());
    let path = of(16);
    case.apply(stored(&path, 0));
    let whole = case.told.clone();
    assert_eq!(whole.len(), 5);
    let second = || Event::Removed(Removed { hashes: vec![name(&path[..10])], tier: Tier::Device, group: 0 });
    case.apply(second());
    assert!(case.rank().is_unsettled());
    case.settle();
    assert!(case.told.is_empty(), "the first block of text ends in the fourth block");
    assert!(!case.rank().is_unsettled());
    case.agrees();
    // What comes behind it meanwhile is not told either.
    let longer = of(20);
    case.apply(stored(&longer, 16));
    assert!(case.told.is_empty());
    case.apply(stored(&path[..10], 1));
    case.settle();
    assert_eq!(case.told.len(), 6, "with what came meanwhile");
    assert!(whole.iter().all(|(hash, position)| case.told.get(hash) == Some(position)));
}

#[test]
fn a_block_on_the_host_is_as_good_as_one_on_the_device_and_one_farther_is_not() {
    let mut case = Case::new(Vocabulary::quads());
    let path = of(4);
    let hashes: Vec<u64> = (1..=4).map(|n| name(&path[..n * BLOCK])).collect();
    let at = |tier| Event::Stored(Stored { tokens: Vec::new(), tier, ..store(None, &hashes) });
    let gone = |tier| Event::Removed(Removed { hashes: hashes.clone(), tier, group: 0 });
    case.apply(stored(&path, 0));
    case.apply(at(Tier::Host));
    case.apply(at(Tier::External));
    case.apply(gone(Tier::Device));
    case.settle();
    assert_eq!(case.told.len(), 1);
    case.apply(gone(Tier::Host));
    case.settle();
    assert!(case.told.is_empty());
}

#[test]
fn a_token_that_cannot_be_read_ends_the_text() {
    let mut case = Case::new(Vocabulary::of_pieces(&[&[b'a'; 16], b"", &[b'b'; 16]]));
    let blocks = |tokens: &[u32]| {
        let hashes: Vec<u64> = (1..=tokens.len() as u64 / 4).collect();
        Event::Stored(Stored { tokens: tokens.to_vec(), block_size: 4, ..store(None, &hashes) })
    };
    case.apply(blocks(&[0, 0, 0, 0, 2, 1, 2, 2, 2, 2, 2, 2]));
    assert_eq!((case.told.len(), case.rank().len(), case.rank().unread()), (1, 3, 1));
    case.agrees();
}

#[test]
fn adapters_and_salts_have_texts_of_their_own() {
    let path = of(8);
    let hashes = |edit: &dyn Fn(&mut Stored)| {
        let mut case = Case::new(Vocabulary::quads());
        let Event::Stored(mut event) = stored(&path, 0) else { unreachable!() };
        edit(&mut event);
        case.apply(Event::Stored(event));
        case.told.keys().copied().collect::<Vec<_>>()
    };
    let salt = |model: &str, adapter: &str, cache_salt: &str| {
        let seed = prefix::seed(&prefix::Salt { fleet_seed: 9, model, adapter, cache_salt });
        let bytes: Vec<u8> = path.iter().flat_map(|token| token.to_le_bytes()).collect();
        let mut hashes = Vec::new();
        prefix::chain(seed, &bytes, &mut hashes);
        hashes.sort_unstable();
        hashes
    };
    assert_eq!(hashes(&|_| ()), salt("m", "", ""));
    assert_eq!(hashes(&|event| event.adapter = Adapter::Name("a".into())), salt("a", "a", ""));
    assert_eq!(hashes(&|event| event.salt = Some("s".into())), salt("m", "", "s"));
    let named = [[Extra::Text("a".into()), Extra::Text("s".into())].into()];
    let both = |event: &mut Stored| (event.adapter, event.extras) = (Adapter::Name("a".into()), named.to_vec());
    assert_eq!(hashes(&both), salt("a", "a", "s"));
    // Of an adapter's number no request knows.
    assert_eq!(hashes(&|event| event.adapter = Adapter::Number(1)), [0; 0]);
}

#[test]
fn records_are_moved_together_when_much_room_is_free() {
    let mut case = Case::new(Vocabulary::quads());
    let prompts: Vec<Path> = (0..400).map(|n| (0..40 * BLOCK).map(|at| (n << 16) + at as u32).collect()).collect();
    prompts.iter().for_each(|path| case.apply(stored(path, 0)));
    for path in &prompts[..300] {
        let hashes: Vec<u64> = (1..=40).rev().map(|n| name(&path[..n * BLOCK])).collect();
        case.apply(Event::Removed(Removed { hashes, tier: Tier::Device, group: 0 }));
    }
    assert!(case.rank().is_unsettled());
    let before = case.rank().bytes();
    case.settle();
    assert!(!case.rank().is_unsettled() && case.rank().bytes() < before);
    case.agrees();
    prompts[..10].iter().for_each(|path| case.apply(stored(path, 0)));
    case.agrees();
    assert_eq!(case.told.len(), 110 * 12);
}
