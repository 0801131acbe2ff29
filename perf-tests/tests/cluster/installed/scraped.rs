//! A real Prometheus finds the chart's pods by the chart's own monitors, as Prometheus Operator would tell it to, and answers what the dashboards ask.

mod targets;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use perf_tests::helm::Render;
use perf_tests::missing;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::site::{GATEWAY, NODE, RELEASE, Site, everything, settings};
use crate::program::route;
use crate::prometheus::{FIRED, Prometheus, queries, variables};
use crate::wait::{DEADLINE, until};
use targets::{Found, sanitized};

/// The monitors of the chart with these settings.
fn monitors(site: &Site, more: &[&str]) -> Vec<Value> {
    let set = [&settings(more)[..], &["monitoring.monitors=true"]].concat();
    let (api_versions, namespace) = (&["monitoring.coreos.com/v1"], &site.namespace);
    let rendered =
        Render { set: &set, api_versions, namespace, release: RELEASE, ..Render::default() }.objects().unwrap();
    rendered.into_iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Monitor")).collect()
}

/// What Prometheus Operator makes of them: a job for each endpoint of each monitor. Debian's Prometheus cannot ask an API server, so it is told what
/// it would find there.
async fn jobs(site: &Site, monitors: &[Value]) -> Vec<Value> {
    let found = Found::of(site).await;
    let mut jobs = Vec::new();
    for monitor in monitors {
        // Where the targets are, of what the labels are, which of them has the port, and the list of endpoints.
        let (targets, of, port, endpoints) = match monitor["kind"].as_str().unwrap() {
            "PodMonitor" => (found.pods(), "pod", "pod_container_port_name", "podMetricsEndpoints"),
            "ServiceMonitor" => (found.services(), "service", "endpointslice_port_name", "endpoints"),
            kind => panic!("{kind}"),
        };
        let (namespace, name) = (&monitor["metadata"]["namespace"], monitor["metadata"]["name"].as_str().unwrap());
        let selector = monitor["spec"]["selector"].as_object().unwrap();
        assert!(selector.keys().all(|key| key == "matchLabels"), "{selector:?}");
        for (n, endpoint) in monitor["spec"][endpoints].as_array().unwrap().iter().enumerate() {
            let mut relabel = vec![
                json!({"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"}),
            ];
            for (label, value) in selector["matchLabels"].as_object().unwrap() {
                let label = format!("__meta_kubernetes_{of}_label_{}", sanitized(label));
                relabel.push(json!({"source_labels": [label], "regex": value, "action": "keep"}));
            }
            if let Some(name) = endpoint["port"].as_str() {
                let label = format!("__meta_kubernetes_{port}");
                relabel.push(json!({"source_labels": [label], "regex": name, "action": "keep"}));
            }
            for (from, to) in [("namespace", "namespace"), ("pod_name", "pod"), ("pod_container_name", "container")] {
                relabel.push(json!({"source_labels": [format!("__meta_kubernetes_{from}")], "target_label": to}));
            }
            relabel
                .push(json!({"target_label": "job", "replacement": format!("{}/{name}", namespace.as_str().unwrap())}));
            relabel.extend(endpoint["relabelings"].as_array().into_iter().flatten().map(snake_case));
            jobs.push(json!({"job_name": format!("{}/{name}/{n}", monitor["kind"].as_str().unwrap()),
                "metrics_path": endpoint["path"], "relabel_configs": relabel, "static_configs": targets}));
        }
    }
    jobs
}

/// A relabeling in the words of Prometheus.
fn snake_case(relabeling: &Value) -> Value {
    let known = [("sourceLabels", "source_labels"), ("targetLabel", "target_label")];
    let fields = relabeling.as_object().unwrap().iter().map(|(name, value)| {
        let other = known.iter().find(|(known, _)| known == name).map_or(name.as_str(), |(_, other)| *other);
        (other.to_owned(), value.clone())
    });
    Value::Object(fields.collect())
}

/// One that scrapes each pod of the chart once, as one of its node, as it was installed with these settings, or None where Prometheus is missing.
pub async fn by_monitors(site: &Site, folder: &Path, more: &[&str]) -> Option<Prometheus> {
    let monitors = monitors(site, more);
    assert_eq!(monitors.len(), 3, "{monitors:#?}");
    let Some(prometheus) = Prometheus::start(folder, jobs(site, &monitors).await) else {
        missing::skip("prometheus");
        return None;
    };
    let pods: BTreeSet<_> = everything(site).await.into_iter().map(|pod| (pod.name, pod.node)).collect();
    let text = |of: &Value, label: &str| of[label].as_str().unwrap_or_default().to_owned();
    let mut up = Vec::new();
    let all_up = async || {
        up = prometheus.query("up == 1").await;
        let found: Vec<_> = up.iter().map(|(labels, _)| (text(labels, "pod"), text(labels, "node"))).collect();
        found.len() == pods.len() && found.into_iter().collect::<BTreeSet<_>>() == pods
    };
    let in_time = timeout(DEADLINE - Duration::from_secs(5), until("scrape of each pod", all_up)).await;
    let log = std::fs::read_to_string(folder.join("prometheus.log")).unwrap();
    assert!(in_time.is_ok(), "of {pods:?} are up: {up:#?}; {log}");
    Some(prometheus)
}

