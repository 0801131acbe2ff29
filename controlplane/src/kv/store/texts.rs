//! The text of one rank's blocks, and which blocks of text that comes to.
//!
//! What a block of tokens adds is a record: the hashes that it completes, or where it completes none the last one before
//! it, and the bytes that it leaves over. Records lie in one array of words, by size in free lists. A block of text is
//! told once, however many blocks of tokens complete it: prompts that part within a block of tokens share its beginning.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{News, TextBlock};
use crate::kv::text::{Grown, Reading, Tail};

/// Words are added by this part of those there are.
const GROWTH: usize = 16;
/// Where so many words are free, and they are more than a quarter of all, records are moved together.
const SPARE: usize = 16 << 10;

/// Where a node's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Its first word.
    at: u32,
    /// Full blocks of text before it.
    position: u16,
    /// Blocks that it completes; its record has one hash where there are none.
    completed: u8,
    /// Bytes that it leaves over.
    rest: u8,
}

impl Record {
    /// Of a block whose text is not known.
    pub(super) const NONE: Self = Self { at: u32::MAX, position: 0, completed: 0, rest: 0 };

    fn hashes(self) -> usize {
        usize::from(self.completed).max(1)
    }

    fn words(self) -> usize {
        2 * self.hashes() + usize::from(self.rest).div_ceil(4)
    }

    fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// What a block's text goes on from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// It begins the prompt, whose chain begins with this.
    Seed(u64),
    /// Another block.
    Block(Record),
    /// That is not known.
    Nowhere,
}

/// What is told of one rank, as a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// The exclusive or of the hashes that are told.
    pub xor: u64,
    /// How many.
    pub blocks: u64,
}

impl Digest {
    /// A block came, or one that was there went.
    pub fn turn(&mut self, hash: u64, held: bool) {
        self.xor ^= hash;
        self.blocks = if held { self.blocks + 1 } else { self.blocks.saturating_sub(1) };
    }
}

/// The texts of one rank's blocks.
#[derive(Debug, Default)]
pub(super) struct Texts {
    reading: Option<Arc<Reading>>,
    words: Vec<u32>,
    /// By size the first free record, whose first word is the next one; [`NONE`] ends the list.
    free: Vec<u32>,
    freed: usize,
    /// The places of hashes of blocks that are told; of the same hash there may be several.
    told: HashTable<u32>,
    digest: Digest,
    news: News,
    grown: Grown,
    unread: u64,
}

const NONE: u32 = u32::MAX;

impl Texts {
    /// How tokens are read from here on.
    pub(super) fn read_as(&mut self, reading: Arc<Reading>) {
        self.reading = Some(reading);
    }

