//! What the other proxies have at the engines, and what the engines say of themselves: written into the endpoints' live
//! numbers, where decisions read them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::id::BackendName;
use api::limits::{MAX_BACKENDS, MAX_ENDPOINTS, MAX_NAME_BYTES};
use api::proto::{BackendShare, EndpointLoad, EngineLoad, LoadSum};
use dataplane_core::load::{Live, Others, Report};
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
    /// What they decide for backends; also for those that only the next table has.
    shares: HashMap<BackendName, Others>,
}

impl Peers {
    /// Takes a sum in. What is of another epoch than the table is not looked at: its handles mean something else.
    pub(super) fn apply(&mut self, table: &Arc<Table>, sum: &LoadSum, now_ms: u64) {
        // Use counts are of marks, and the tables thread's.
        let LoadSum { epoch, sequence_seen: _, endpoints, shares, uses: _, engines } = sum;
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
        for share in shares {
            self.share(table, share, now_ms);
        }
        // A sum says all that has changed, so what it does not name is still true.
        for (name, others) in &self.shares {
            hear(table, name, *others, now_ms);
        }
    }

    /// Nothing is known of the others any more.
    pub(super) fn forget(&mut self, table: &Table, now_ms: u64) {
        for (name, _) in self.shares.drain() {
            hear(table, &name, Others::default(), now_ms);
        }
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
        let stays = |handle, live| self.endpoints.get(handle).is_some_and(|now| Arc::ptr_eq(now, live));
        // An endpoint that the table lost may live on in requests, but nobody tells of it any more, unless by another handle: so this
        // is done for all of them first.
        for live in self.told.keys().filter_map(|handle| before.get(handle).filter(|live| !stays(handle, live))) {
            live.set_peers(0, 0);
        }
        for (handle, &(tokens, running)) in &self.told {
            if let Some(live) = self.endpoints.get(handle) {
                live.set_peers(tokens, running);
            }
        }
    }

    fn peer(&mut self, load: &EndpointLoad) {
        let EndpointLoad { handle, queued_tokens, running, ttft: _, queue_depth: _ } = *load;
        if let Some(live) = self.endpoints.get(&handle) {
            live.set_peers(queued_tokens, running);
        }
        if (queued_tokens, running) == (0, 0) {
            self.told.remove(&handle);
        } else if self.told.len() < MAX_ENDPOINTS {
            self.told.insert(handle, (queued_tokens, running));
        }
    }

