//! What one owner was last asked for: its marks in order of use, so that predictions leave in the order in which an
//! engine's LRU cache evicts. 32 bytes for a mark and 16 to 32 for finding it.

/// No node.
const NONE: u32 = u32::MAX;
/// Tokens under no mark are kept in nodes without a key; those that follow each other share one up to here.
const LOOSE_TOKENS: u32 = 512;
/// Ancestors that one use refreshes.
const MAX_WALK: usize = api::limits::MAX_BLOCKS / api::limits::MARK_EVERY_BLOCKS;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// 0 in a node of loose tokens.
    key: u64,
    parent: u64,
    newer: u32,
    older: u32,
    tokens: u32,
    /// When it was last asked for, in ticks.
    at: u32,
}

/// Time is counted in 16 ms: 32 bits last two years.
pub(super) fn ticks(now_ms: u64) -> u32 {
    (now_ms >> 4) as u32
}

/// Where a mark's node is. With the key's low half beside it a search, and what closes a gap, need not look at nodes, which
/// lie all over memory.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u32,
    low: u32,
}

impl Place {
    const FREE: Self = Self { at: NONE, low: 0 };
}

/// An owner's marks.
#[derive(Debug)]
pub(super) struct Recency {
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// Open addressing by the key's low half; a power of two, at most half full.
    index: Box<[Place]>,
    newest: u32,
    oldest: u32,
    marks: usize,
    tokens: u64,
    /// The time, in ticks.
    now: u32,
    /// What the cache holds.
    pub(super) capacity: u64,
}