/// Clients of all kinds at a proxy, until it is dropped.
struct Traffic(Arc<AtomicBool>);

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Traffic {
    fn at(address: String) -> Self {
        let over = Arc::<AtomicBool>::default();
        let ends = over.clone();
        tokio::spawn(async move {
            while !ends.load(Relaxed) {
                let next = Instant::now() + Duration::from_millis(100);
                // A long prompt that comes again is one that is cached; a model that nobody has is the client's error, and an engine that
                // has too much to do is the engine's, of which no alert tells.
                let prompt = "the same beginning of each prompt ".repeat(40);
                let asked = json!([{"role": "user", "content": prompt}]);
                for (body, field) in [
                    (json!({"model": "chat", "max_tokens": 4, "stream": true, "messages": asked}), ""),
                    (json!({"model": "chat", "max_tokens": 2, "messages": asked}), ""),
                    (json!({"model": "chat", "max_tokens": 2, "messages": asked}), "x-sim-fail: 429\r\n"),
                    (json!({"model": "nobody", "messages": asked}), ""),
                ] {
                    post(&address, field, &body.to_string()).await;
                }
                sleep_until(next).await;
            }
        });
        Self(over)
    }
}

async fn post(address: &str, field: &str, body: &str) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n";
        stream.write_all(format!("{head}{field}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    // What becomes of it is for Prometheus to tell.
    let _ = timeout(Duration::from_secs(10), exchange).await;
}

/// What the dashboards' numbers come to with this traffic, and a query that is 1 where that is so.
const FACTS: [(&str, &str); 8] = [
    ("clients' errors", "sum(rate(kthena_router_errors_total{side=\"downstream\"}[10s])) > bool 0"),
    ("engines' errors", "sum(rate(kthena_router_errors_total{side=\"upstream\"}[10s])) > bool 0"),
    ("none of ours", "sum(kthena_router_errors_total{side=\"internal\"}) == bool 0"),
    ("endpoints' traffic", "count(count by (endpoint_name) (kthena_router_endpoint_attempts_total)) >= bool 2"),
    ("tokens that were taken to be cached", "sum(rate(kthena_router_predicted_cached_tokens_total[10s])) > bool 0"),
    ("tokens that were cached", "sum(rate(kthena_router_reported_cached_tokens_total[10s])) > bool 0"),
    ("a version of each of the five data planes", "count(kthena_router_config_version{epoch!=\"\"}) == bool 5"),
    ("time that each of the seven spends", "count(rate(process_cpu_seconds_total[10s]) > 0) == bool 7"),
];

/// Every query of the dashboards has an answer while there is traffic, their variables have values, and no alert fires.
pub async fn dashboards(site: &Site) {
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let Some(prometheus) = by_monitors(site, folder.path(), &[]).await else { return };
    let (near, far) = (site.proxies(NODE).await, site.proxies(GATEWAY).await);
    let _traffic = [&near[0], &far[0]].map(|proxy| Traffic::at(proxy.at(8080)));
    let mut waiting = queries(&site.namespace);
    assert!(waiting.len() > 30, "{waiting:?}");
    for edits in 0.. {
        // Builds of snapshots are looked at, too.
        site.apply(&route(&format!("looked-at-{edits}"), "chat")).await;
        let mut silent = Vec::new();
        for (title, query) in waiting {
            if !prometheus.answers(&query).await {
                silent.push((title, query));
            }
        }
        waiting = silent;
        if waiting.is_empty() {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "without an answer: {waiting:#?}");
        sleep(Duration::from_millis(500)).await;
    }
    for (metric, label) in variables() {
        assert_eq!(prometheus.label_values(&metric, &label).await, [site.namespace.as_str()], "{metric} {label}");
    }
    for (fact, query) in FACTS {
        until(fact, async || prometheus.query(query).await.iter().any(|(_, value)| value == "1")).await;
    }
    assert_eq!(prometheus.query(FIRED).await, [], "nothing is wrong");
    println!("each query of the dashboards was answered of the chart's pods after {:?}", began.elapsed());
}
