//! What the other proxies have at the engines, and what the engines say of themselves: written into the endpoints' live
//! numbers, where decisions read them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::limits::MAX_ENDPOINTS;
use api::proto::{EndpointLoad, EngineLoad, LoadSum};
use dataplane_core::load::{Live, Report};
use dataplane_core::table::Table;

/// Engines' numbers older than this many ms are not taken: `Live` forgets them after as long.
const STALE_MS: u32 = dataplane_core::load::REPORT_FRESH_MS as u32;

/// Endpoints by handle, and what peers have at them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// The table that the handles are of.
    table: Weak<Table>,
    endpoints: HashMap<u32, Arc<Live>>,
    /// Tokens and requests; also of endpoints that only the next table has.
    told: HashMap<u32, (u64, u32)>,
}

impl Peers {
    /// Takes a sum in. What is of another epoch than the table is not looked at: its handles mean something else.
    pub(super) fn apply(&mut self, table: &Arc<Table>, sum: &LoadSum, now_ms: u64) {
        let LoadSum { epoch, sequence_seen: _, endpoints, shares: _, uses: _, engines } = sum;
        if *epoch != table.version().epoch {
            return;
        }
        self.know(table);
        for load in endpoints {
            self.peer(load);
        }
        for engine in engines {
            self.engine(engine, now_ms);
        }
    }

    /// Nothing is known of the others any more.
    pub(super) fn forget(&mut self) {
        for (handle, _) in self.told.drain() {
            if let Some(live) = self.endpoints.get(&handle) {
                live.set_peers(0, 0);
            }
        }
    }

    fn know(&mut self, table: &Arc<Table>) {
        if self.table.as_ptr() == Arc::as_ptr(table) {
            return;
        }
        let slots = table.backends().flat_map(|backend| &backend.slots);
        let now = slots.map(|slot| (slot.endpoint.handle, slot.live.clone())).collect();
        let before = std::mem::replace(&mut self.endpoints, now);
        self.table = Arc::downgrade(table);
        for (handle, &(tokens, running)) in &self.told {
            // An endpoint that the table lost may live on in requests, but nobody tells of it any more.
            if let Some(live) = before.get(handle) {
                live.set_peers(0, 0);
            }
            if let Some(live) = self.endpoints.get(handle) {
                live.set_peers(tokens, running);
            }
        }
    }

    fn peer(&mut self, load: &EndpointLoad) {
        let EndpointLoad { handle, queued_tokens, running, ttft: _ } = *load;
        if let Some(live) = self.endpoints.get(&handle) {
            live.set_peers(queued_tokens, running);
        }
        if (queued_tokens, running) == (0, 0) {
            self.told.remove(&handle);
        } else if self.told.len() < MAX_ENDPOINTS {
            self.told.insert(handle, (queued_tokens, running));
        }
    }

    fn engine(&self, load: &EngineLoad, now_ms: u64) {
        let EngineLoad { handle, age_ms, running, waiting, cache_usage, ttft, tpot } = *load;
        let Some(live) = self.endpoints.get(&handle) else { return };
        if age_ms >= STALE_MS {
            return;
        }
        let us = |seconds: f32| (seconds.max(0.0) * 1e6) as u32;
        let kv_usage = cache_usage.clamp(0.0, 1.0);
        let report = Report { waiting, running, kv_usage, ttft_us: us(ttft), tpot_us: us(tpot) };
        live.set_report(report, now_ms.saturating_sub(u64::from(age_ms)));
    }
}

#[cfg(test)]
mod tests {
    use api::snapshot::{Snapshot, Version};
    use dataplane_core::load::LiveRegistry;

    use super::*;

    fn table(registry: &mut LiveRegistry, epoch: u64, endpoints: &[(u32, &str)]) -> Arc<Table> {
        let list: Vec<_> = (endpoints.iter())
            .map(|(handle, name)| {
                serde_json::json!({"handle": handle, "name": name, "address": format!("127.0.0.1:{}", 1_000 + handle)})
            })
            .collect();
        let text = serde_json::json!({"backends": [{"name": "t/b", "endpoints": list}]}).to_string();
        let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
        Arc::new(Table::compile(&Snapshot { version: Version { epoch, version: 1 }, ..snapshot }, registry))
    }

    fn sum(epoch: u64, loads: &[(u32, u64, u32)]) -> LoadSum {
        let load = |&(handle, queued_tokens, running)| EndpointLoad { handle, queued_tokens, running, ttft: 0.0 };
        LoadSum { epoch, endpoints: loads.iter().map(load).collect(), ..LoadSum::default() }
    }

    fn routed(table: &Table) -> Vec<u32> {
        table.backends().flat_map(|b| &b.slots).map(|slot| slot.live.routed()).collect()
    }

    #[test]
    fn a_sum_replaces_the_one_before_and_is_forgotten_with_the_stream() {
        let mut registry = LiveRegistry::new();
        let (mut peers, table) = (Peers::default(), table(&mut registry, 1, &[(1, "a"), (2, "b")]));
        peers.apply(&table, &sum(1, &[(1, 500, 3), (2, 0, 1), (9, 1, 1)]), 0);
        assert_eq!(routed(&table), [3, 1]);
        peers.apply(&table, &sum(1, &[(1, 0, 2)]), 0);
        assert_eq!(routed(&table), [2, 1]);
        peers.apply(&table, &sum(2, &[(1, 0, 7)]), 0);
        assert_eq!(routed(&table), [2, 1], "another epoch's handle is another endpoint");
        peers.forget();
        assert_eq!(routed(&table), [0, 0]);
    }

    #[test]
    fn what_is_told_follows_the_table() {
        let mut registry = LiveRegistry::new();
        let mut peers = Peers::default();
        let old = table(&mut registry, 1, &[(1, "a")]);
        peers.apply(&old, &sum(1, &[(1, 10, 1)]), 0);
        let key_of = |name: &str| api::id::EndpointKey { uid: name.into(), port: 1_001, rank: 0 };
        let live = registry.endpoint(&key_of("a"));
        let new = table(&mut registry, 1, &[(7, "x")]);
        peers.apply(&new, &sum(1, &[(8, 10, 4)]), 0);
        assert_eq!(live.routed(), 0);
        // What is told of an endpoint before the table has it is not lost.
        let next = table(&mut registry, 1, &[(7, "x"), (8, "y")]);
        peers.apply(&next, &sum(1, &[]), 0);
        assert_eq!(routed(&next), [0, 4]);
    }

    #[test]
    fn an_engine_speaks_for_itself_while_that_is_fresh() {
        let mut registry = LiveRegistry::new();
        let (mut peers, table) = (Peers::default(), table(&mut registry, 1, &[(1, "a")]));
        let engine = |age_ms| EngineLoad { handle: 1, age_ms, running: 5, waiting: 2, ..EngineLoad::default() };
        let told = |age_ms| LoadSum { epoch: 1, engines: vec![engine(age_ms)], ..LoadSum::default() };
        let live = table.backends().next().unwrap().slots[0].live.clone();
        peers.apply(&table, &told(STALE_MS), 20_000);
        assert_eq!(live.running(20_000), 0);
        peers.apply(&table, &told(1_000), 20_000);
        assert_eq!(live.running(20_000), 7);
    }
}
