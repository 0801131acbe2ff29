//! The marks of one endpoint in the order of their use: a queue in which a mark that is used again is entered again, and what
//! it was before is passed over. About 80 bytes per mark.

use std::collections::{HashMap, VecDeque};

use api::predictions::Mark;

/// Marks of one chain that a use refreshes: 4 MiB of text.
const MOST_OF_A_CHAIN: usize = api::limits::MAX_BLOCKS / api::limits::MARK_EVERY_BLOCKS;

#[derive(Debug, Default)]
pub(super) struct Endpoint {
    marks: HashMap<u64, Place>,
    /// Oldest first; an entry counts only where the mark's place says its number.
    order: VecDeque<(u64, u64)>,
    numbered: u64,
    capacity: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    number: u64,
    /// The mark before it in its chain; 0: none, or not known.
    parent: u64,
    /// One of our own data planes predicts it; not only another replica's.
    ours: bool,
}

/// A mark that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) hash: u64,
    /// The mark before it in its chain; 0: none, or not known.
    pub(super) parent: u64,
    /// A run ends with it: all before it in its chain was asked for.
    pub(super) ends: bool,
    /// By one of our own data planes.
    pub(super) ours: bool,
}

impl Endpoint {
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn knows(&self, hash: u64) -> bool {
        self.marks.contains_key(&hash)
    }

    pub(super) fn set_capacity(&mut self, marks: usize) {
        self.capacity = marks;
        self.make_room(marks);
    }

    /// It is asked for a mark; where `full` another one leaves for it. Whether it is a new one.
    pub(super) fn mark(&mut self, asked: Asked, full: bool) -> bool {
        let Asked { hash, parent, ends, ours } = asked;
        let news = !self.marks.contains_key(&hash);
        match self.marks.get_mut(&hash) {
            Some(place) => {
                // A run that begins with it does not know what it follows.
                place.parent = if parent == 0 { place.parent } else { parent };
                place.ours |= ours;
            }
            None => {
                let held = self.len();
                let most = if full { held.saturating_sub(1) } else { self.capacity - 1 };
                self.make_room(most.min(self.capacity - 1));
                if full && self.len() == held {
                    return false;
                }
                self.marks.insert(hash, Place { number: 0, parent, ours });
            }
        }
        self.touch(hash, if ends { MOST_OF_A_CHAIN } else { 1 });
        if self.order.len() > 2 * self.marks.len() + 64 {
            let marks = &self.marks;
            self.order.retain(|(hash, number)| marks.get(hash).is_some_and(|place| place.number == *number));
        }
        news
    }

    /// The chain's end is the oldest of it, for engines let go of leaves first.
    fn touch(&mut self, hash: u64, most: usize) {
        let mut hash = hash;
        for _ in 0..most {
            let Some(place) = self.marks.get_mut(&hash) else { return };
            self.numbered += 1;
            place.number = self.numbered;
            let parent = place.parent;
            self.order.push_back((hash, self.numbered));
            hash = parent;
        }
    }

    /// Lets go of the oldest until there are so many at most.
    pub(super) fn make_room(&mut self, most: usize) {
        while self.marks.len() > most {
            let Some((hash, number)) = self.order.pop_front() else { return };
            if self.marks.get(&hash).is_some_and(|place| place.number == number) {
                self.marks.remove(&hash);
            }
        }
    }

    /// All its marks as runs, those used last at the end; or only `ours`, and what each of these follows.
    pub(super) fn runs(&self, handle: u32, only_ours: bool) -> Vec<Mark> {
        let current = |(hash, number): &(u64, u64)| {
            let place = self.marks.get(hash).filter(|place| place.number == *number)?;
            (place.ours || !only_ours).then_some((*hash, place.parent))
        };
        let mut runs: Vec<Vec<Mark>> = Vec::new();
        for (hash, parent) in self.order.iter().rev().filter_map(current) {
            let mark = |hash, position| Mark { hash, handle, position };
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|last| last.hash == parent && last.position < u16::MAX) => {
                    let position = run.len() as u16;
                    run.push(mark(hash, position));
                }
                _ if parent != 0 && self.marks.contains_key(&parent) => runs.push(vec![mark(parent, 0), mark(hash, 1)]),
                _ => runs.push(vec![mark(hash, 0)]),
            }
        }
        runs.into_iter().rev().flatten().collect()
    }
}
