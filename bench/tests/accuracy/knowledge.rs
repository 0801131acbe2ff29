//! What the product knows of an engine: its events go through the control plane's store, and what that tells goes through
//! the data plane's lane into its table.

use std::sync::Arc;

use api::kv::{Entries, Entry, Rank, Said, Trust, Update};
use controlplane::kv::event::Batch;
use controlplane::kv::store::{News, RankId, Store, TextBlock};
use controlplane::kv::text::Reading;
use dataplane_core::index::{Config, Query, Reader, Writer};
use dataplane_core::kv::Lane;

const RANK: RankId = RankId(1);
const HANDLE: u32 = 1;
const EPOCH: u64 = 1;
const NOW_MS: u64 = 10_000;

/// See the module.
pub(crate) struct Knowledge {
    model: Arc<str>,
    store: Store,
    lane: Lane,
    writer: Writer,
    reader: Reader,
    told: u64,
}

impl Knowledge {
    /// Of an engine of which nothing was heard yet.
    pub(crate) fn new(reading: Reading) -> Self {
        let model = reading.model.clone();
        let mut store = Store::new();
        store.admit(RANK, 1 << 20);
        store.read_as(RANK, reading);
        let mut writer = Writer::new(Config { max_seats: 64, max_owners: 256, ..Config::default() });
        let reader = writer.reader();
        let mut lane = Lane::default();
        let snapshot = r#"{"epoch": 1, "version": 1, "backends": [{"name": "t/b", "endpoints": [
            {"handle": 1, "name": "e", "address": "127.0.0.1:8000"}]}]}"#;
        let snapshot = Arc::new(api::json::snapshot_from_json(snapshot.as_bytes()).unwrap());
        assert!(writer.seat(&snapshot.backends[0].endpoints[0].key).is_some());
        lane.seated(&snapshot, NOW_MS, &mut writer);
        lane.opened(EPOCH, NOW_MS, &mut writer);
        Self { model, store, lane, writer, reader, told: 0 }
    }

    /// What the engine published.
    pub(crate) fn hear(&mut self, batch: &Batch) {
        self.store.apply(RANK, batch, &mut Vec::new());
        self.store.settle(RANK);
        let News { forgotten, blocks } = self.store.news(RANK);
        let entry = |TextBlock { hash, position, held }| {
            let said = if held { Said::Held } else { Said::Gone };
            Entry { hash, handle: HANDLE, position, said }
        };
        self.told += 1;
        let rank =
            Rank { handle: HANDLE, trust: Trust::Trusted, forget: forgotten, emptied: false, capacity_tokens: None };
        let update = Update {
            epoch: EPOCH,
            model: (&*self.model).into(),
            generation: 1,
            sequence: self.told,
            reset: self.told == 1,
            level: 0,
            ranks: vec![rank],
            entries: Entries::pack(blocks.into_iter().map(entry)),
        };
        assert_eq!(self.lane.take(&update, NOW_MS, &mut self.writer), None, "nothing is missing");
    }

    /// Leading blocks of a prompt's text that the engine is taken to hold.
    pub(crate) fn matched(&mut self, chain: &[u64]) -> usize {
        let matches = self.reader.lookup(&Query { chain, now_ms: NOW_MS, tie: 7 }, |_| true);
        matches.best().first().map_or(0, |found| found.blocks as usize)
    }

    /// Blocks of tokens whose text could not be read.
    pub(crate) fn unread(&self) -> u64 {
        self.store.rank(RANK).unwrap().unread()
    }
}
