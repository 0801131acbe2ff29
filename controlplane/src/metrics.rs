//! What is measured. Parts that count for themselves register in a registry that they are given; the rest is read at
//! each scrape from values that are there anyway, so that nothing is counted twice or forgotten.

mod kv;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    exponential_buckets,
};

use crate::admin::Look;
use crate::publish::Verdicts;
use crate::publish::serve::{Counts, DataPlane, Outstanding};
use crate::webhook;

/// Builds, as they are made.
#[derive(Debug)]
pub struct Builds {
    total: IntCounter,
    seconds: Histogram,
    panics: IntCounter,
    panicking: IntGauge,
}

impl Builds {
    /// Registers its metrics; a registry takes one of these.
    pub fn new(registry: &Registry) -> Self {
        let total = counter("kthena_controlplane_builds_total", "Builds of a snapshot.");
        // 0.1 ms to 3.3 s: one object to a full snapshot.
        let buckets = exponential_buckets(0.000_1, 2.0, 16).expect("start and factor make buckets");
        let options = HistogramOpts::new("kthena_controlplane_build_seconds", "What a build took.").buckets(buckets);
        let seconds = Histogram::with_opts(options).expect("the name and the buckets are valid");
        let panics = counter("kthena_controlplane_build_panics_total", "Builds that panicked.");
        let help =
            "1 while what was read last makes a build panic, and what has changed since the last one is put aside.";
        let panicking = IntGauge::new("kthena_controlplane_build_panicking", help).expect("the name is valid");
        let all: [Box<dyn Collector>; 4] =
            [Box::new(total.clone()), Box::new(seconds.clone()), Box::new(panics.clone()), Box::new(panicking.clone())];
        all.into_iter().for_each(|metric| registry.register(metric).expect("a registry takes one of these"));
        Self { total, seconds, panics, panicking }
    }

    /// One that came to nothing.
    pub fn panicked(&self) {
        self.panics.inc();
        self.panicking.set(1);
    }

    /// One more.
    pub fn built(&self, took: Duration) {
        self.total.inc();
        self.panicking.set(0);
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Lists of the cluster, as they are read.
#[derive(Debug)]
pub struct Watches {
    lists: IntCounterVec,
    failures: IntCounterVec,
    older: IntCounterVec,
    failing: IntGaugeVec,
}

impl Watches {
    /// Registers its metrics; a registry takes one of these.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            let counter =
                IntCounterVec::new(Opts::new(name, help), &["kind"]).expect("the name and the label are valid");
            registry.register(Box::new(counter.clone())).expect("a registry takes one of these");
            counter
        };
        let help = "Lists that could not be read or followed at the last attempt: what is known of them grows old.";
        let failing = IntGaugeVec::new(Opts::new("kthena_controlplane_watches_failing", help), &["kind"]);
        let failing = failing.expect("the name and the label are valid");
        registry.register(Box::new(failing.clone())).expect("a registry takes one of these");
        Self {
            failing,
            lists: counter("kthena_controlplane_lists_total", "Lists read from the API server, as a whole."),
            failures: counter("kthena_controlplane_watch_failures_total", "Lists and watches that failed."),
            older: counter("kthena_controlplane_older_lists_total", "Lists refused: older than what was read before."),
        }
    }

    /// One was read.
    pub fn listed(&self, kind: &str) {
        self.lists.with_label_values(&[kind]).inc();
    }

    /// One could not be read or followed.
    pub fn failed(&self, kind: &str) {
        self.failures.with_label_values(&[kind]).inc();
    }

    /// One has begun to fail, or is well again.
    pub fn failing(&self, kind: &str, fails: bool) {
        self.failing.with_label_values(&[kind]).add(if fails { 1 } else { -1 });
    }

    /// One was of the past.
    pub fn older(&self, kind: &str) {
        self.older.with_label_values(&[kind]).inc();
    }
}

