//! One generation of a segment: open addressing over atomic cells. A cell never changes its key, so a reader cannot
//! pair one key with another's value; whoever removes a key leaves value 0 behind until the next generation.

use super::sync::{AtomicU64, Ordering};

#[derive(Debug)]
struct Cell {
    /// 0 while the cell was never used.
    key: AtomicU64,
    /// 0 while the key is absent.
    value: AtomicU64,
}

/// What the writer finds where a key is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The key has this cell.
    Here(usize),
    /// The key would take this one.
    Free(usize),
    /// Neither: every cell is used by other keys.
    Full,
}

/// A fixed number of cells.
#[derive(Debug)]
pub(super) struct Cells {
    cells: Box<[Cell]>,
    /// Top bits that chose the segment, and say nothing within it.
    skip_bits: u32,
}

/// What one cell takes.
pub(super) const CELL_BYTES: usize = 16;

impl Cells {
    pub(super) fn new(len: usize, skip_bits: u32) -> Self {
        let cell = |_| Cell { key: AtomicU64::new(0), value: AtomicU64::new(0) };
        Self { cells: (0..len).map(cell).collect(), skip_bits }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Any thread. The value was stored before the key, so a key that is seen has one.
    pub(super) fn value_of(&self, key: u64) -> u64 {
        match self.find(key) {
            Found::Here(at) => self.cells[at].value.load(Ordering::Acquire),
            Found::Free(_) | Found::Full => 0,
        }
    }

    /// Reads the cell where a key is looked for first.
    pub(super) fn warm(&self, key: u64) -> u64 {
        self.cells[self.home(key)].key.load(Ordering::Relaxed)
    }

    pub(super) fn find(&self, key: u64) -> Found {
        let len = self.cells.len();
        let mut at = self.home(key);
        for _ in 0..len {
            match self.cells[at].key.load(Ordering::Acquire) {
                found if found == key => return Found::Here(at),
                0 => return Found::Free(at),
                _ => at = if at + 1 == len { 0 } else { at + 1 },
            }
        }
        Found::Full
    }

    /// Writer only.
    pub(super) fn set_value(&self, at: usize, value: u64) {
        self.cells[at].value.store(value, Ordering::Release);
    }

    /// Writer only; the cell is free.
    pub(super) fn occupy(&self, at: usize, key: u64, value: u64) {
        self.cells[at].value.store(value, Ordering::Release);
        self.cells[at].key.store(key, Ordering::Release);
    }

    /// The pair in a cell; key or value 0 where there is none.
    pub(super) fn pair(&self, at: usize) -> (u64, u64) {
        let key = self.cells[at].key.load(Ordering::Acquire);
        (key, self.cells[at].value.load(Ordering::Acquire))
    }

    /// Where a key's search begins. Keys are hashes: their order is kept, so a rebuild reads and writes in sequence.
    fn home(&self, key: u64) -> usize {
        let spread = u128::from(key << self.skip_bits) * self.cells.len() as u128;
        (spread >> 64) as usize
    }
}
