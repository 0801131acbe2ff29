//! What this process has outstanding at the engines, as reports of what changed since the last one.

mod shares;

use std::collections::{HashMap, HashSet};

use api::proto::{EndpointLoad, LoadReport, UseCounts};
use api::uses::UseCount;
use dataplane_core::table::Table;

use shares::Shares;

/// Endpoints in one message, which stays under 1 MiB.
const IN_ONE: usize = 16_384;

/// What one stream was told.
#[derive(Debug)]
pub(super) struct Reporter {
    epoch: u64,
    sequence: u64,
    told: HashMap<u32, EndpointLoad>,
    shares: Shares,
}

impl Reporter {
    /// A stream that was told nothing.
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, sequence: 0, told: HashMap::new(), shares: Shares::default() }
    }

    /// Whether a report has been made.
    pub(super) fn begun(&self) -> bool {
        self.sequence > 0
    }

    /// What has changed; none where nothing has, or where the table has the handles of another epoch. The first report
    /// is made in any case: it replaces what the stream before has said.
    pub(super) fn next(&mut self, table: &Table, now_ms: u64) -> Option<LoadReport> {
        if table.version().epoch != self.epoch {
            return None;
        }
        let first = !self.begun();
        let (mut endpoints, mut seen) = (Vec::new(), HashSet::new());
        for backend in table.backends() {
            let median = backend.live.median_speed();
            for slot in &backend.slots {
                let (live, handle) = (&slot.live, slot.endpoint.handle);
                let running = live.in_flight();
                let queued_tokens = live.own_queued_tokens(live.speed(median), now_ms);
                if (running, queued_tokens) == (0, 0) && !self.told.contains_key(&handle) {
                    continue;
                }
                // A member of several backends has one load, and one speed is enough to tell it by.
                if !seen.insert(handle) {
                    continue;
                }
                let ttft = live.mean_ttft_ms() as f32 / 1_000.0;
                let queue_depth = live.queue_depth(now_ms).min(running);
                let load = EndpointLoad { handle, queued_tokens, running, ttft, queue_depth };
                if endpoints.len() < IN_ONE && self.told.get(&handle) != Some(&load) {
                    endpoints.push(load);
                }
            }
        }
        self.gone(table, &mut endpoints);
        let shares = self.shares.next(table);
        if endpoints.is_empty() && shares.is_empty() && !first {
            return None;
        }
        for load in &endpoints {
            if (load.running, load.queued_tokens) == (0, 0) {
                self.told.remove(&load.handle);
            } else {
                self.told.insert(load.handle, *load);
            }
        }
        self.sequence += 1;
        Some(LoadReport { epoch: self.epoch, sequence: self.sequence, endpoints, shares, ..LoadReport::default() })
    }

    /// The same with how often marks were asked for, where that is new.
    pub(super) fn with_uses(&mut self, report: Option<LoadReport>, uses: Vec<UseCount>) -> Option<LoadReport> {
        if uses.is_empty() {
            return report;
        }
        let uses = vec![UseCounts { model: String::new(), entries: api::uses::pack(uses) }];
        let report = report.unwrap_or_else(|| {
            self.sequence += 1;
            LoadReport { epoch: self.epoch, sequence: self.sequence, ..LoadReport::default() }
        });
        Some(LoadReport { uses, ..report })
    }

    /// An endpoint that the table lost is reported once as idle.
    fn gone(&self, table: &Table, endpoints: &mut Vec<EndpointLoad>) {
        if self.told.is_empty() {
            return;
        }
        let mut lost: HashMap<u32, ()> = self.told.keys().map(|handle| (*handle, ())).collect();
        for slot in table.backends().flat_map(|backend| &backend.slots) {
            lost.remove(&slot.endpoint.handle);
        }
        let room = IN_ONE.saturating_sub(endpoints.len());
        endpoints.extend(lost.into_keys().take(room).map(|handle| EndpointLoad { handle, ..EndpointLoad::default() }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::snapshot::{Snapshot, Version};
    use dataplane_core::load::{Answer, Demand, LiveRegistry, Reservation};

    use super::*;

    fn table(registry: &mut LiveRegistry, names: &[&str]) -> Table {
        let endpoint = |name: &&str| {
            let handle = u32::from(name.as_bytes()[0] - b'a') + 1;
            serde_json::json!({"handle": handle, "name": name, "address": format!("127.0.0.1:{}", 1_000 + handle)})
        };
        let list: Vec<_> = names.iter().map(endpoint).collect();
        let text = serde_json::json!({"backends": [{"name": "t/b", "endpoints": list}]}).to_string();
        let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
        Table::compile(&Snapshot { version: Version { epoch: 1, version: 1 }, ..snapshot }, registry)
    }

    fn reserve(table: &Table, slot: usize, tokens: u32) -> Reservation {
        let demand = Demand { uncached_tokens: tokens, answer: Answer::Stream, speed: 1_000.0, max_in_flight: 10 };
        let live: &Arc<_> = &table.backends().next().unwrap().slots[slot].live;
        Reservation::try_new(live, demand, 0).unwrap()
    }

    fn loads(report: Option<LoadReport>) -> Option<Vec<(u32, u64, u32)>> {
        report.map(|r| r.endpoints.iter().map(|e| (e.handle, e.queued_tokens, e.running)).collect())
    }

    #[test]
    fn only_what_changed_is_told_and_an_idle_endpoint_once() {
        let mut registry = LiveRegistry::new();
        let table = table(&mut registry, &["a", "b"]);
        let mut reporter = Reporter::new(1);
        assert_eq!(loads(reporter.next(&table, 0)), Some(vec![]), "the first replaces what a stream before said");
        let mut held = reserve(&table, 1, 700);
        assert_eq!(loads(reporter.next(&table, 0)), Some(vec![(2, 700, 1)]));
        assert_eq!(loads(reporter.next(&table, 0)), None);
        held.first_event(40);
        let told = reporter.next(&table, 40).unwrap();
        assert_eq!((told.sequence, told.endpoints[0].ttft), (3, 0.04));
        assert_eq!(loads(Some(told)), Some(vec![(2, 0, 1)]));
        drop(held);
        assert_eq!(loads(reporter.next(&table, 50)), Some(vec![(2, 0, 0)]));
        assert_eq!(loads(reporter.next(&table, 60)), None);
    }

    #[test]
    fn of_what_is_in_flight_it_is_told_how_much_waits_for_its_prefill() {
        let mut registry = LiveRegistry::new();
        let table = table(&mut registry, &["a"]);
        let mut reporter = Reporter::new(1);
        let mut depth = |now_ms| reporter.next(&table, now_ms).and_then(|told| told.endpoints.first().copied());
        let mut depth = |now_ms| depth(now_ms).map(|load| (load.running, load.queue_depth));
        let mut held = [700, 300].map(|tokens| reserve(&table, 0, tokens));
        assert_eq!(depth(0), Some((2, 2)));
        held[0].first_event(40);
        assert_eq!(depth(40), Some((2, 1)), "it is news where the number in flight is the same");
        assert_eq!(depth(50), None);
        held[1].answered(60);
        assert_eq!(depth(60), Some((2, 0)));
    }

    #[test]
    fn an_endpoint_that_went_is_told_as_idle() {
        let mut registry = LiveRegistry::new();
        let old = table(&mut registry, &["a", "b"]);
        let mut reporter = Reporter::new(1);
        let _held = reserve(&old, 0, 5);
        reporter.next(&old, 0);
        let new = table(&mut registry, &["b"]);
        assert_eq!(loads(reporter.next(&new, 0)), Some(vec![(1, 0, 0)]));
        assert_eq!(loads(reporter.next(&new, 0)), None);
    }

    #[test]
    fn handles_of_another_epoch_are_not_told() {
        let mut registry = LiveRegistry::new();
        let table = table(&mut registry, &["a"]);
        assert_eq!(loads(Reporter::new(2).next(&table, 0)), None);
    }
}
