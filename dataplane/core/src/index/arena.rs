//! Records of 64 bytes for the owners of keys that more than three hold. A record says which key it belongs to; a
//! reader looks at that after it has read the owners, so one that was given to another key meanwhile is not believed.

use std::sync::Arc;

use super::sync::{AtomicU64, Cached, Ordering, Swap, cached};
use super::types::OwnerId;

/// Records that one key may chain.
pub(super) const MAX_RECORDS: usize = 8;
/// Owner words of a record, and records that are allocated together.
#[cfg(not(all(loom, test)))]
const SIZES: (usize, usize) = (6, 1024);
#[cfg(all(loom, test))]
const SIZES: (usize, usize) = (2, 1);
const WORDS: usize = SIZES.0;
const CHUNK: usize = SIZES.1;

const ID_BITS: u32 = 20;
const ID_MASK: u64 = (1 << ID_BITS) - 1;

/// Three owners of 20 bits each above four bits that say which of the three are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Three(pub(super) u64);

impl Three {
    pub(super) fn owners(self) -> impl Iterator<Item = OwnerId> {
        let id = move |slot: u32| OwnerId((self.0 >> (4 + ID_BITS * slot) & ID_MASK) as u32);
        (0..3).filter(move |slot| self.0 >> slot & 1 == 1).map(id)
    }

    pub(super) fn holds(self, owner: OwnerId) -> bool {
        self.owners().any(|found| found == owner)
    }

    pub(super) fn with(self, owner: OwnerId) -> Option<Self> {
        let slot = (0..3).find(|slot| self.0 >> slot & 1 == 0)?;
        let cleared = self.0 & !(ID_MASK << (4 + ID_BITS * slot));
        Some(Self(cleared | u64::from(owner.0) << (4 + ID_BITS * slot) | 1 << slot))
    }

    pub(super) fn without(self, owner: OwnerId) -> Self {
        let gone =
            |slot: &u32| self.0 >> slot & 1 == 1 && self.0 >> (4 + ID_BITS * slot) & ID_MASK == u64::from(owner.0);
        // An empty word is 0, whatever ids it held: the cell's value 0 means that the key is absent.
        let left = (0..3).find(gone).map_or(self.0, |slot| self.0 & !(1 << slot));
        if left & 0b111 == 0 { Self(0) } else { Self(left) }
    }
}

#[derive(Debug)]
struct Record {
    /// 0 while the record is free.
    key: AtomicU64,
    /// The next record's number plus one, or 0.
    next: AtomicU64,
    owners: [AtomicU64; WORDS],
}

type Chunk = Arc<[Record]>;
type Directory = Box<[Chunk]>;

/// The writer's side. Chunks are never given back: the arena is as large as it was at its fullest.
#[derive(Debug)]
pub(super) struct Arena {
    shared: Arc<Swap<Directory>>,
    chunks: Vec<Chunk>,
    free: Vec<u32>,
}

/// One reader's side.
#[derive(Debug, Clone)]
pub(super) struct ArenaReader {
    directory: Cached<Directory>,
}

fn record(chunks: &[Chunk], at: u32) -> Option<&Record> {
    chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)
}

impl ArenaReader {
    /// Calls `each` with the owners of a key whose cell names this record, until it returns false.
    pub(super) fn owners(&mut self, first: u32, key: u64, mut each: impl FnMut(OwnerId) -> bool) {
        let directory = self.directory.load();
        let mut at = first;
        for _ in 0..MAX_RECORDS {
            let Some(record) = record(directory, at) else { return };
            let next = record.next.load(Ordering::Acquire);
            let words: [u64; WORDS] = std::array::from_fn(|word| record.owners[word].load(Ordering::Acquire));
            // Whoever gave the record to another key wiped this first: having seen the other's owners, we see that.
            if record.key.load(Ordering::Acquire) != key {
                return;
            }
            if !words.iter().flat_map(|&word| Three(word).owners()).all(&mut each) || next == 0 {
                return;
            }
            at = (next - 1) as u32;
        }
    }

