//! What engines have cached, from one replica to another: told as a data plane is told that holds nothing, of the engines that
//! are heard here, and taken in as one more source of what these have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use api::id::{EndpointKey, ModelName};
use api::kv::{Rank, Said, Trust, Update};
use api::limits::{MAX_ENDPOINTS, MAX_NAME_BYTES};
use api::proto::{KvTrust, KvUpdate, PeerDiffering, PeerDiffers, PeerName, PeerReport, Subscribe};

use super::names::Names;
use super::wire::{WireError, key_in, key_out};
use crate::kv::store::TextBlock;
use crate::kv::supervise::PeerNews;
use crate::publish::serve::{Handles, Lane, Teller};
use crate::world::Differing;

/// Messages of caches that follow each other: 64 KiB each, 1 MiB in all, before what else there is comes first again.
const AT_ONCE: usize = 16;
/// Engines that are said to differ, and bytes of how.
const MOST_DIFFERING: usize = 1_024;
const HOW_BYTES: usize = 512;

/// What one peer has been told.
#[derive(Debug)]
pub(super) struct Told {
    teller: Teller,
    names: Arc<Names>,
    handles: Handles,
    /// Handles that it knows, and of which model they were told last.
    named: HashMap<u32, Arc<str>>,
    differing: Option<Differing>,
}

impl Told {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        let teller = Teller::new(lane, &Subscribe::default(), 1).with_farewells();
        Self { teller, names: Arc::default(), handles: Handles::default(), named: HashMap::new(), differing: None }
    }

    /// What comes next; as many as may follow each other where there is more.
    pub(super) fn next(&mut self, names: &Arc<Names>, now: Instant) -> Vec<PeerReport> {
        if !Arc::ptr_eq(names, &self.names) {
            self.names = names.clone();
            self.handles = Arc::new(names.keys.keys().copied().collect());
            self.named.retain(|handle, _| names.keys.contains_key(handle));
        }
        self.teller.knows(self.handles.clone(), now);
        let mut reports = Vec::new();
        while reports.len() < AT_ONCE {
            let Some((update, entries)) = self.teller.next_update(now) else { break };
            reports.push(self.report(KvUpdate { entries: entries.into(), ..update }));
        }
        reports
    }

    /// Whether there may be more than was told.
    pub(super) fn is_cut(told: &[PeerReport]) -> bool {
        told.len() == AT_ONCE
    }

    /// Each endpoint stands in a message's ranks before its blocks come. The name of one of which nothing is known any more is
    /// forgotten by both.
    fn report(&mut self, update: KvUpdate) -> PeerReport {
        let (mut names, model) = (Vec::new(), Arc::<str>::from(update.model.as_str()));
        for rank in &update.ranks {
            let handle = rank.handle;
            if rank.trust() == KvTrust::Unspecified {
                // An endpoint of another model now may be told of as that already.
                if self.named.get(&handle) == Some(&model) {
                    self.named.remove(&handle);
                }
            } else if let Some(key) = self.names.keys.get(&handle)
                && self.named.insert(handle, model.clone()).is_none()
            {
                names.push(PeerName { handle, key: key_out(key) });
            }
        }
        PeerReport { names, kv: vec![update], ..PeerReport::default() }
    }

    /// Where that has changed.
    pub(super) fn differing(&mut self, now: &Differing) -> Option<PeerDiffering> {
        if self.differing.as_ref() == Some(now) {
            return None;
        }
        let first = self.differing.replace(now.clone()).is_none();
        if first && now.is_empty() {
            return None;
        }
        let one = |(key, how): (&EndpointKey, &Arc<str>)| {
            let how = how[..how.floor_char_boundary(HOW_BYTES)].to_owned();
            PeerDiffers { key: key_out(key), how }
        };
        Some(PeerDiffering { engines: now.iter().take(MOST_DIFFERING).map(one).collect() })
    }
}

/// What one peer tells.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What its handles stand for, and of which model they were told last.
    keys: HashMap<u32, (EndpointKey, ModelName)>,
}

impl Heard {
    pub(super) fn name(&mut self, names: &[PeerName]) -> Result<(), WireError> {
        for PeerName { handle, key } in names {
            let key = key_in(key.as_ref())?;
            if self.keys.len() < 2 * MAX_ENDPOINTS || self.keys.contains_key(handle) {
                self.keys.insert(*handle, (key, ModelName::from("")));
            }
        }
        Ok(())
    }

    /// By a stream. What is said of an endpoint without a name is left out.
    pub(super) fn news(&mut self, stream: u64, update: KvUpdate) -> Result<PeerNews, WireError> {
        let Update { model, reset, ranks, entries, .. } = Update::try_from(update)?;
        let ranks = ranks.into_iter().filter_map(|rank| Some((self.keys.get(&rank.handle)?.0.clone(), rank)));
        let ranks: Vec<(EndpointKey, Rank)> = ranks.collect();
        let mut blocks: Vec<(EndpointKey, Vec<TextBlock>)> = Vec::new();
        let mut last = None;
        for entry in entries.iter() {
            let held = entry.said == Said::Held;
            if last != Some(entry.handle) {
                let Some((key, _)) = self.keys.get(&entry.handle) else { continue };
                blocks.push((key.clone(), Vec::new()));
                last = Some(entry.handle);
            }
            let block = TextBlock { hash: entry.hash, position: entry.position, held };
            blocks.last_mut().into_iter().for_each(|(_, blocks)| blocks.push(block));
        }
        for (_, rank) in &ranks {
            let Some((_, last)) = self.keys.get_mut(&rank.handle) else { continue };
            if rank.trust != Trust::Predicted {
                last.clone_from(&model);
            } else if *last == model {
                self.keys.remove(&rank.handle);
            }
        }
        Ok(PeerNews { stream, model: model.as_str().into(), reset, ranks, blocks })
    }
}

pub(super) fn differing_in(said: &PeerDiffering) -> Result<Differing, WireError> {
    let one = |PeerDiffers { key, how }: &PeerDiffers| {
        let how = &how[..how.floor_char_boundary(MAX_NAME_BYTES.max(HOW_BYTES))];
        Ok((key_in(key.as_ref())?, Arc::from(how)))
    };
    Ok(Arc::new(said.engines.iter().take(MOST_DIFFERING).map(one).collect::<Result<_, WireError>>()?))
}

#[cfg(test)]
mod tests;
