//! A core's view of the prefix table. Nothing here allocates, locks or waits.

use std::fmt;
use std::sync::Arc;

use super::holders::HoldersReader;
use super::link::Link;
use super::overlay::Overlay;
use super::owners::OwnerView;
use super::search::{deepest, sample_uses};
use super::sync::{AtomicU64, Ordering};
use super::types::{Event, Match, Matches, OwnerId, Placement, Query, Seat, blocks_at, mark_key, marks_in};
use super::uses::UsesReader;

/// One per core; made by [`Writer::reader`](super::Writer::reader) and moved to the core's thread.
pub struct Reader {
    held: Held,
    uses: UsesReader,
    /// Events that this core has sent.
    sent: u64,
    /// The writer's turn.
    turn: Arc<AtomicU64>,
    turn_seen: u64,
}

/// What this core knows of holders: the shared table, and its own marks on their way there.
struct Held {
    table: HoldersReader,
    overlay: Overlay,
    link: Arc<Link>,
    view: Arc<OwnerView>,
}

/// What the writer gives to a new reader.
pub(super) struct Parts {
    pub(super) table: HoldersReader,
    pub(super) uses: UsesReader,
    pub(super) view: Arc<OwnerView>,
    pub(super) link: Arc<Link>,
    pub(super) turn: Arc<AtomicU64>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("sent", &self.sent).field("turn_seen", &self.turn_seen).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { table, uses, view, link, turn } = parts;
        let held = Held { table, overlay: Overlay::new(), link, view };
        let mut reader = Self { held, uses, sent: 0, turn, turn_seen: 0 };
        reader.turn();
        reader
    }

    /// Seat ↔ owner.
    pub fn owners(&self) -> &Arc<OwnerView> {
        &self.held.view
    }

    /// Who of the eligible holds how much of a prompt, and how often its blocks were asked for.
    pub fn lookup(&mut self, query: &Query<'_>, eligible: impl Fn(Seat) -> bool) -> Matches {
        let marks = marks_in(query.chain.len());
        let mut matches = Matches::none(query.chain.len() as u32);
        let mut end = marks;
        // Each round finds the deepest mark that someone new holds, and everyone new who holds it.
        while usize::from(matches.best_len) < Matches::MAX_BEST {
            let known = matches;
            let is_new = |seat: Seat| known.best().iter().all(|found| found.seat != seat) && eligible(seat);
            let held = &mut self.held;
            let Some(at) = deepest(end, |at| held.any(mark_key(query.chain, at), |_, seat| is_new(seat))) else {
                break;
            };
            held.collect(query, at, &mut matches, is_new);
            end = at;
        }
        let (uses, chain) = (&mut self.uses, query.chain);
        sample_uses(&mut matches, marks, |at| uses.count(mark_key(chain, at), query.now_ms));
        matches
    }

    /// Leading blocks of the prompt that one endpoint holds; a multiple of 16.
    pub fn depth(&mut self, chain: &[u64], seat: Seat) -> u32 {
        let held = &mut self.held;
        let found = deepest(marks_in(chain.len()), |at| held.any(mark_key(chain, at), |_, found| found == seat));
        found.map_or(0, blocks_at)
    }

    /// The endpoint was chosen: it is about to hold the prompt. This core sees that at once, the others when the
    /// writer has drained the ring.
    pub fn place(&mut self, placement: &Placement<'_>) {
        let Placement { chain, seat, matched, tokens_per_block } = *placement;
        let Some(owner) = self.held.view.owner(seat) else { return };
        let marks = marks_in(chain.len());
        let held = marks_in(matched as usize).min(marks);
        let parent = |at: usize| at.checked_sub(1).map_or(0, |before| mark_key(chain, before));
        let tokens = (tokens_per_block * api::limits::MARK_EVERY_BLOCKS as f32) as u32;
        for at in held..marks {
            let key = mark_key(chain, at);
            if !self.send(Event::Mark { owner, key, parent: parent(at), tokens }) {
                // Deeper marks would not be found without this one.
                self.held.link.lose((marks - at) as u64 + 1);
                return;
            }
            self.held.overlay.add(key, owner, self.sent);
        }
        let loose = chain.len() - (marks * api::limits::MARK_EVERY_BLOCKS);
        let tokens = (tokens_per_block * loose as f32) as u32;
        if !self.send(Event::Seen { owner, key: parent(marks), tokens }) {
            self.held.link.lose(1);
        }
    }

    /// Says that this core is between two look-ups. Once per loop turn, and by the sweep of an idle core.
    pub fn turn(&mut self) {
        let turn = self.turn.load(Ordering::Acquire);
        if turn != self.turn_seen {
            self.turn_seen = turn;
            self.held.link.see_turn(turn);
        }
    }

    /// Lets go of every replaced generation. By the once-a-second sweep, so that an idle core pins nothing.
    pub fn refresh(&mut self) {
        self.turn();
        self.held.table.refresh();
        self.uses.refresh();
    }

    fn send(&mut self, event: Event) -> bool {
        let sent = self.held.link.send(event);
        self.sent += u64::from(sent);
        sent
    }
}

impl Held {
    /// Whether `wanted` is true of any living holder.
    fn any(&mut self, key: u64, wanted: impl Fn(OwnerId, Seat) -> bool) -> bool {
        let mut found = false;
        self.each(key, |owner, seat| {
            found = wanted(owner, seat);
            !found
        });
        found
    }

    /// Calls `each` with every living holder, until it returns false. A holder may come twice.
    fn each(&mut self, key: u64, mut each: impl FnMut(OwnerId, Seat) -> bool) {
        let Self { table, overlay, link, view } = self;
        let mut alive = |owner: OwnerId| view.seat(owner).is_none_or(|seat| each(owner, seat));
        if overlay.owners(key, link.applied()).all(&mut alive) {
            table.owners(key, alive);
        }
    }

    /// Adds the mark's new holders; of more than there is room for, each with the same chance.
    fn collect(&mut self, query: &Query<'_>, at: usize, matches: &mut Matches, is_new: impl Fn(Seat) -> bool) {
        let blocks = blocks_at(at);
        let first = usize::from(matches.best_len);
        let room = (Matches::MAX_BEST - first) as u64;
        let mut seen = 0;
        let mut random = query.tie | 1;
        self.each(mark_key(query.chain, at), |owner, seat| {
            let taken = &matches.best[first..usize::from(matches.best_len)];
            if !is_new(seat) || taken.iter().any(|found| found.seat == seat) {
                return true;
            }
            seen += 1;
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let found = Match { seat, owner, blocks };
            if seen <= room {
                matches.best[usize::from(matches.best_len)] = found;
                matches.best_len += 1;
            } else if random % seen < room {
                matches.best[first + (random % seen) as usize] = found;
            }
            true
        });
    }
}
