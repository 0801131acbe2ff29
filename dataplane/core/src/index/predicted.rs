//! What other proxies are told of this one's decisions: the marks of each, as runs, until somebody takes them.

use std::collections::HashSet;

use super::owners::OwnerView;
use super::types::{Event, OwnerId, Predicted};

/// Marks that wait to be told; of decisions beyond that nothing is told, and they are counted.
const MOST: usize = 16 << 10;

/// The writer's side; it notes nothing before anyone asks.
#[derive(Debug, Default)]
pub(super) struct News {
    on: bool,
    /// Marks with their place in their run.
    marks: Vec<(OwnerId, u64, u16)>,
    /// Chains that were asked for again since the last time, by their ends: once is enough.
    again: HashSet<(OwnerId, u64), ahash::RandomState>,
    lost: u64,
}

impl News {
    pub(super) fn turn_on(&mut self) {
        self.on = true;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// A decision's event, in the order in which its core sent them.
    pub(super) fn note(&mut self, event: &Event) {
        if !self.on {
            return;
        }
        if self.marks.len() >= MOST {
            self.lost += 1;
            return;
        }
        match *event {
            Event::Mark { owner, key, parent, .. } => self.mark(owner, key.max(1), parent),
            Event::Seen { key: 0, .. } => {}
            Event::Seen { owner, key, .. } => {
                let is_told = self.marks.last().is_some_and(|(last, end, _)| (*last, *end) == (owner, key));
                if self.again.insert((owner, key)) && !is_told {
                    self.marks.push((owner, key, 0));
                }
            }
        }
    }

    /// Goes on with the run, or begins one with the mark before this one.
    fn mark(&mut self, owner: OwnerId, key: u64, parent: u64) {
        let before = match self.marks.last() {
            Some((last, end, position)) if (*last, *end) == (owner, parent) => position.checked_add(1),
            _ => None,
        };
        let position = before.unwrap_or_else(|| {
            if parent != 0 {
                self.marks.push((owner, parent, 0));
            }
            u16::from(parent != 0)
        });
        self.marks.push((owner, key, position));
    }

    /// All that is new, but what is of owners that have ended.
    pub(super) fn take(&mut self, view: &OwnerView) -> Vec<Predicted> {
        self.again.clear();
        let predicted = |(owner, key, position)| Some(Predicted { seat: view.seat(owner)?, key, position });
        self.marks.drain(..).filter_map(predicted).collect()
    }
}