impl Recency {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            index: Box::new([Place::FREE; 8]),
            newest: NONE,
            oldest: NONE,
            marks: 0,
            tokens: 0,
            now: 0,
            capacity,
        }
    }

    pub(super) fn marks(&self) -> usize {
        self.marks
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.free.capacity() * size_of::<u32>()
            + self.index.len() * size_of::<Place>()
    }

    /// What follows happens at this time, in milliseconds.
    pub(super) fn set_now(&mut self, now_ms: u64) {
        self.now = ticks(now_ms);
    }

    /// The newest is this mark. False when it was known.
    pub(super) fn push(&mut self, key: u64, parent: u64, tokens: u32) -> bool {
        if let Some(at) = self.find(key) {
            self.raise(at);
            return false;
        }
        if (self.marks + 1) * 2 > self.index.len() {
            self.reindex(self.index.len() * 2);
        }
        let at = self.link(Node { key, parent, newer: NONE, older: NONE, tokens, at: 0 });
        self.enter(Place { at, low: key as u32 });
        self.marks += 1;
        true
    }

    /// Tokens that no mark stands for take their place in the order.
    pub(super) fn push_loose(&mut self, tokens: u32) {
        if tokens == 0 {
            return;
        }
        let newest = self.nodes.get(self.newest as usize).copied();
        match newest {
            Some(node) if node.key == 0 && node.tokens.saturating_add(tokens) <= LOOSE_TOKENS => {
                self.nodes[self.newest as usize].tokens += tokens;
                self.nodes[self.newest as usize].at = self.now;
                self.tokens += u64::from(tokens);
            }
            _ => {
                self.link(Node { key: 0, parent: 0, newer: NONE, older: NONE, tokens, at: 0 });
            }
        }
    }

    /// The chain up to this mark was asked for: all of it is newest, the deepest least, for engines evict leaves
    /// first. Calls `each` with every mark of it that is known, deepest first.
    pub(super) fn touch(&mut self, key: u64, mut each: impl FnMut(u64)) {
        let mut key = key;
        for _ in 0..MAX_WALK {
            let Some(at) = self.find(key) else { return };
            self.raise(at);
            each(key);
            key = self.nodes[at as usize].parent;
        }
    }

    /// Takes out the oldest while the cache is taken to be over full. A mark's key is returned, 0 for loose tokens.
    pub(super) fn pop_over(&mut self) -> Option<u64> {
        if self.tokens > self.capacity { self.pop() } else { None }
    }

    /// Takes out the oldest if it was last asked for before that time, in ticks.
    pub(super) fn pop_before(&mut self, ticks: u32) -> Option<u64> {
        self.nodes.get(self.oldest as usize).filter(|node| node.at < ticks)?;
        self.pop()
    }

    /// Takes out the oldest.
    pub(super) fn pop(&mut self) -> Option<u64> {
        let at = self.oldest;
        self.nodes.get(at as usize)?;
        Some(self.take(at))
    }

    fn take(&mut self, at: u32) -> u64 {
        let node = self.nodes[at as usize];
        self.unlink(at);
        self.free.push(at);
        self.tokens -= u64::from(node.tokens);
        if node.key != 0 {
            self.unindex(node.key);
            self.marks -= 1;
        }
        node.key
    }

    fn link(&mut self, node: Node) -> u32 {
        self.tokens += u64::from(node.tokens);
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.lead(at);
        at
    }

    fn raise(&mut self, at: u32) {
        self.nodes[at as usize].at = self.now;
        if at != self.newest {
            self.unlink(at);
            self.lead(at);
        }
    }

    fn lead(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        (node.newer, node.older, node.at) = (NONE, self.newest, self.now);
        match self.nodes.get_mut(self.newest as usize) {
            Some(second) => second.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Node { newer, older, .. } = self.nodes[at as usize];
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Reads the place where a key is looked for first. See [`super::writer::Writer::drain`].
    pub(super) fn warm(&self, key: u64) -> u64 {
        self.index[self.home(key as u32)].low.into()
    }

    /// The marks that would leave first, oldest first.
    pub(super) fn oldest(&self, count: usize) -> impl Iterator<Item = u64> {
        let first = self.nodes.get(self.oldest as usize);
        let nodes = std::iter::successors(first, |node| self.nodes.get(node.newer as usize));
        nodes.take(count).map(|node| node.key).filter(|key| *key != 0)
    }

    /// Whether so many more tokens would make the oldest marks leave.
    pub(super) fn is_full_with(&self, tokens: u64) -> bool {
        self.tokens + tokens > self.capacity
    }

    fn home(&self, low: u32) -> usize {
        low as usize & (self.index.len() - 1)
    }

    fn probe(&self, low: u32) -> impl Iterator<Item = usize> + use<> {
        let (home, mask) = (self.home(low), self.index.len() - 1);
        (0..=mask).map(move |step| (home + step) & mask)
    }

    /// Where the index has the key.
    fn slot(&self, key: u64) -> Option<usize> {
        let low = key as u32;
        let taken = self.probe(low).take_while(|&slot| self.index[slot].at != NONE);
        { taken }.find(|&slot| {
            let place = self.index[slot];
            place.low == low && self.nodes[place.at as usize].key == key
        })
    }

    fn find(&self, key: u64) -> Option<u32> {
        if key == 0 { None } else { self.slot(key).map(|slot| self.index[slot].at) }
    }

    /// Closes the gap, so that searches need no tombstones.
    fn unindex(&mut self, key: u64) {
        let Some(mut gap) = self.slot(key) else { return };
        let mask = self.index.len() - 1;
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let moved = self.index[slot];
            if moved.at == NONE {
                break;
            }
            let home = self.home(moved.low);
            let (from_home, from_gap) = (slot.wrapping_sub(home) & mask, slot.wrapping_sub(gap) & mask);
            if from_home >= from_gap {
                self.index[gap] = moved;
                gap = slot;
            }
        }
        self.index[gap] = Place::FREE;
    }

    fn reindex(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.index, vec![Place::FREE; len].into_boxed_slice());
        for place in old.into_iter().filter(|place| place.at != NONE) {
            self.enter(place);
        }
    }

    fn enter(&mut self, place: Place) {
        let free = self.probe(place.low).find(|&slot| self.index[slot].at == NONE).expect("at most half full");
        self.index[free] = place;
    }
}
