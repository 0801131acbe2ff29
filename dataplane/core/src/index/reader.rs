//! A core's view of the two tables, predictions and reports. Nothing here allocates, locks or waits.

use std::fmt;
use std::sync::Arc;

use super::best::{Best, Points, Source};
use super::holders::HoldersReader;
use super::link::Link;
use super::overlay::Overlay;
use super::owners::OwnerView;
use super::reported::ReportedReader;
use super::search::{deepest, sample_uses};
use super::sync::{AtomicU64, Ordering};
use super::types::{Event, Matches, OwnerId, Placement, Query, Seat, blocks_at, mark_key, marks_in};
use super::uses::UsesReader;

/// One per core; made by [`Writer::reader`](super::Writer::reader) and moved to the core's thread.
pub struct Reader {
    predicted: Predicted,
    reported: ReportedReader,
    uses: UsesReader,
    /// Events that this core has sent.
    sent: u64,
    /// The writer's turn.
    turn: Arc<AtomicU64>,
    turn_seen: u64,
}

/// What this core knows of predicted holders: the shared table, and its own marks on their way there.
struct Predicted {
    table: HoldersReader,
    overlay: Overlay,
    link: Arc<Link>,
    view: Arc<OwnerView>,
}

/// What the writer gives to a new reader.
pub(super) struct Parts {
    pub(super) table: HoldersReader,
    pub(super) reported: ReportedReader,
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
        let Parts { table, reported, uses, view, link, turn } = parts;
        let predicted = Predicted { table, overlay: Overlay::new(), link, view };
        let mut reader = Self { predicted, reported, uses, sent: 0, turn, turn_seen: 0 };
        reader.turn();
        reader
    }

    /// Seat ↔ owner.
    pub fn owners(&self) -> &Arc<OwnerView> {
        &self.predicted.view
    }

    /// Who of the eligible holds how much of a prompt, by what is predicted or by what engines report, whichever is more,
    /// and how often its blocks were asked for.
    pub fn lookup(&mut self, query: &Query<'_>, eligible: impl Fn(Seat) -> bool) -> Matches {
        let mut best = Best::of(&mut self.predicted, Points::marks(query.chain), query, &eligible);
        if self.reported.is_told() {
            best = self.reported.best(query, &eligible).merged(&best);
        }
        let mut matches = Matches::none(query.chain.len() as u32);
        matches.set_best(best.list());
        let (uses, chain) = (&mut self.uses, query.chain);
        sample_uses(&mut matches, marks_in(chain.len()), |at| uses.count(mark_key(chain, at), query.now_ms));
        matches
    }

    /// Leading blocks of the prompt that one endpoint is predicted to hold; a multiple of 16.
    pub fn depth(&mut self, chain: &[u64], seat: Seat) -> u32 {
        let predicted = &mut self.predicted;
        let found = deepest(marks_in(chain.len()), |at| predicted.any(mark_key(chain, at), |found| found == seat));
        found.map_or(0, blocks_at)
    }

    /// The endpoint was chosen: it is about to hold the prompt. This core sees that at once, the others when the
    /// writer has drained the ring.
    pub fn place(&mut self, placement: &Placement<'_>) {
        let Placement { chain, seat, matched, tokens_per_block } = *placement;
        let Some(owner) = self.predicted.view.owner(seat) else { return };
        let marks = marks_in(chain.len());
        // Marks are what uses are counted by, so what an engine reports to hold is marked as well.
        let matched = if self.reported.is_told() { self.depth(chain, seat) } else { matched };
        let held = marks_in(matched as usize).min(marks);
        let parent = |at: usize| at.checked_sub(1).map_or(0, |before| mark_key(chain, before));
        let tokens = (tokens_per_block * api::limits::MARK_EVERY_BLOCKS as f32) as u32;
        for at in held..marks {
            let key = mark_key(chain, at);
            if !self.send(Event::Mark { owner, key, parent: parent(at), tokens }) {
                // Deeper marks would not be found without this one.
                self.predicted.link.lose((marks - at) as u64 + 1);
                return;
            }
            self.predicted.overlay.add(key, owner, self.sent);
        }
        let loose = chain.len() - (marks * api::limits::MARK_EVERY_BLOCKS);
        let tokens = (tokens_per_block * loose as f32) as u32;
        if !self.send(Event::Seen { owner, key: parent(marks), tokens }) {
            self.predicted.link.lose(1);
        }
    }

    /// Says that this core is between two look-ups. Once per loop turn, and by the sweep of an idle core.
    pub fn turn(&mut self) {
        let turn = self.turn.load(Ordering::Acquire);
        if turn != self.turn_seen {
            self.turn_seen = turn;
            self.predicted.link.see_turn(turn);
        }
    }

    /// Lets go of every replaced generation. By the once-a-second sweep, so that an idle core pins nothing.
    pub fn refresh(&mut self) {
        self.turn();
        self.predicted.table.refresh();
        self.reported.refresh();
        self.uses.refresh();
    }

    fn send(&mut self, event: Event) -> bool {
        let sent = self.predicted.link.send(event);
        self.sent += u64::from(sent);
        sent
    }
}

impl Source for Predicted {
    fn each(&mut self, key: u64, mut each: impl FnMut(OwnerId, Seat) -> bool) {
        let Self { table, overlay, link, view } = self;
        let mut alive = |owner: OwnerId| view.seat(owner).is_none_or(|seat| each(owner, seat));
        if overlay.owners(key, link.applied()).all(&mut alive) {
            table.owners(key, alive);
        }
    }
}
