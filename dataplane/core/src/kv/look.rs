//! A look at what is held, for metrics and debug pages.

use std::collections::HashMap;

use api::kv::Trust;

use super::Lane;
use super::model::Model;
use crate::index::Seat;

/// What is held, at some time.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Models that something was told of.
    pub models: usize,
    /// Pairs of endpoint and block.
    pub blocks: u64,
    /// Endpoints by trust, in the order of [`Trust::ALL`]; those that nothing was told of are not among them.
    pub trust: [usize; Trust::ALL.len()],
    /// Handles that no table has yet.
    pub waiting: usize,
    /// By the endpoint's seat.
    pub seated: HashMap<Seat, Seated, ahash::RandomState>,
}

/// What is held of one endpoint, in all models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seated {
    /// How far it is believed: trusted if it is in any model.
    pub trust: Trust,
    /// Blocks that its engine reports.
    pub blocks: u64,
}

impl Lane {
    /// Looks at everything.
    pub fn look(&self) -> Look {
        let mut look = Look { models: self.models.len(), ..Look::default() };
        for rank in self.models.values().flat_map(Model::all) {
            look.blocks += rank.blocks;
            let Some((_, seat)) = rank.home else {
                look.waiting += 1;
                continue;
            };
            let trust = self.believed(rank.trust);
            let seated = look.seated.entry(seat).or_insert(Seated { trust, blocks: 0 });
            seated.blocks += rank.blocks;
            seated.trust = if trust == Trust::Trusted { trust } else { seated.trust };
        }
        for seated in look.seated.values() {
            look.trust[seated.trust as usize] += 1;
        }
        look
    }
}
