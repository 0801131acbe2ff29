//! What engines report of their caches, and how well requests' hits were predicted.

use std::sync::Arc;

use api::kv::Trust;
use dataplane_core::kv::Counts;
use prometheus::proto::MetricFamily;

use super::{LabelSet, Sums, counters, gauges_of};
use crate::metrics::roll::{Keyed, Told};
use crate::metrics::series::Active;
use crate::tables::KvStats;

/// Of the KV lane.
#[derive(Debug, Clone, Default)]
pub struct Kv {
    /// What is held, and what came of what was told.
    pub stats: Arc<KvStats>,
    /// Bytes of the table.
    pub bytes: u64,
    /// Messages that could not be understood.
    pub refused: u64,
}

/// Of requests whose engine says how many prompt tokens it had cached: what was taken to be cached, and what was.
pub(super) fn hits(active: &Told<Active>, out: &mut Vec<MetricFamily>) {
    let (mut predicted, mut reported) = (Sums::<u64>::default(), Sums::<u64>::default());
    for cells in active.cells.iter().chain(&active.rests) {
        let (before, after) = (cells.predicted_tokens.value(), cells.cached_tokens.value());
        if before > 0 || after > 0 {
            let labels: LabelSet = vec![("model", Keyed::labels(&**cells).model.to_owned())];
            predicted.add(labels.clone(), before);
            reported.add(labels, after);
        }
    }
    let text = "Prompt tokens taken to be cached, of requests whose engine says how many were. Right to 2 % in sum: tokens are taken to be equally long within a prompt.";
    out.push(counters("kthena_router_predicted_cached_tokens_total", text, predicted));
    let text = "Prompt tokens cached, as engines report.";
    out.push(counters("kthena_router_reported_cached_tokens_total", text, reported));
}

/// The table, and what came of what the control plane told.
pub(super) fn families(kv: &Kv, out: &mut Vec<MetricFamily>) {
    let Kv { stats, bytes, refused } = kv;
    let Counts { updates: _, entries, stale, gaps, asked, homeless, refused: no_room, forgotten } = stats.counts;
    let one = |n: u64| Sums::<u64>::of(LabelSet::new(), n);
    let text = "Blocks that engines report, counted at each endpoint.";
    out.push(gauges_of("kthena_router_kv_blocks", text, one(stats.look.blocks)));
    out.push(gauges_of("kthena_router_kv_bytes", "Bytes of the table of reported blocks.", one(*bytes)));
    let mut trust = Sums::<u64>::default();
    for ((_, name), count) in Trust::ALL.iter().zip(stats.look.trust) {
        trust.add(vec![("trust", (*name).into())], count as u64);
    }
    let text = "Endpoints of whose caches something was told, by how far that is believed.";
    out.push(gauges_of("kthena_router_kv_endpoints", text, trust));
    out.push(counters("kthena_router_kv_updates_total", "Changes of blocks that were told.", one(entries)));
    let mut dropped = Sums::<u64>::default();
    for (reason, count) in [("unknown_endpoint", homeless), ("no_room", no_room)] {
        dropped.add(vec![("reason", reason.into())], count);
    }
    out.push(counters("kthena_router_kv_updates_dropped_total", "Changes of blocks that were not taken.", dropped));
    let mut messages = Sums::<u64>::default();
    for (reason, count) in [("stale", stale), ("refused", *refused)] {
        messages.add(vec![("reason", reason.into())], count);
    }
    out.push(counters("kthena_router_kv_messages_dropped_total", "Messages of blocks not taken.", messages));
    out.push(counters("kthena_router_kv_gaps_total", "Times that messages were missing.", one(gaps)));
    out.push(counters("kthena_router_kv_digests_total", "Times that it was told what is held.", one(asked)));
    let text = "Times that what an endpoint held was dropped.";
    out.push(counters("kthena_router_kv_forgotten_total", text, one(forgotten)));
}
