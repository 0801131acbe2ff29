//! What engines say of themselves, by endpoint. Data planes forget it after a while, so it is told again before that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use api::proto::EngineLoad;

/// What is older is not told, for no data plane takes it.
const FRESH: Duration = Duration::from_secs(10);
/// After this time what has not changed is told again, so that one lost reading is not felt.
const AGAIN: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub(super) struct Engines {
    of: HashMap<u32, Engine>,
    /// Handles by the change that is to be told.
    order: BTreeMap<u64, u32>,
}

/// When an engine was read, and whether by this replica.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) at: Instant,
    pub(super) here: bool,
}

#[derive(Debug)]
struct Engine {
    said: EngineLoad,
    read: Read,
    change: u64,
    changed: Instant,
}

impl Engines {
    /// Takes in what one said, as this change if that is one.
    pub(super) fn set(&mut self, said: EngineLoad, read: Read, change: u64) -> bool {
        let handle = said.handle;
        if let Some(known) = self.of.get_mut(&handle) {
            // While one replica takes over from another, both read it.
            if known.read.at > read.at {
                return false;
            }
            if known.said == said && read.at.saturating_duration_since(known.changed) < AGAIN {
                known.read = read;
                return false;
            }
        }
        if let Some(before) = self.of.insert(handle, Engine { said, read, change, changed: read.at }) {
            self.order.remove(&before.change);
        }
        self.order.insert(change, handle);
        true
    }

    /// Of the changes after `seen` the first `most`, and where there are more, up to which change these are.
    pub(super) fn since(&self, seen: u64, most: usize, now: Instant) -> (Vec<(u64, EngineLoad)>, Option<u64>) {
        let mut told = Vec::new();
        for (change, handle) in self.order.range(seen + 1..) {
            let Engine { said, read, .. } = &self.of[handle];
            let age = now.saturating_duration_since(read.at);
            if age >= FRESH {
                continue;
            }
            if told.len() == most {
                return (told, Some(change - 1));
            }
            told.push((*change, EngineLoad { age_ms: age.as_millis() as u32, ..*said }));
        }
        (told, None)
    }

    /// Of the changes after `seen`, those that were read here and still count.
    pub(super) fn own_since(&self, seen: u64, now: Instant) -> impl Iterator<Item = (u64, EngineLoad)> {
        let read = self.order.range(seen + 1..).map(|(change, handle)| (*change, &self.of[handle]));
        read.filter_map(move |(change, Engine { said, read, .. })| {
            let age = now.saturating_duration_since(read.at);
            let told = EngineLoad { age_ms: age.as_millis() as u32, ..*said };
            (read.here && age < FRESH).then_some((change, told))
        })
    }

    /// Forgets the others.
    pub(super) fn keep(&mut self, handles: &HashSet<u32>) {
        self.of.retain(|handle, _| handles.contains(handle));
        self.order.retain(|_, handle| handles.contains(handle));
    }
}
