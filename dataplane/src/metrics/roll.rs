//! Who is counted: from labels to cells on each core, and all cells of the process for the scrape.
//!
//! How cells are given back. Names come and go with the table: models, routes, backends (an endpoint's count is the
//! table's own, and leaves with it). Every five seconds the tables thread looks at all cells; those with a label that the
//! table in force has not are marked. A core that sees the mark in its sweep, once a second, drops them from its own
//! map, and needs no lock for it; requests that still run keep theirs. Cells that nobody but the roll holds can be
//! written by nobody, and once that has been so for five minutes, in which everybody who scrapes has seen the last value,
//! they are forgotten: all cells of a model, route, backend and upstream model at once, on all cores, for a family may be
//! told by these and not by the rest of the labels, and would go backwards were a part of them taken away. Families that are told by fewer labels
//! than even that, such as the time to the first token by model and backend, go on while these are there; what
//! was forgotten stays in their sum as a rest, without its other labels. So no counter goes backwards while it is there;
//! one that comes back later begins at zero, which Prometheus takes for a restart. Should the labels come back before that, a core goes on with
//! the cells that it finds. (Prometheus' libraries have `remove`, and leave to the caller who may still write. Envoy marks, has its workers purge their
//! caches, and then deletes, as here; what a worker counts between the first two may be lost there.)

mod keyed;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashTable;

use super::in_force::InForce;

pub(super) use keyed::{Departure, Keyed};

/// Series of one process, all cores together. Past it, requests are counted under `model="other"`.
pub const MAX_SERIES: usize = 5_000;

/// Label sets that a core remembers to be too many.
const REFUSED: usize = 4 * MAX_SERIES;

/// All cells of one kind in a process.
#[derive(Debug)]
pub struct All<T> {
    roll: Mutex<Roll<T>>,
    /// Goes up when cells are marked, and when some are forgotten.
    marked: AtomicU64,
    forgotten: AtomicU64,
}

#[derive(Debug)]
struct Roll<T> {
    cells: Vec<Arc<T>>,
    /// What was forgotten, by coarser labels. Each is replaced whole, for a scrape may be reading it.
    rests: Vec<Arc<T>>,
    /// Sets of labels.
    sets: usize,
}

/// All cells of one kind, and the rests of those that were forgotten; in no order.
#[derive(Debug)]
pub struct Told<T> {
    /// Of all cores.
    pub cells: Vec<Arc<T>>,
    /// For families that are told by coarser labels.
    pub rests: Vec<Arc<T>>,
}

impl<T> Default for All<T> {
    fn default() -> Self {
        let roll = Roll { cells: Vec::new(), rests: Vec::new(), sets: 0 };
        Self { roll: Mutex::new(roll), marked: AtomicU64::new(0), forgotten: AtomicU64::new(0) }
    }
}

impl<T> All<T> {
    /// What there is to tell.
    pub fn told(&self) -> Told<T> {
        let Roll { cells, rests, .. } = &*self.lock();
        Told { cells: cells.clone(), rests: rests.clone() }
    }