    pub(super) fn reading(&self) -> Option<&Reading> {
        self.reading.as_deref()
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Blocks of tokens whose text could not be read.
    pub(super) fn unread(&self) -> u64 {
        self.unread
    }

    pub(super) fn news(&mut self) -> &mut News {
        &mut self.news
    }

    pub(super) fn bytes(&self) -> usize {
        let words = (self.words.capacity() + self.free.capacity()) * size_of::<u32>();
        words + self.told.allocation_size() + self.grown.bytes() + self.news.blocks.capacity() * size_of::<TextBlock>()
    }

    /// The record of a block with these tokens.
    pub(super) fn add(&mut self, from: From, tokens: &[u32]) -> Record {
        let Some(reading) = self.reading.clone() else { return Record::NONE };
        let mut rest = [0; 64];
        let tail = match from {
            From::Nowhere => return Record::NONE,
            From::Block(record) if record.is_none() => return Record::NONE,
            From::Seed(seed) => Tail { previous: seed, blocks: 0, rest: &[] },
            From::Block(record) => self.tail(record, &mut rest),
        };
        let mut grown = std::mem::take(&mut self.grown);
        let record = match grown.grow(&tail, tokens, &reading.vocabulary) {
            true => self.put(&tail, &grown),
            false => {
                self.unread += 1;
                Record::NONE
            }
        };
        self.grown = grown;
        record
    }

    fn tail<'r>(&self, record: Record, rest: &'r mut [u8; 64]) -> Tail<'r> {
        let hashes = record.hashes();
        let previous = self.hash(record.at + 2 * (hashes as u32 - 1));
        let words = &self.words[record.at as usize + 2 * hashes..record.at as usize + record.words()];
        for (bytes, word) in rest.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let blocks = usize::from(record.position) + usize::from(record.completed);
        Tail { previous, blocks, rest: &rest[..usize::from(record.rest)] }
    }

    fn put(&mut self, tail: &Tail<'_>, grown: &Grown) -> Record {
        let (completed, rest) = (grown.completed(), grown.rest());
        let mut record =
            Record { at: 0, position: tail.blocks as u16, completed: completed.len() as u8, rest: rest.len() as u8 };
        let before = [tail.previous];
        let hashes = if completed.is_empty() { &before[..] } else { completed };
        record.at = self.room(record.words());
        let mut at = record.at as usize;
        for hash in hashes {
            self.words[at] = *hash as u32;
            self.words[at + 1] = (*hash >> 32) as u32;
            at += 2;
        }
        for bytes in rest.chunks(4) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.words[at] = u32::from_le_bytes(word);
            at += 1;
        }
        record
    }

    fn room(&mut self, words: usize) -> u32 {
        if let Some(first) = self.free.get_mut(words).filter(|first| **first != NONE) {
            let at = *first;
            *first = self.words[at as usize];
            self.freed -= words;
            return at;
        }
        let at = self.words.len();
        if at + words > self.words.capacity() {
            self.words.reserve_exact(at / GROWTH + words + 64);
        }
        self.words.resize(at + words, 0);
        at as u32
    }

    /// The record of a block that is no more.
    pub(super) fn remove(&mut self, record: Record) {
        if record.is_none() {
            return;
        }
        let words = record.words();
        if self.free.len() <= words {
            self.free.resize(words + 1, NONE);
        }
        self.words[record.at as usize] = std::mem::replace(&mut self.free[words], record.at);
        self.freed += words;
    }

    /// Says that what a block completes is there, or no longer.
    pub(super) fn tell(&mut self, record: Record, held: bool) {
        if record.is_none() {
            return;
        }
        for n in 0..u32::from(record.completed) {
            let (at, position) = (record.at + 2 * n, record.position + n as u16);
            let hash = self.hash(at);
            let alone = if held { self.hold(at, hash) } else { self.release(at, hash) };
            if alone {
                self.digest.turn(hash, held);
                self.news.blocks.push(TextBlock { hash, position, held });
            }
        }
    }

    fn hold(&mut self, at: u32, hash: u64) -> bool {
        let Self { told, words, .. } = self;
        let alone = told.find(hash, |other| hash_at(words, *other) == hash).is_none();
        told.insert_unique(hash, at, |other| hash_at(words, *other));
        alone
    }

    fn release(&mut self, at: u32, hash: u64) -> bool {
        let Self { told, words, .. } = self;
        if let Ok(entry) = told.find_entry(hash, |other| *other == at) {
            entry.remove();
        }
        told.find(hash, |other| hash_at(words, *other) == hash).is_none()
    }

    fn hash(&self, at: u32) -> u64 {
        hash_at(&self.words, at)
    }

    /// Appends what a block completes, of the positions that are told at a sampling level.
    pub(super) fn list(&self, record: Record, level: u8, blocks: &mut Vec<TextBlock>) {
        if record.is_none() {
            return;
        }
        let all = (0..u32::from(record.completed)).map(|n| (record.at + 2 * n, record.position + n as u16));
        let block = |(at, position)| TextBlock { hash: self.hash(at), position, held: true };
        blocks.extend(all.map(block).filter(|block| block.is_at(level)));
    }

    /// What is told at a sampling level. `records` are those of blocks that are told.
    pub(super) fn sampled(&self, level: u8, records: impl Iterator<Item = Record>) -> Digest {
        let (mut digest, mut blocks) = (Digest::default(), Vec::new());
        for record in records {
            blocks.clear();
            self.list(record, level, &mut blocks);
            for block in &blocks {
                // Of several places that complete it, the first that is found stands for all.
                let first = self.told.find(block.hash, |other| self.hash(*other) == block.hash);
                let own = |at: u32| (record.at..record.at + 2 * u32::from(record.completed)).contains(&at);
                if first.is_some_and(|at| own(*at)) {
                    digest.turn(block.hash, true);
                }
            }
        }
        digest
    }

    /// Whether a block is told.
    pub(super) fn tells(&self, hash: u64) -> bool {
        self.told.find(hash, |other| self.hash(*other) == hash).is_some()
    }

    /// Whether it is time to [`Self::gather`].
    pub(super) fn is_sparse(&self) -> bool {
        self.freed > SPARE && self.freed > self.words.len() / 4
    }

    /// Moves all records together; each is given with whether it is told.
    pub(super) fn gather<'r>(&mut self, records: impl Iterator<Item = (&'r mut Record, bool)>) {
        let before = std::mem::take(&mut self.words);
        self.words.reserve_exact(before.len() - self.freed + SPARE);
        (self.free, self.freed) = (Vec::new(), 0);
        self.told.clear();
        for (record, told) in records.filter(|(record, _)| !record.is_none()) {
            let words = &before[record.at as usize..record.at as usize + record.words()];
            record.at = self.words.len() as u32;
            self.words.extend_from_slice(words);
            for n in 0..u32::from(if told { record.completed } else { 0 }) {
                let (at, words) = (record.at + 2 * n, &self.words);
                self.told.insert_unique(hash_at(words, at), at, |other| hash_at(words, *other));
            }
        }
    }

    /// Nothing is there any longer.
    pub(super) fn clear(&mut self) {
        let Self { reading, unread, .. } = std::mem::take(self);
        // What was to be told of before is void, and whoever was told of anything has to forget it.
        let news = News { forgotten: true, blocks: Vec::new() };
        *self = Self { reading, unread, news, ..Self::default() };
    }
}

fn hash_at(words: &[u32], at: u32) -> u64 {
    u64::from(words[at as usize]) | u64::from(words[at as usize + 1]) << 32
}
