//! What the roll has to know of cells.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::in_force::InForce;

/// How long what can change no more is told. Nobody scrapes more rarely, for Prometheus itself forgets what it has not seen
/// for so long.
pub(super) const KEPT_MS: u64 = 300_000;

/// Cells that are found by labels.
pub trait Keyed: Sized {
    /// The labels, borrowed.
    type Labels<'a>: Copy + Eq + Hash
    where
        Self: 'a;

    /// Cells at zero.
    fn with(labels: &Self::Labels<'_>) -> Self;
    /// Its labels.
    fn labels(&self) -> Self::Labels<'_>;
    /// Whether it has these labels.
    fn is(&self, labels: &Self::Labels<'_>) -> bool;
    /// What these labels are counted under once there are too many.
    fn other<'a>(labels: &Self::Labels<'a>) -> Self::Labels<'a>
    where
        Self: 'a;
    /// The labels that all families have which are told by more labels than [`Keyed::coarser`] has.
    fn group<'a>(labels: &Self::Labels<'a>) -> Self::Labels<'a>
    where
        Self: 'a;
    /// Those by which some families are told that are told by fewer labels than these; none if all are told by these.
    fn coarser<'a>(labels: &Self::Labels<'a>) -> Option<Self::Labels<'a>>
    where
        Self: 'a;
    /// Whether the table has all that the labels name.
    fn in_force(labels: &Self::Labels<'_>, names: &InForce<'_>) -> bool;
    /// Whether they are on their way out.
    fn departure(&self) -> &Departure;
    /// Adds what families that are told by coarser labels have of the other's.
    fn absorb(&self, other: &Self);
}

/// Since when cells are out of force and nobody can write them, in milliseconds of the process; 0 while they are in force.
#[derive(Debug, Default)]
pub struct Departure(AtomicU64);

impl Departure {
    pub(super) fn begun(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.begun() && now_ms.saturating_sub(self.0.load(Relaxed)) >= KEPT_MS
    }

    /// It begins now, again if it had begun.
    pub(super) fn begin(&self, now_ms: u64) {
        self.0.store(now_ms.max(1), Relaxed);
    }

    pub(super) fn end(&self) {
        self.0.store(0, Relaxed);
    }
}
