//! What engines' caches are heard to hold, and what is told of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use super::{counter, gauge};
use crate::admin::Look;
use crate::kv::store::Tally;
use crate::kv::supervise::{Row, Sums};
use crate::kv::trust::Counts;

/// What becomes of an endpoint's events, see [`crate::kv::supervise::State::word`].
const STATES: &[&str] = &["begun", "unread", "silent", "differs", "fault", "heard", "elsewhere"];
/// Whether an engine writes chats as data planes do, see [`crate::kv::agree::Agreement::word`].
const CHATS: &[&str] = &["unasked", "same", "unanswered", "unchecked", "differs"];
/// How far a rank can be relied on.
const TRUSTS: &[&str] = &["cold", "replaying", "trusted", "gapped"];

pub(super) fn families(look: &Look) -> Vec<MetricFamily> {
    let states = look.heard.iter().map(|row| row.state.word().to_owned());
    let help = "Engines by what becomes of their KV events; see /debug/kv for the reasons.";
    let mut families = by_word("kthena_controlplane_kv_endpoints", help, ("state", STATES), states);
    let trusts =
        look.heard.iter().flat_map(|row| &row.ranks).map(|status| format!("{:?}", status.trust).to_lowercase());
    families.extend(by_word(
        "kthena_controlplane_kv_ranks",
        "Ranks that are heard, by trust.",
        ("trust", TRUSTS),
        trusts,
    ));
    let chats = look.heard.iter().map(|row| row.chats.word().to_owned());
    let help = "Engines by whether they write chats as data planes do; see /debug/kv for the reasons.";
    families.extend(by_word("kthena_controlplane_kv_chats", help, ("check", CHATS), chats));
    let held = |of: fn(&Row) -> u64| -> u64 { look.heard.iter().map(of).sum() };
    for (name, help, value) in [
        ("kthena_controlplane_kv_token_blocks", "Blocks of tokens that are remembered.", held(|row| row.held.blocks)),
        ("kthena_controlplane_kv_text_blocks", "Blocks of text that are told.", held(|row| row.held.told)),
        ("kthena_controlplane_kv_bytes", "Bytes that remembering takes.", held(|row| row.held.bytes)),
    ] {
        families.extend(gauge(name, help, value));
    }
    families.extend(of_sums(&look.sums));
    families.extend(look.lane.iter().flat_map(|lane| of_lane(lane.counts())));
    families
}

/// How many of each word there are, of these and perhaps others.
fn by_word(
    name: &str,
    help: &str,
    (label, all): (&str, &[&str]),
    words: impl Iterator<Item = String>,
) -> Vec<MetricFamily> {
    let mut sums: BTreeMap<String, i64> = all.iter().map(|word| ((*word).to_owned(), 0)).collect();
    words.for_each(|word| *sums.entry(word).or_default() += 1);
    let gauges = IntGaugeVec::new(Opts::new(name, help), &[label]).expect("the name and the label are valid");
    sums.iter().for_each(|(word, sum)| gauges.with_label_values(&[word.as_str()]).set(*sum));
    gauges.collect()
}

fn of_sums(sums: &Sums) -> Vec<MetricFamily> {
    let Sums { streams, connections, tally, unread, peer_faults } = *sums;
    let Counts {
        applied,
        repeated,
        unreadable,
        gaps,
        restarts,
        replays,
        failed_replays,
        overruns,
        forgotten,
        unparked,
    } = streams;
    let rows = [
        ("kthena_controlplane_kv_connections_total", "Connections to engines.", connections),
        ("kthena_controlplane_kv_messages_total", "Messages of engines that were taken in.", applied),
        ("kthena_controlplane_kv_repeated_total", "Messages that were known already.", repeated),
        ("kthena_controlplane_kv_unreadable_total", "Messages that could not be read.", unreadable),
        ("kthena_controlplane_kv_gaps_total", "Times that messages were missing.", gaps),
        ("kthena_controlplane_kv_restarts_total", "Times that an engine had begun anew.", restarts),
        ("kthena_controlplane_kv_replays_total", "Times that messages were asked for again.", replays),
        ("kthena_controlplane_kv_replays_failed_total", "Of these, that did not come to an end.", failed_replays),
        ("kthena_controlplane_kv_replays_overrun_total", "Of these, that came too late.", overruns),
        ("kthena_controlplane_kv_forgotten_total", "Times that all of a rank was forgotten.", forgotten),
        ("kthena_controlplane_kv_unparked_total", "Messages during a replay that found no room.", unparked),
        ("kthena_controlplane_kv_peer_faults_total", "Messages of other replicas that could not be read.", peer_faults),
    ];
    let mut families: Vec<MetricFamily> =
        rows.into_iter().flat_map(|(name, help, value)| total(name, help, value)).collect();
    let Tally { orphans, unindexed, unknown, conflicts, evicted } = tally;
    let options = Opts::new("kthena_controlplane_kv_dropped_total", "Blocks of which nothing is told, by reason.");
    let dropped = IntCounterVec::new(options, &["reason"]).expect("the name and the label are valid");
    for (reason, count) in [
        ("orphan", orphans),
        ("unindexed", unindexed),
        ("unknown", unknown),
        ("conflict", conflicts),
        ("evicted", evicted),
        ("unread", unread),
    ] {
        dropped.with_label_values(&[reason]).inc_by(count);
    }
    families.extend(dropped.collect());
    families
}

fn of_lane(counts: &crate::publish::serve::KvCounts) -> Vec<MetricFamily> {
    let rows: [(&str, &str, &AtomicU64); 5] = [
        ("kthena_controlplane_kv_sent_total", "Messages of the KV lane to data planes.", &counts.messages),
        ("kthena_controlplane_kv_sent_bytes_total", "Bytes of them.", &counts.bytes),
        ("kthena_controlplane_kv_paged_total", "Entries sent of whole endpoints.", &counts.paged),
        ("kthena_controlplane_kv_behind_total", "Times that a data plane fell behind the log.", &counts.behind),
        ("kthena_controlplane_kv_same_total", "Endpoints that a digest saved from being sent.", &counts.same),
    ];
    rows.into_iter().flat_map(|(name, help, value)| total(name, help, value.load(Relaxed))).collect()
}

fn total(name: &str, help: &str, value: u64) -> Vec<MetricFamily> {
    let counter = counter(name, help);
    counter.inc_by(value);
    counter.collect()
}