    /// How many of them are on their way out.
    pub(super) fn leaving(&self) -> usize
    where
        T: Keyed,
    {
        self.lock().cells.iter().filter(|cells| cells.departure().begun()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Roll<T>> {
        self.roll.lock().expect("no thread panics while it holds this list")
    }
}

impl<T: Keyed> All<T> {
    /// Cells with these labels that one core may write; none if there are too many sets of labels.
    fn enter(&self, labels: &T::Labels<'_>, bounded: bool) -> Option<Arc<T>> {
        let roll = &mut *self.lock();
        let mut known = false;
        for cells in roll.cells.iter_mut().filter(|cells| cells.is(labels)) {
            known = true;
            // Nobody else has them any more.
            if Arc::get_mut(cells).is_some() {
                cells.departure().end();
                return Some(cells.clone());
            }
        }
        if !known && bounded {
            if roll.sets >= MAX_SERIES {
                return None;
            }
            roll.sets += 1;
        }
        let cells = Arc::new(T::with(labels));
        roll.cells.push(cells.clone());
        Some(cells)
    }

    /// Marks what is out of force, and forgets what has been that for long enough.
    pub(super) fn forget(&self, names: &InForce<'_>, now_ms: u64) {
        let mut marked = false;
        for cells in self.told().cells {
            match (T::in_force(&cells.labels(), names), cells.departure().begun()) {
                (true, true) => cells.departure().end(),
                (false, false) => {
                    cells.departure().begin(now_ms);
                    marked = true;
                }
                _ => {}
            }
        }
        if marked {
            self.marked.fetch_add(1, Release);
        }
        if self.lock().forget(names, now_ms) {
            self.forgotten.fetch_add(1, Release);
        }
    }
}

impl<T: Keyed> Roll<T> {
    /// Whether anything was forgotten.
    fn forget(&mut self, names: &InForce<'_>, now_ms: u64) -> bool {
        for cells in &mut self.cells {
            // Whoever else holds it may write it.
            if cells.departure().begun() && Arc::get_mut(cells).is_none() {
                cells.departure().begin(now_ms);
            }
        }
        let over = self.over(now_ms);
        let gone = split(&mut self.cells, &over);
        self.sets -= gone.iter().map(|cells| cells.labels()).collect::<HashSet<_>>().len();
        self.fold(&gone);
        loop {
            let untold = self.untold(names);
            let untold = split(&mut self.rests, &untold);
            if untold.is_empty() {
                return !gone.is_empty();
            }
            self.fold(&untold);
        }
    }

    /// Of each, whether its time is over, and that of all that are told together with it.
    fn over(&self, now_ms: u64) -> Vec<bool> {
        let over: Vec<bool> = self.cells.iter().map(|cells| cells.departure().is_over(now_ms)).collect();
        if !over.contains(&true) {
            return over;
        }
        let groups = || self.cells.iter().map(|cells| T::group(&cells.labels())).zip(&over);
        let stay: HashSet<_> = groups().filter(|(_, over)| !**over).map(|(group, _)| group).collect();
        groups().map(|(group, over)| *over && !stay.contains(&group)).collect()
    }

    /// What was forgotten stays in the sums that go on.
    fn fold(&mut self, gone: &[Arc<T>]) {
        let mut sums: HashMap<T::Labels<'_>, T> = HashMap::new();
        for cells in gone {
            if let Some(coarser) = T::coarser(&cells.labels()) {
                sums.entry(coarser).or_insert_with(|| T::with(&coarser)).absorb(cells);
            }
        }
        let into = self.rests.iter().map(|rest| {
            let sum = sums.remove(&rest.labels())?;
            sum.absorb(rest);
            Some(sum)
        });
        let into: Vec<Option<T>> = into.collect();
        let new: Vec<T> = sums.into_values().collect();
        for (rest, sum) in self.rests.iter_mut().zip(into) {
            sum.into_iter().for_each(|sum| *rest = Arc::new(sum));
        }
        self.rests.extend(new.into_iter().map(Arc::new));
    }

    /// Of each rest, whether it is out of force and alone in its sums.
    fn untold(&self, names: &InForce<'_>) -> Vec<bool> {
        let out: Vec<bool> = self.rests.iter().map(|rest| !T::in_force(&rest.labels(), names)).collect();
        if !out.contains(&true) {
            return out;
        }
        let mut told = HashSet::new();
        for cells in self.cells.iter().chain(&self.rests) {
            let mut coarser = T::coarser(&cells.labels());
            while let Some(labels) = coarser {
                told.insert(labels);
                coarser = T::coarser(&labels);
            }
        }
        self.rests.iter().zip(out).map(|(rest, out)| out && !told.contains(&rest.labels())).collect()
    }
}

/// Takes those out that are to go.
fn split<T>(list: &mut Vec<Arc<T>>, go: &[bool]) -> Vec<Arc<T>> {
    if !go.contains(&true) {
        return Vec::new();
    }
    let all = mem::take(list).into_iter().zip(go);
    let (gone, stay): (Vec<_>, Vec<_>) = all.partition(|(_, go)| **go);
    *list = stay.into_iter().map(|(cells, _)| cells).collect();
    gone.into_iter().map(|(cells, _)| cells).collect()
}

/// One core's way from labels to cells.
#[derive(Debug)]
pub struct OfCore<T> {
    all: Arc<All<T>>,
    known: RefCell<HashTable<Arc<T>>>,
    /// Hashes of labels that were too many, so that the list is not asked for them each time.
    refused: RefCell<HashSet<u64, ahash::RandomState>>,
    hasher: ahash::RandomState,
    /// As far as the roll had come when this was last swept.
    swept: Cell<(u64, u64)>,
}

impl<T: Keyed> OfCore<T> {
    /// With nothing counted yet.
    pub fn new(all: Arc<All<T>>) -> Self {
        let hasher = ahash::RandomState::new();
        Self { all, known: RefCell::default(), refused: RefCell::default(), hasher, swept: Cell::default() }
    }

    /// The cells for these labels, made on first use.
    pub fn of(&self, labels: &T::Labels<'_>) -> Arc<T> {
        let hash = self.hasher.hash_one(labels);
        if let Some(cells) = self.find(hash, labels) {
            return cells;
        }
        if !self.refused.borrow().contains(&hash) {
            if let Some(cells) = self.all.enter(labels, true) {
                return self.keep(hash, cells);
            }
            self.refuse(hash);
        }
        let other = T::other(labels);
        let hash = self.hasher.hash_one(other);
        self.find(hash, &other).unwrap_or_else(|| {
            let cells = self.all.enter(&other, false).expect("it is not bounded");
            self.keep(hash, cells)
        })
    }

    /// Lets go of cells that are on their way out, and tries anew what was too much. Now and then, between requests.
    pub fn sweep(&self) {
        let now = (self.all.marked.load(Acquire), self.all.forgotten.load(Acquire));
        let before = self.swept.replace(now);
        if before.0 != now.0 {
            let known = &mut *self.known.borrow_mut();
            known.retain(|cells| !cells.departure().begun());
            if known.capacity() > 4 * known.len() {
                known.shrink_to_fit(|cells| self.hasher.hash_one(cells.labels()));
            }
        }
        if before.1 != now.1 {
            self.refused.take();
        }
    }

    fn find(&self, hash: u64, labels: &T::Labels<'_>) -> Option<Arc<T>> {
        self.known.borrow().find(hash, |cells| cells.is(labels)).cloned()
    }

    fn keep(&self, hash: u64, cells: Arc<T>) -> Arc<T> {
        let mut known = self.known.borrow_mut();
        known.insert_unique(hash, cells.clone(), |cells| self.hasher.hash_one(cells.labels()));
        cells
    }

    fn refuse(&self, hash: u64) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= REFUSED {
            refused.clear();
        }
        refused.insert(hash);
    }
}

#[cfg(test)]
mod tests;
