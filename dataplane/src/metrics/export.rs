//! Cells to the Prometheus text format: names, labels and help as the reference has them, then our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::snapshot::Version;
use dataplane_core::scheduler::Stage;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::cells::Buckets;
use super::roll::{Keyed, Told};
use super::series::{Active, Series};
use super::{Limit, MAX_SERIES, Metrics, PromptText, Side, StreamOutcome};

mod kv;

pub use kv::Kv;

/// Numbers that others keep and the scrape shows.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// The rung of the driver ladder that runs.
    pub driver: &'static str,
    /// The table's version.
    pub table_version: Version,
    /// Whether there is a stream to the control plane, and how many there were; none without a control plane.
    pub control_plane: Option<(bool, u64)>,
    /// Seconds since the table was last confirmed.
    pub table_age_s: f64,
    /// Snapshots refused so far.
    pub snapshots_refused: u64,
    /// Live entries of the prefix table.
    pub prefix_entries: u64,
    /// Its bytes.
    pub prefix_bytes: u64,
    /// Entries that made room for others.
    pub prefix_evictions: u64,
    /// Marks that found no room in a core's ring.
    pub prefix_marks_dropped: u64,
    /// Marks whose uses are counted.
    pub prefix_uses: u64,
    /// Messages of the fleet that the tables thread had no time for.
    pub fleet_lost: u64,
    /// Events of decisions that the fleet was not told of.
    pub fleet_untold: u64,
    /// Bytes of bodies held now.
    pub buffered_bytes: u64,
    /// The process's clock.
    pub now_ms: u64,
    /// Panics contained to one connection.
    pub panics: u64,
    /// Endpoints that are ejected now.
    pub ejected: u64,
    /// Predictions that an engine's event has taken the place of, or should have.
    pub prefix_marks_expired: u64,
    /// Requests that were sent so far, by the name of the table's endpoint.
    pub attempts: Vec<(Arc<str>, u64)>,
    /// What engines report that they hold; none without a control plane.
    pub kv: Option<Kv>,
    /// What the process costs its machine.
    pub process: Vec<MetricFamily>,
}