    pub(super) fn refresh(&mut self) {
        self.directory.load();
    }
}

impl Arena {
    pub(super) fn new() -> Self {
        Self { shared: Arc::new(Swap::new(Arc::new(Box::default()))), chunks: Vec::new(), free: Vec::new() }
    }

    pub(super) fn reader(&self) -> ArenaReader {
        ArenaReader { directory: cached(&self.shared) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Record>()
    }

    /// A record chain for a key, holding these three.
    pub(super) fn start(&mut self, key: u64, three: Three) -> u32 {
        self.take(key, three)
    }

    pub(super) fn owners(&self, first: u32) -> impl Iterator<Item = OwnerId> {
        self.words(first).flat_map(|(at, word)| self.word(at, word).owners())
    }

    /// False when the chain is as long as it may be. The owner is not in it yet.
    pub(super) fn add(&mut self, first: u32, key: u64, owner: OwnerId) -> bool {
        let free = self.words(first).find_map(|(at, word)| Some((at, word, self.word(at, word).with(owner)?)));
        if let Some((at, word, three)) = free {
            self.record(at).owners[word].store(three.0, Ordering::Release);
            return true;
        }
        let records = self.words(first).count() / WORDS;
        if records == MAX_RECORDS {
            return false;
        }
        let last = self.words(first).last().map_or(first, |(at, _)| at);
        let three = Three(0).with(owner).expect("an empty word has room");
        let added = self.take(key, three);
        self.record(last).next.store(u64::from(added) + 1, Ordering::Release);
        true
    }

    /// Takes an owner out of the chain.
    pub(super) fn drop_owner(&mut self, first: u32, owner: OwnerId) {
        let found = self.words(first).find(|&(at, word)| self.word(at, word).holds(owner));
        if let Some((at, word)) = found {
            let three = self.word(at, word).without(owner);
            self.record(at).owners[word].store(three.0, Ordering::Release);
        }
    }

    /// Frees a chain that no cell names any more.
    pub(super) fn end(&mut self, first: u32) {
        let mut next = u64::from(first) + 1;
        while next != 0 {
            let at = (next - 1) as u32;
            let record = self.record(at);
            next = record.next.load(Ordering::Relaxed);
            record.key.store(0, Ordering::Release);
            self.free.push(at);
        }
    }

    fn take(&mut self, key: u64, three: Three) -> u32 {
        if self.free.is_empty() {
            self.grow();
        }
        let at = self.free.pop().expect("a chunk was just added");
        let record = self.record(at);
        record.next.store(0, Ordering::Release);
        for word in &record.owners[1..] {
            word.store(0, Ordering::Release);
        }
        record.owners[0].store(three.0, Ordering::Release);
        record.key.store(key, Ordering::Release);
        at
    }

    fn grow(&mut self) {
        let blank = |_| Record {
            key: AtomicU64::new(0),
            next: AtomicU64::new(0),
            owners: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        let from = self.chunks.len() * CHUNK;
        self.chunks.push((0..CHUNK).map(blank).collect());
        self.shared.store(Arc::new(self.chunks.clone().into_boxed_slice()));
        self.free.extend((from..from + CHUNK).rev().map(|at| at as u32));
    }

    fn record(&self, at: u32) -> &Record {
        record(&self.chunks, at).expect("record numbers come from this arena")
    }

    fn word(&self, at: u32, word: usize) -> Three {
        Three(self.record(at).owners[word].load(Ordering::Relaxed))
    }

    fn words(&self, first: u32) -> impl Iterator<Item = (u32, usize)> {
        let next = |at: &u32| self.record(*at).next.load(Ordering::Relaxed).checked_sub(1).map(|at| at as u32);
        std::iter::successors(Some(first), next).flat_map(|at| (0..WORDS).map(move |word| (at, word)))
    }
}