/// The text of a scrape.
pub fn encode(registry: &Registry, look: &Look) -> prometheus::Result<String> {
    let mut families = registry.gather();
    families.extend(of_build(look));
    families.extend(of_stream(look));
    families.extend(of_counts(&look.counts));
    families.extend(kv::families(look));
    families.extend(look.reviews.iter().flat_map(|reviews| of_reviews(reviews)));
    families.extend(process_metrics::families());
    // One by a label that nothing has would be an error.
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

/// What the newest build came to; nothing until there is one.
fn of_build(look: &Look) -> Vec<MetricFamily> {
    let Some(round) = &look.round else { return Vec::new() };
    let snapshot = &round.snapshot;
    let endpoints = snapshot.backends.iter().map(|backend| backend.endpoints.len()).sum();
    let mut families = objects(&round.verdicts);
    for (name, help, value) in [
        ("kthena_controlplane_snapshot_routes", "Routes of the newest snapshot.", snapshot.routes.len()),
        ("kthena_controlplane_snapshot_backends", "Backends of the newest snapshot.", snapshot.backends.len()),
        ("kthena_controlplane_snapshot_endpoints", "Endpoints of all its backends.", endpoints),
    ] {
        families.extend(gauge(name, help, value as u64));
    }
    let help = "The newest build's number; published_source_version follows it.";
    families.extend(gauge("kthena_controlplane_source_version", help, snapshot.version.version));
    families
}

/// Objects by what became of them.
fn objects(verdicts: &Verdicts) -> Vec<MetricFamily> {
    let routes = verdicts.routes.values().map(|verdict| ("ModelRoute", verdict.accepted.reason));
    let servers = verdicts.servers.values().map(|verdict| ("ModelServer", verdict.accepted.reason));
    let providers = verdicts.providers.values().map(|verdict| ("ExternalModelProvider", verdict.accepted.reason));
    let mut sums: BTreeMap<(&str, String), i64> = BTreeMap::new();
    let judged = verdicts.judged.iter().map(|((kind, _), verdict)| (kind.name(), verdict.accepted.reason));
    for (kind, reason) in routes.chain(servers).chain(providers).chain(judged) {
        *sums.entry((kind, reason.to_string())).or_default() += 1;
    }
    let options = Opts::new("kthena_controlplane_objects", "Objects by kind and by the reason of their Accepted.");
    let gauges = IntGaugeVec::new(options, &["kind", "verdict"]).expect("the name and the labels are valid");
    for ((kind, verdict), sum) in &sums {
        gauges.with_label_values(&[*kind, verdict.as_str()]).set(*sum);
    }
    gauges.collect()
}

/// Who is connected, and how far the newest snapshot has come.
fn of_stream(look: &Look) -> Vec<MetricFamily> {
    let progress = &look.progress;
    let refusing = look.data_planes.iter().filter(|row| row.stuck.is_some() || !row.refused.is_empty()).count();
    let rows = [
        ("kthena_controlplane_published_source_version", "The build that was published last.", progress.source.version),
        ("kthena_controlplane_subscribers_connected", "Data planes on the stream.", progress.connected as u64),
        ("kthena_controlplane_subscribers_applied", "Of these, with the newest version.", progress.applied as u64),
        ("kthena_controlplane_subscribers_refused", "Of these, that refuse some of it or all.", refusing as u64),
    ];
    let loads = look.outstanding();
    let sum = |of: fn(&Outstanding) -> u64| loads.values().map(of).fold(0, u64::saturating_add);
    let loads = [
        ("kthena_controlplane_load_running", "Requests that they have at engines.", sum(|load| load.running)),
        (
            "kthena_controlplane_load_queue_depth",
            "Of these, those that wait in an engine's queue or for their prefill.",
            sum(|load| load.queue_depth),
        ),
        ("kthena_controlplane_load_queued_tokens", "Uncached prompt tokens of these.", sum(|load| load.queued_tokens)),
    ];
    let gauges = rows.into_iter().chain(loads).flat_map(|(name, help, value)| gauge(name, help, value));
    gauges.chain(versions(&look.data_planes)).collect()
}

/// Of more than these the rest is counted together: what they are called is the data planes' to say.
const VERSIONS: usize = 16;

/// A fleet that is mixed shows here.
fn versions(data_planes: &[DataPlane]) -> Vec<MetricFamily> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    data_planes.iter().for_each(|row| *counts.entry(&row.version).or_default() += 1);
    let mut counts: Vec<(&str, i64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| -count);
    let options = Opts::new("kthena_controlplane_subscribers", "Data planes on the stream, by the version they run.");
    let gauges = IntGaugeVec::new(options, &["version"]).expect("the name and the label are valid");
    for (n, (version, count)) in counts.into_iter().enumerate() {
        gauges.with_label_values(&[if n < VERSIONS { version } else { "other" }]).add(count);
    }
    gauges.collect()
}

fn of_counts(counts: &Counts) -> Vec<MetricFamily> {
    let rows: [(&str, &str, &AtomicU64); 11] = [
        ("kthena_controlplane_published_total", "Snapshots that differed from the one before.", &counts.published),
        ("kthena_controlplane_encoded_total", "Changes encoded, each once for all who need it.", &counts.encoded),
        ("kthena_controlplane_encoded_bytes_total", "Bytes of encoded changes.", &counts.encoded_bytes),
        ("kthena_controlplane_sent_total", "Changes sent, each to one data plane.", &counts.sent),
        ("kthena_controlplane_applied_total", "Sent changes that were acknowledged.", &counts.applied),
        ("kthena_controlplane_refused_total", "Sent changes that were refused.", &counts.refused),
        ("kthena_controlplane_streams_total", "Streams opened.", &counts.streams),
        ("kthena_controlplane_streams_unproved_total", "Streams refused for want of proof.", &counts.unproved),
        (
            "kthena_controlplane_streams_excused_total",
            "Streams past their token's end, for nobody can renew it.",
            &counts.excused,
        ),
        ("kthena_controlplane_streams_cut_off_total", "Streams ended for want of an answer.", &counts.cut_off),
        ("kthena_controlplane_streams_behind_total", "Streams to data planes that had seen more.", &counts.behind),
    ];
    let family = |(name, help, value): (&str, &str, &AtomicU64)| {
        let counter = counter(name, help);
        counter.inc_by(value.load(Relaxed));
        counter.collect()
    };
    rows.into_iter().flat_map(family).collect()
}

fn of_reviews(reviews: &webhook::Counts) -> Vec<MetricFamily> {
    let options = Opts::new("kthena_controlplane_reviews_total", "Questions of API servers to the webhook, by answer.");
    let counters = IntCounterVec::new(options, &["answer"]).expect("the name and the label are valid");
    let webhook::Counts { allowed, refused, malformed } = reviews;
    for (answer, count) in [("allowed", allowed), ("refused", refused), ("malformed", malformed)] {
        counters.with_label_values(&[answer]).inc_by(count.load(Relaxed));
    }
    counters.collect()
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("the name is valid")
}

fn gauge(name: &str, help: &str, value: u64) -> Vec<MetricFamily> {
    let gauge = IntGauge::new(name, help).expect("the name is valid");
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.collect()
}
