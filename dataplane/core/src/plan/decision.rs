//! The record of a decision: for `/debug/decision`, the access log and tests. Kept inline, no name is copied.

use smallvec::SmallVec;

use crate::table::Distance;

/// Candidates kept in a record, the best ones where there were more.
pub const MAX_CONSIDERED: usize = 12;

/// One candidate with each term of its cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Considered {
    /// Its slot.
    pub slot: u32,
    /// Leading blocks of the prompt that it is predicted to hold.
    pub matched_blocks: u32,
    /// Predicted uncached tokens that wait there.
    pub queued_tokens: u64,
    /// A guess, drawn anew for each decision, at what other proxies have sent there since they were heard of.
    pub guessed_tokens: u64,
    /// Requests sent there and not finished.
    pub running: u32,
    /// Its prefill speed in tokens/s.
    pub speed: f32,
    /// From this proxy.
    pub distance: Distance,
    /// Tokens of the prompt that it lacks, each times its locality weight; 0 under weighted scorers.
    pub missing_tokens: f32,
    /// In seconds; 0 under weighted scorers.
    pub cost: f32,
    /// The weighted sum; 0 under `locality-cost`.
    pub score: u64,
}

/// By what the best candidate is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `locality-cost`.
    LeastCost,
    /// Weighted scorers.
    HighestScore,
}

/// Whether passive health was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regard {
    /// Endpoints that failed lately were left out.
    Considered,
    /// No other endpoint could take the request.
    Ignored,
}

/// Who was looked at and who was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The candidates.
    pub candidates: SmallVec<[Considered; MAX_CONSIDERED]>,
    /// The chosen one's position among them.
    pub chosen: u8,
    /// By what.
    pub verdict: Verdict,
    /// Whether health counted.
    pub health: Regard,
}

impl Decision {
    /// Keeps the chosen candidate and the first others.
    pub(crate) fn new<A: smallvec::Array<Item = Considered>>(
        mut candidates: SmallVec<A>,
        chosen: usize,
        verdict: Verdict,
        health: Regard,
    ) -> Self {
        let mut chosen = chosen;
        if candidates.len() > MAX_CONSIDERED {
            candidates.swap(0, chosen);
            chosen = 0;
            let rest = &mut candidates[1..];
            rest.select_nth_unstable_by(MAX_CONSIDERED - 2, |a, b| {
                a.cost.total_cmp(&b.cost).then(b.score.cmp(&a.score))
            });
            candidates.truncate(MAX_CONSIDERED);
        }
        Self { candidates: SmallVec::from_slice(&candidates), chosen: chosen as u8, verdict, health }
    }

    /// The chosen candidate.
    pub fn chosen(&self) -> &Considered {
        &self.candidates[usize::from(self.chosen)]
    }
}