    fn share(&mut self, table: &Table, share: &BackendShare, now_ms: u64) {
        let BackendShare { backend, token_rate, age_ms, proxies } = share;
        if backend.len() > MAX_NAME_BYTES {
            return;
        }
        let name = BackendName::from(backend.as_str());
        let others = Others { proxies: *proxies, token_rate: *token_rate, age_ms: *age_ms };
        if *proxies == 0 || !token_rate.is_finite() || *token_rate <= 0.0 {
            self.shares.remove(&name);
            hear(table, &name, Others::default(), now_ms);
        } else if self.shares.len() < MAX_BACKENDS || self.shares.contains_key(&name) {
            self.shares.insert(name, others);
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

fn hear(table: &Table, name: &BackendName, others: Others, now_ms: u64) {
    if let Some(backend) = table.backend(name) {
        backend.live.hear(others, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use api::snapshot::{Snapshot, Version};
    use dataplane_core::load::LiveRegistry;

    use super::*;

    fn table(registry: &mut LiveRegistry, epoch: u64, endpoints: &[(u32, &str)]) -> Arc<Table> {
        ported(registry, epoch, endpoints.iter().map(|(handle, name)| (*handle, *name, 1_000 + handle)))
    }

    /// Endpoints as handle, name and port.
    fn ported<'e>(
        registry: &mut LiveRegistry,
        epoch: u64,
        endpoints: impl Iterator<Item = (u32, &'e str, u32)>,
    ) -> Arc<Table> {
        let list: Vec<_> = endpoints
            .map(|(handle, name, port)| {
                serde_json::json!({"handle": handle, "name": name, "address": format!("127.0.0.1:{port}")})
            })
            .collect();
        let text = serde_json::json!({"backends": [{"name": "t/b", "endpoints": list}]}).to_string();
        let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
        Arc::new(Table::compile(&Snapshot { version: Version { epoch, version: 1 }, ..snapshot }, registry))
    }

    fn sum(epoch: u64, loads: &[(u32, u64, u32)]) -> LoadSum {
        let load = |&(handle, queued_tokens, running)| EndpointLoad {
            handle,
            queued_tokens,
            running,
            ..EndpointLoad::default()
        };
        LoadSum { epoch, endpoints: loads.iter().map(load).collect(), ..LoadSum::default() }
    }

    /// How many others decide for the only backend, and how much.
    fn others(table: &Table) -> (u32, f64) {
        let live = &table.backends().next().unwrap().live;
        (live.proxies() - 1, live.others_rate())
    }

    fn shares(epoch: u64, shares: &[(&str, f64, u32)]) -> LoadSum {
        let share = |&(backend, token_rate, proxies): &(&str, f64, u32)| BackendShare {
            backend: backend.into(),
            token_rate,
            age_ms: 0,
            proxies,
        };
        LoadSum { epoch, shares: shares.iter().map(share).collect(), ..LoadSum::default() }
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
        peers.forget(&table, 0);
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
    fn a_handle_that_an_endpoint_gave_up_takes_nothing_with_it() {
        let mut registry = LiveRegistry::new();
        let mut peers = Peers::default();
        let handles = |from: u32| (from..from + 64).map(|handle| (handle, "e", 1_000 + handle % 100));
        let told = |from, running| sum(1, &handles(from).map(|(handle, ..)| (handle, 5, running)).collect::<Vec<_>>());
        // As it is with endpoints that only a held form knew, once they are published again.
        let old = ported(&mut registry, 1, handles(900));
        peers.apply(&old, &told(900, 3), 0);
        peers.apply(&old, &told(100, 4), 0);
        assert_eq!(routed(&old), [3; 64], "these handles mean nothing yet");
        let new = ported(&mut registry, 1, handles(100));
        peers.apply(&new, &sum(1, &[]), 0);
        assert_eq!(routed(&new), [4; 64]);
        // What is still said by the old ones is of nobody.
        peers.apply(&new, &told(900, 9), 0);
        assert_eq!(routed(&new), [4; 64]);
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

    #[test]
    fn what_others_decide_for_a_backend_is_heard_until_it_ends_or_the_stream_does() {
        let mut registry = LiveRegistry::new();
        let (mut peers, table) = (Peers::default(), table(&mut registry, 1, &[(1, "a")]));
        peers.apply(&table, &shares(2, &[("t/b", 9.0, 1)]), 1);
        assert_eq!(others(&table), (0, 0.0), "of another epoch");
        peers.apply(&table, &shares(1, &[("t/b", 500.0, 3), ("t/other", 1.0, 1)]), 1);
        assert_eq!(others(&table), (3, 500.0));
        peers.apply(&table, &sum(1, &[(1, 10, 1)]), 2);
        assert_eq!(others(&table), (3, 500.0), "what a sum does not name is as before");
        peers.apply(&table, &shares(1, &[("t/b", 0.0, 0)]), 3);
        assert_eq!(others(&table), (0, 0.0));
        peers.apply(&table, &shares(1, &[("t/b", 70.0, 1)]), 4);
        peers.forget(&table, 5);
        assert_eq!(others(&table), (0, 0.0));
        peers.apply(&table, &sum(1, &[(1, 10, 1)]), 6);
        assert_eq!(others(&table), (0, 0.0), "it is forgotten for good");
    }

    #[test]
    fn a_share_that_makes_no_sense_is_none_and_names_are_bounded() {
        let mut registry = LiveRegistry::new();
        let (mut peers, table) = (Peers::default(), table(&mut registry, 1, &[(1, "a")]));
        for rate in [f64::NAN, f64::INFINITY, -1.0] {
            peers.apply(&table, &shares(1, &[("t/b", 70.0, 1)]), 1);
            peers.apply(&table, &shares(1, &[("t/b", rate, 1)]), 1);
            assert_eq!(others(&table), (0, 0.0), "{rate}");
        }
        peers.apply(&table, &shares(1, &[(&"x".repeat(MAX_NAME_BYTES + 1), 1.0, 1)]), 1);
        let names: Vec<String> = (0..MAX_BACKENDS + 10).map(|n| format!("t/{n}")).collect();
        peers.apply(&table, &shares(1, &names.iter().map(|name| (name.as_str(), 1.0, 1)).collect::<Vec<_>>()), 1);
        assert_eq!(peers.shares.len(), MAX_BACKENDS);
    }

    #[test]
    fn a_share_is_heard_of_a_backend_that_only_the_next_table_has() {
        let mut registry = LiveRegistry::new();
        let (mut peers, table) = (Peers::default(), table(&mut registry, 1, &[(1, "a")]));
        let empty = Arc::new(Table::compile(
            &Snapshot { version: Version { epoch: 1, version: 1 }, ..Snapshot::default() },
            &mut LiveRegistry::new(),
        ));
        peers.apply(&empty, &shares(1, &[("t/b", 70.0, 1)]), 1);
        peers.apply(&table, &sum(1, &[]), 2);
        assert_eq!(others(&table), (1, 70.0));
    }
}