type LabelSet = Vec<(&'static str, String)>;

/// The whole exposition.
pub fn encode(metrics: &Metrics, gauges: &Gauges) -> Vec<u8> {
    let mut families = Vec::new();
    let (series, active) = (metrics.series.told(), metrics.active.told());
    request_families(&series, &mut families);
    active_families(&active, &mut families);
    plain_families(metrics, gauges.now_ms, &mut families);
    gauge_families(gauges, &mut families);
    kv::hits(&active, &mut families);
    if let Some(kv) = &gauges.kv {
        kv::families(kv, &mut families);
    }
    families.push(attempts(&gauges.attempts));
    families.extend(gauges.process.iter().cloned());
    // The encoder refuses a family without a metric, which is what most are before the first request.
    families.retain(|family| !family.get_metric().is_empty());
    let mut out = Vec::new();
    TextEncoder::new().encode(&families, &mut out).expect("writing to memory does not fail");
    out
}

fn request_families(series: &Told<Series>, out: &mut Vec<MetricFamily>) {
    let mut requests = Sums::<u64>::default();
    let mut tokens = Sums::<u64>::default();
    let mut durations = Sums::<Buckets>::default();
    let mut ttft = Sums::<Buckets>::default();
    let mut added = Sums::<Buckets>::default();
    for s in &series.cells {
        let l = s.labels();
        let model = ("model", l.model.to_owned());
        let path = ("path", l.path.to_owned());
        let status = ("status_code", l.status.to_string());
        let bound = [
            ("model_route", l.route.to_owned()),
            ("backend_type", l.backend_type().to_owned()),
            ("backend_name", l.backend.to_owned()),
            ("upstream_model", l.upstream_model.to_owned()),
        ];
        let with = |head: Vec<(&'static str, String)>| head.into_iter().chain(bound.clone()).collect::<LabelSet>();
        let error = ("error_type", l.error_type.to_owned());
        requests.add(with(vec![model.clone(), path.clone(), status.clone(), error]), s.requests.value());
        durations.merge(with(vec![model.clone(), path.clone(), status]), s.duration.read());
        for (kind, cell) in [("input", &s.input_tokens), ("output", &s.output_tokens)] {
            if cell.value() > 0 {
                tokens.add(with(vec![model.clone(), path.clone(), ("token_type", kind.into())]), cell.value());
            }
        }
    }
    for s in series.cells.iter().chain(&series.rests) {
        let l = s.labels();
        let short = vec![("model", l.model.to_owned()), ("backend_name", l.backend.to_owned())];
        ttft.merge(short.clone(), s.ttft.read());
        added.merge(short, s.added.read());
    }
    out.push(counters("kthena_router_requests_total", "Finished requests.", requests));
    out.push(histograms("kthena_router_request_duration_seconds", "Whole requests, streams included.", durations));
    out.push(counters("kthena_router_tokens_total", "Tokens: input estimated, output as engines report.", tokens));
    out.push(histograms("kthena_router_time_to_first_token_seconds", "Request to first event or body byte.", ttft));
    let added_help = "From a request's last byte until it leaves for its engine.";
    out.push(histograms("kthena_router_added_latency_seconds", added_help, added));
}

fn active_families(active: &Told<Active>, out: &mut Vec<MetricFamily>) {
    let mut downstream = Sums::<u64>::default();
    let mut upstream = Sums::<u64>::default();
    for a in &active.cells {
        let l = Keyed::labels(&**a);
        downstream.add(vec![("model", l.model.to_owned())], a.downstream.value());
        if l.backend != "none" {
            let labels = vec![
                ("model_server", l.backend.to_owned()),
                ("model_route", l.route.to_owned()),
                ("backend_type", "model_server".to_owned()),
                ("backend_name", l.backend.to_owned()),
                ("upstream_model", l.upstream_model.to_owned()),
            ];
            upstream.add(labels, a.upstream.value());
        }
    }
    out.push(gauges_of("kthena_router_active_downstream_requests", "Requests of clients being served.", downstream));
    out.push(gauges_of("kthena_router_active_upstream_requests", "Attempts at engines under way.", upstream));
    decision_families(active, out);
}

/// What is told by model, or by model and backend: what was forgotten of these is in them too.
fn decision_families(active: &Told<Active>, out: &mut Vec<MetricFamily>) {
    let mut schedule = Sums::<Buckets>::default();
    let mut ratio = Sums::<Buckets>::default();
    let mut gap = Sums::<Buckets>::default();
    for a in active.cells.iter().chain(&active.rests) {
        let l = Keyed::labels(&**a);
        if l.backend == "none" {
            continue;
        }
        let model = || vec![("model", l.model.to_owned())];
        let plugin = |name: &str, kind: &str| [model(), vec![("plugin", name.into()), ("type", kind.into())]].concat();
        schedule.merge(plugin("profile", "score"), a.schedule.read());
        for (stage, name, kind) in Stage::ALL {
            if let Some(took) = a.stage(stage) {
                schedule.merge(plugin(name, kind), took.read());
            }
        }
        ratio.merge(model(), a.match_ratio.read());
        // A rest of a model alone has no backend to tell of.
        if !l.backend.is_empty() {
            gap.merge([model(), vec![("backend_name", l.backend.to_owned())]].concat(), a.gap.read());
        }
    }
    out.push(histograms(
        "kthena_router_scheduler_plugin_duration_seconds",
        "One decision (`profile`), and its steps.",
        schedule,
    ));
    out.push(histograms("kthena_router_prefix_cache_match_ratio", "Best predicted share of the prompt.", ratio));
    out.push(histograms("kthena_router_inter_event_gap_seconds", "Each gap between two events of a stream.", gap));
}

/// By endpoint, each only once something was sent there: a proxy has at most so many series of these, and those of an endpoint
/// go with it.
fn attempts(attempts: &[(Arc<str>, u64)]) -> MetricFamily {
    let mut sums = Sums::<u64>::default();
    for (endpoint, count) in attempts.iter().filter(|(_, count)| *count > 0).take(MAX_SERIES) {
        sums.add(vec![("endpoint_name", endpoint.to_string())], *count);
    }
    counters("kthena_router_endpoint_attempts_total", "Requests sent to an endpoint, further attempts included.", sums)
}

fn plain_families(metrics: &Metrics, now_ms: u64, out: &mut Vec<MetricFamily>) {
    let sum = |read: &dyn Fn(&super::PlainCells) -> u64| metrics.cores.iter().map(|c| read(c)).sum::<u64>();
    let none = LabelSet::new;
    let mut limits = Sums::<u64>::default();
    for (limit, name) in Limit::ALL {
        limits.add(vec![("limit", name.into())], sum(&|c| c.limits[limit as usize].value()));
    }
    let mut streams = Sums::<u64>::default();
    for (outcome, name) in StreamOutcome::ALL {
        streams.add(vec![("outcome", name.into())], sum(&|c| c.streams[outcome as usize].value()));
    }
    let mut errors = Sums::<u64>::default();
    for (side, name) in Side::ALL {
        errors.add(vec![("side", name.into())], sum(&|c| c.errors[side as usize].value()));
    }
    let mut prompts = Sums::<u64>::default();
    for (text, name) in PromptText::ALL {
        prompts.add(vec![("text", name.into())], sum(&|c| c.prompts[text as usize].value()));
    }
    core_families(metrics, now_ms, out);
    let one = |n: u64| Sums::<u64>::of(none(), n);
    out.push(gauges_of(
        "kthena_router_active_requests",
        "Requests inside the proxy.",
        one(sum(&|c| c.active_requests.value())),
    ));
    out.push(counters(
        "kthena_router_connections_accepted_total",
        "Client connections so far.",
        one(sum(&|c| c.accepted.value())),
    ));
    out.push(counters(
        "kthena_router_connections_handed_off_total",
        "Connections moved between cores.",
        one(sum(&|c| c.handed_off.value())),
    ));
    out.push(counters("kthena_router_limit_hits_total", "Limits hit, by the setting's name.", limits));
    out.push(counters("kthena_router_errors_total", "Requests that failed, by whose fault it is.", errors));
    out.push(counters("kthena_router_streams_total", "Streams, by how they ended.", streams));
    out.push(counters(
        "kthena_router_templated_prompts_total",
        "Prompts of backends with a chat template, by how their text was had.",
        prompts,
    ));
    out.push(counters("kthena_router_retries_total", "Attempts beyond the first.", one(sum(&|c| c.retries.value()))));
    out.push(counters(
        "kthena_router_locality_given_up_blocks_total",
        "Prompt blocks that another endpoint held and the chosen one did not.",
        one(sum(&|c| c.locality_given_up.value())),
    ));
    out.push(counters(
        "kthena_router_upstream_connects_total",
        "Engine connections made.",
        one(sum(&|c| c.connects.value())),
    ));
    out.push(counters(
        "kthena_router_upstream_stale_total",
        "Idle engine connections found dead.",
        one(sum(&|c| c.stale.value())),
    ));
    out.push(counters(
        "kthena_router_access_log_dropped_total",
        "Log records without room.",
        one(sum(&|c| c.records_dropped.value())),
    ));
}

/// What is told of each core.
fn core_families(metrics: &Metrics, now_ms: u64, out: &mut Vec<MetricFamily>) {
    let mut lag = Sums::<Buckets>::default();
    let mut connections = Sums::<u64>::default();
    let mut idle = Sums::<u64>::default();
    let mut silent = Sums::<u64>::default();
    for (id, core) in metrics.cores.iter().enumerate() {
        lag.merge(vec![("core", id.to_string())], core.loop_lag.read());
        connections.add(vec![("core", id.to_string())], core.connections.value());
        idle.add(vec![("core", id.to_string())], core.idle.value());
        silent.add(vec![("core", id.to_string())], now_ms.saturating_sub(core.heartbeat_ms.last_ms()));
    }
    out.push(gauges_of("kthena_router_core_silent_milliseconds", "Since a core's last sign of life.", silent));
    out.push(gauges_of("kthena_router_downstream_connections", "Client connections.", connections));
    out.push(gauges_of(
        "kthena_router_idle_downstream_connections",
        "Those of them that have waited for a request for a second or two.",
        idle,
    ));
    out.push(histograms(
        "kthena_router_core_loop_lag_seconds",
        "How late a core was for what was due, ten times a second.",
        lag,
    ));
}

fn gauge_families(g: &Gauges, out: &mut Vec<MetricFamily>) {
    let gauge = |name, help, value: f64| {
        let mut metric = Metric::from_label(Vec::new());
        metric.set_gauge(gauge_value(value));
        family(name, help, MetricType::GAUGE, vec![metric])
    };
    let mut driver = Metric::from_label(vec![pair("driver", g.driver)]);
    driver.set_gauge(gauge_value(1.0));
    out.push(family("kthena_router_io_driver", "The I/O driver that runs.", MetricType::GAUGE, vec![driver]));
    // Versions count within an epoch, which is one process of the control plane.
    let Version { epoch, version } = g.table_version;
    let mut table = Metric::from_label(vec![pair("epoch", &format!("{epoch:016x}"))]);
    table.set_gauge(gauge_value(version as f64));
    out.push(family("kthena_router_config_version", "Version of the table.", MetricType::GAUGE, vec![table]));
    out.push(gauge("kthena_router_config_age_seconds", "Time since the table was confirmed.", g.table_age_s));
    if let Some((connected, streams)) = g.control_plane {
        let text = "Whether there is a stream to the control plane.";
        out.push(gauge("kthena_router_control_plane_connected", text, f64::from(u8::from(connected))));
        let text = "Streams to the control plane that were opened.";
        out.push(counters("kthena_router_control_plane_streams_total", text, Sums::<u64>::of(Vec::new(), streams)));
    }
    out.push(gauge("kthena_router_prefix_cache_entries", "Marks in the prefix table.", g.prefix_entries as f64));
    out.push(gauge("kthena_router_prefix_cache_bytes", "Bytes of the prefix table.", g.prefix_bytes as f64));
    out.push(gauge("kthena_router_buffered_bytes", "Bytes of request bodies held.", g.buffered_bytes as f64));
    out.push(gauge("kthena_router_ejected_endpoints", "Endpoints ejected now.", g.ejected as f64));
    out.push(counters("kthena_router_panics_total", "Panics contained.", Sums::<u64>::of(Vec::new(), g.panics)));
    let total = |n| Sums::<u64>::of(Vec::new(), n);
    let evictions = Sums::<u64>::of(vec![("model", "_all".into())], g.prefix_evictions);
    out.push(counters("kthena_router_prefix_cache_evictions_total", "Marks that made room.", evictions));
    out.push(counters(
        "kthena_router_prefix_marks_dropped_total",
        "Marks without room in a ring.",
        total(g.prefix_marks_dropped),
    ));
    out.push(counters(
        "kthena_router_prefix_marks_expired_total",
        "Marks whose time was over, where engines tell what they hold.",
        total(g.prefix_marks_expired),
    ));
    out.push(gauge("kthena_router_prefix_uses", "Marks whose uses are counted.", g.prefix_uses as f64));
    out.push(counters("kthena_router_fleet_lost_total", "Fleet messages without room.", total(g.fleet_lost)));
    out.push(counters("kthena_router_fleet_untold_total", "Marks nobody was told of.", total(g.fleet_untold)));
    out.push(counters("kthena_router_config_rejected_total", "Snapshots refused.", total(g.snapshots_refused)));
}

/// Values by labels, in a stable order.
struct Sums<T>(BTreeMap<LabelSet, T>);

impl<T> Default for Sums<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Sums<u64> {
    fn of(labels: LabelSet, n: u64) -> Self {
        Self(BTreeMap::from([(labels, n)]))
    }

    fn add(&mut self, labels: LabelSet, n: u64) {
        *self.0.entry(labels).or_default() += n;
    }
}

impl Sums<Buckets> {
    fn merge(&mut self, labels: LabelSet, buckets: Buckets) {
        if buckets.count() == 0 {
            return;
        }
        match self.0.entry(labels) {
            std::collections::btree_map::Entry::Vacant(e) => drop(e.insert(buckets)),
            std::collections::btree_map::Entry::Occupied(mut e) => e.get_mut().merge(&buckets),
        }
    }
}

fn counters(name: &str, help: &str, sums: Sums<u64>) -> MetricFamily {
    let metrics = sums.0.into_iter().map(|(labels, n)| {
        let mut counter = Counter::default();
        counter.set_value(n as f64);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_counter(counter);
        metric
    });
    family(name, help, MetricType::COUNTER, metrics.collect())
}

fn gauges_of(name: &str, help: &str, sums: Sums<u64>) -> MetricFamily {
    let metrics = sums.0.into_iter().map(|(labels, n)| {
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_gauge(gauge_value(n as f64));
        metric
    });
    family(name, help, MetricType::GAUGE, metrics.collect())
}

fn histograms(name: &str, help: &str, sums: Sums<Buckets>) -> MetricFamily {
    let metrics = sums.0.into_iter().map(|(labels, buckets)| {
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_histogram(histogram(&buckets));
        metric
    });
    family(name, help, MetricType::HISTOGRAM, metrics.collect())
}

fn histogram(buckets: &Buckets) -> Histogram {
    let mut so_far = 0;
    let list = buckets.bounds.iter().zip(&buckets.counts).map(|(bound, n)| {
        so_far += n;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(so_far);
        bucket
    });
    let list = list.collect();
    let mut h = Histogram::default();
    h.set_bucket(list);
    h.set_sample_count(buckets.count());
    h.set_sample_sum(buckets.sum_s());
    h
}

fn gauge_value(value: f64) -> Gauge {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    gauge
}

fn pairs(labels: LabelSet) -> Vec<LabelPair> {
    labels.iter().map(|(name, value)| pair(name, value)).collect()
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{ActiveLabels, Labels};
    use super::*;

    fn text() -> String {
        let metrics = Metrics::new(2);
        for id in 0..2 {
            let core = metrics.of_core(id);
            let labels = Labels {
                model: "llama",
                path: "/v1/chat/completions",
                status: 200,
                error_type: "successful_request",
                route: "default/r",
                backend: "default/b",
                upstream_model: "none",
            };
            let series = core.series.of(&labels);
            series.requests.add(1);
            series.duration.observe(Duration::from_millis(30));
            let labels = ActiveLabels { model: "llama", route: "r", backend: "b", upstream_model: "none" };
            core.active.of(&labels).downstream.up();
            core.hit(Limit::Body);
            core.error(Side::Internal);
        }
        let table_version = Version { epoch: 0xabc, version: 7 };
        // Two ranks of a pod have one name.
        let attempts = [("default/one", 3), ("default/one", 4), ("default/idle", 0)];
        let attempts = attempts.map(|(name, count)| (name.into(), count)).into();
        let gauges = Gauges { driver: "epoll", table_version, attempts, ..Gauges::default() };
        String::from_utf8(encode(&metrics, &gauges)).unwrap()
    }

    fn check(line: &str) {
        let text = text();
        assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
    }

    #[test]
    fn a_process_without_a_request_can_be_scraped() {
        let text = String::from_utf8(encode(&Metrics::new(1), &Gauges::default())).unwrap();
        assert!(text.contains("kthena_router_panics_total 0\n"), "{text}");
        assert!(!text.contains("kthena_router_requests_total"), "{text}");
    }

    #[test]
    fn cores_are_summed_under_the_references_names() {
        check(
            "kthena_router_requests_total{model=\"llama\",path=\"/v1/chat/completions\",status_code=\"200\",\
             error_type=\"successful_request\",model_route=\"default/r\",backend_type=\"model_server\",\
             backend_name=\"default/b\",upstream_model=\"none\"} 2",
        );
        check("kthena_router_active_downstream_requests{model=\"llama\"} 2");
        check("kthena_router_limit_hits_total{limit=\"body\"} 2");
        check("kthena_router_io_driver{driver=\"epoll\"} 1");
    }

    #[test]
    fn versions_are_told_with_what_they_count_within() {
        check("kthena_router_config_version{epoch=\"0000000000000abc\"} 7");
    }

    #[test]
    fn every_side_has_its_errors_from_the_start() {
        check("kthena_router_errors_total{side=\"internal\"} 2");
        check("kthena_router_errors_total{side=\"upstream\"} 0");
        check("kthena_router_errors_total{side=\"downstream\"} 0");
    }

    #[test]
    fn an_endpoint_is_told_of_once_it_was_sent_something_and_never_more_than_so_many() {
        check("kthena_router_endpoint_attempts_total{endpoint_name=\"default/one\"} 7");
        assert!(!text().contains("default/idle"));
        let many: Vec<(Arc<str>, u64)> = (0..MAX_SERIES + 9).map(|n| (format!("e/{n}").into(), 1)).collect();
        assert_eq!(attempts(&many).get_metric().len(), MAX_SERIES);
    }

    #[test]
    fn a_process_that_has_served_nothing_has_metrics_too() {
        let text = String::from_utf8(encode(&Metrics::new(1), &Gauges::default())).unwrap();
        assert!(text.contains("kthena_router_prefix_cache_entries 0"), "{text}");
    }

    #[test]
    fn buckets_are_cumulative() {
        let text = text();
        assert!(text.contains("le=\"0.025\"} 0"), "{text}");
        assert!(text.contains("le=\"0.05\"} 2"), "{text}");
    }
}
