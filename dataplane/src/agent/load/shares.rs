//! What this process decides for each backend, as changes since it was last told.

use std::collections::HashMap;

use api::id::BackendName;
use api::proto::BackendShare;
use dataplane_core::table::Table;

/// Backends in one message, which with all its endpoints stays under the 1 MiB that a control plane takes.
const IN_ONE: usize = 1_024;
/// Tokens per second; less is told as nothing, for a mean never falls to zero.
const LEAST: f64 = 1.0;
/// Of the greater rate. A mean moves every second, and a change by less is no news.
const PART: f64 = 1.0 / 16.0;

/// Rates as one stream was told them; none that is zero.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<BackendName, f64>);

impl Shares {
    /// What has changed. A backend that the table lost is told once as zero.
    pub(super) fn next(&mut self, table: &Table) -> Vec<BackendShare> {
        let lost = self.0.keys().filter(|name| table.backend(name).is_none());
        let mut news: Vec<(BackendName, f64)> = lost.map(|name| (name.clone(), 0.0)).collect();
        for backend in table.backends() {
            let rate = told_as(backend.live.token_rate());
            let told = self.0.get(&backend.name).copied().unwrap_or(0.0);
            if is_news(told, rate) {
                news.push((backend.name.clone(), rate));
            }
        }
        news.truncate(IN_ONE);
        news.into_iter().map(|(name, rate)| self.tell(name, rate)).collect()
    }

    fn tell(&mut self, name: BackendName, token_rate: f64) -> BackendShare {
        let backend = name.as_str().to_owned();
        if token_rate == 0.0 {
            self.0.remove(&name);
        } else {
            self.0.insert(name, token_rate);
        }
        BackendShare { backend, token_rate, ..BackendShare::default() }
    }
}

fn told_as(rate: f64) -> f64 {
    if rate < LEAST { 0.0 } else { rate }
}

fn is_news(told: f64, rate: f64) -> bool {
    (rate - told).abs() > PART * told.max(rate)
}

#[cfg(test)]
mod tests {
    use api::snapshot::{Snapshot, Version};
    use dataplane_core::load::{Answer, LiveRegistry};
    use dataplane_core::scheduler::{Matches, Request, Rng, schedule};

    use super::*;
    use crate::agent::load::Reporter;

    fn table(registry: &mut LiveRegistry, backends: &[&str]) -> Table {
        let backend = |name: &&str| {
            let endpoint = serde_json::json!({"handle": 1, "name": "e", "address": "127.0.0.1:1000"});
            serde_json::json!({"name": name, "endpoints": [endpoint]})
        };
        let text = serde_json::json!({"backends": backends.iter().map(backend).collect::<Vec<_>>()}).to_string();
        let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
        Table::compile(&Snapshot { version: Version { epoch: 1, version: 1 }, ..snapshot }, registry)
    }

    /// A prompt of so many bytes is decided for a backend.
    fn decide(table: &Table, name: &str, prompt_bytes: u32, now_ms: u64) {
        let request = Request { adapter: None, prompt_bytes, answer: Answer::Stream, peers: 1, session: None };
        let backend = table.backend(&name.into()).unwrap();
        schedule(&request, backend, &Matches::default(), &mut Rng::new(1), now_ms).unwrap();
    }

    fn told(shares: Vec<BackendShare>) -> Vec<(String, f64)> {
        shares.into_iter().map(|share| (share.backend, share.token_rate)).collect()
    }

    #[test]
    fn a_rate_is_told_when_it_has_changed_and_its_end_once() {
        let mut registry = LiveRegistry::new();
        let (table, mut shares) = (table(&mut registry, &["t/a", "t/b"]), Shares::default());
        table.refresh(1_000);
        assert_eq!(told(shares.next(&table)), []);
        // 2,000 tokens and 100 for the request.
        decide(&table, "t/a", 8_000, 1_500);
        assert_eq!(told(shares.next(&table)), [], "it is known at the next refresh");
        table.refresh(2_000);
        assert_eq!(told(shares.next(&table)), [("t/a".to_owned(), 2_100.0)]);
        decide(&table, "t/a", 7_600, 2_500);
        table.refresh(3_000);
        assert_eq!(told(shares.next(&table)), [], "about the same");
        let (mut now_ms, mut ends) = (3_000, 0);
        while now_ms < 200_000 {
            now_ms += 1_000;
            table.refresh(now_ms);
            for (name, rate) in told(shares.next(&table)) {
                assert_eq!(name, "t/a");
                ends += u32::from(rate == 0.0);
            }
        }
        assert_eq!(ends, 1);
    }

    #[test]
    fn a_backend_that_went_is_told_as_zero_and_a_new_stream_all_again() {
        let mut registry = LiveRegistry::new();
        let old = table(&mut registry, &["t/a", "t/b"]);
        old.refresh(1_000);
        decide(&old, "t/a", 8_000, 1_500);
        old.refresh(2_000);
        let (mut shares, mut reporter) = (Shares::default(), Reporter::new(1));
        assert_eq!(told(shares.next(&old)).len(), 1);
        assert_eq!(told(reporter.next(&old, 2_000).unwrap().shares), [("t/a".to_owned(), 2_100.0)]);
        assert!(reporter.next(&old, 2_000).is_none(), "once");
        let new = table(&mut registry, &["t/b"]);
        assert_eq!(told(shares.next(&new)), [("t/a".to_owned(), 0.0)]);
        assert_eq!(told(shares.next(&new)), []);
        let told_alone = reporter.next(&new, 2_000).unwrap();
        assert_eq!((told_alone.endpoints.len(), told_alone.shares.len()), (0, 1), "also where no endpoint has news");
    }

    #[test]
    fn more_than_one_message_holds_comes_in_the_next() {
        let names: Vec<String> = (0..IN_ONE + 10).map(|n| format!("t/{n}")).collect();
        let table = table(&mut LiveRegistry::new(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        table.refresh(1_000);
        names.iter().for_each(|name| decide(&table, name, 4_000, 1_500));
        table.refresh(2_000);
        let mut shares = Shares::default();
        assert_eq!([(); 3].map(|()| shares.next(&table).len()), [IN_ONE, 10, 0]);
    }
}
