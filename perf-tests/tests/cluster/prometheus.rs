//! What Prometheus makes of the planes: every query of the dashboards has an answer while there is traffic, no alert fires then, and one does when
//! the control plane dies. All of it in seconds instead of minutes: the rules are the chart's own with shorter times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use perf_tests::cluster::Cluster;
use perf_tests::helm::chart;
use perf_tests::missing;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::data_plane::DataPlane;
use crate::program::{Home, get, ports, route};
use crate::wait::{DEADLINE, until};

/// As long as ten scrapes, in place of Grafana's interval and the alerts' minutes.
const WINDOW: &str = "10s";
/// Each alert that has fired within a minute.
pub const FIRED: &str = "count by (alertname, pod) (count_over_time(ALERTS{alertstate=\"firing\"}[1m]))";

/// One that runs. Dropped, it is killed.
pub struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// None where it is not installed. `pods` are the names and ports of what is scraped, as a PodMonitor names them.
    pub fn start(folder: &Path, pods: &[(&str, u16)]) -> Option<Self> {
        let [port] = ports();
        let target = |(pod, port): &(&str, u16)| json!({"targets": [format!("127.0.0.1:{port}")], "labels": {"namespace": "serving", "pod": pod}});
        let scrape = json!({"job_name": "kthena", "static_configs": pods.iter().map(target).collect::<Vec<_>>()});
        let config = json!({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [folder.join("alerts.yaml")], "scrape_configs": [scrape]});
        fs::write(folder.join("prometheus.yaml"), config.to_string()).unwrap();
        fs::write(folder.join("alerts.yaml"), hastened()).unwrap();
        // The one beside promtool, where that is named.
        let promtool = std::env::var_os("KTHENA_PROMTOOL").map(PathBuf::from);
        let program = promtool.map_or_else(|| "prometheus".into(), |promtool| promtool.with_file_name("prometheus"));
        let log = fs::File::create(folder.join("prometheus.log")).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            child => Some(Self { child: child.unwrap(), port }),
        }
    }

    async fn ask(&self, path: &str) -> Value {
        let (_, body) = get(self.port, path).await.unwrap_or_default();
        // It may send in chunks: what is between the first and the last bracket is the answer.
        let json = body.find('{').zip(body.rfind('}')).map_or("", |(from, to)| &body[from..=to]);
        serde_json::from_str(json).unwrap_or_default()
    }

    /// Whether a query has any answer that is a number.
    async fn answers(&self, query: &str) -> bool {
        self.query(query).await.iter().any(|(_, value)| value != "NaN")
    }

    async fn firing(&self) -> Vec<String> {
        let alerts = self.alerts().await.into_iter();
        alerts.map(|labels| labels["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// The labels of each alert that fires.
    pub async fn alerts(&self) -> Vec<Value> {
        let found = self.ask("/api/v1/alerts").await;
        let alerts = found["data"]["alerts"].as_array().cloned().expect("it has rules");
        alerts.into_iter().filter(|alert| alert["state"] == "firing").map(|alert| alert["labels"].clone()).collect()
    }

    /// What a query comes to: labels and value of each series.
    pub async fn query(&self, query: &str) -> Vec<(Value, String)> {
        let found = self.ask(&format!("/api/v1/query?query={}", encoded(query))).await;
        let series = found["data"]["result"].as_array().cloned().unwrap_or_default().into_iter();
        series.map(|series| (series["metric"].clone(), series["value"][1].as_str().unwrap().to_owned())).collect()
    }
}

/// The chart's rules, in seconds.
fn hastened() -> String {
    let text = fs::read_to_string(chart().join("files/alerts.yaml")).unwrap();
    let mut rules: Value = serde_norway::from_str(&text).unwrap();
    for rule in rules["groups"][0]["rules"].as_array_mut().unwrap() {
        let expression = rule["expr"].as_str().unwrap().replace("[5m]", "[10s]").replace("[10m]", "[10s]");
        assert!(!expression.contains("m]"), "{expression}");
        rule["expr"] = expression.into();
        if !rule["for"].is_null() {
            rule["for"] = "5s".into();
        }
    }
    rules.to_string()
}

/// For the query of a URL.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// What Grafana would ask.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(chart().join("files/dashboards")).unwrap() {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap().replace("$__rate_interval", WINDOW);
                queries.push((panel["title"].as_str().unwrap().to_owned(), query.replace("$namespace", "serving")));
            }
        }
    }
    queries
}

/// Clients of all kinds at a data plane, until it is dropped.
struct Traffic(Arc<AtomicBool>);

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Traffic {
    fn at(port: u16) -> Self {
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
                    post(port, field, &body.to_string()).await;
                }
                sleep_until(next).await;
            }
        });
        Self(over)
    }
}

async fn post(port: u16, field: &str, body: &str) {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
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
    ("both endpoints' traffic", "count(count by (endpoint_name) (kthena_router_endpoint_attempts_total)) == bool 2"),
    ("tokens that were taken to be cached", "sum(rate(kthena_router_predicted_cached_tokens_total[10s])) > bool 0"),
    ("tokens that were cached", "sum(rate(kthena_router_reported_cached_tokens_total[10s])) > bool 0"),
    ("one epoch for both data planes", "count by (epoch) (kthena_router_config_version) == bool 2"),
    ("time that each of the three spends", "count(rate(process_cpu_seconds_total[10s]) > 0) == bool 3"),
];

#[tokio::test]
async fn every_query_of_the_dashboards_has_an_answer_and_alerts_fire_only_when_something_is_wrong() {
    let home = Home::new(Cluster::shared(), "prometheus").await;
    let _engines = home.chat().await;
    let control = home.control(&[]);
    let (first, second) = (DataPlane::start(&home, "first"), DataPlane::start(&home, "second"));
    for plane in [&first, &second] {
        plane.until_ready().await;
        until("an answer", async || plane.ask("chat").await == 200).await;
    }
    let pods = [("controlplane", home.metrics), ("first", first.metrics), ("second", second.metrics)];
    let Some(prometheus) = Prometheus::start(home.folder.path(), &pods) else {
        return missing::skip("prometheus");
    };
    let _traffic = [Traffic::at(first.port), Traffic::at(second.port)];

    let mut waiting = queries();
    assert!(waiting.len() > 30, "{waiting:?}");
    let (begin, mut edits) = (Instant::now(), 0);
    loop {
        // Builds of snapshots are looked at, too.
        edits += 1;
        home.apply(&route(&format!("edit-{edits}"), "chat")).await;
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
        assert!(begin.elapsed() < DEADLINE, "without an answer: {waiting:#?}");
        sleep(Duration::from_millis(500)).await;
    }
    println!("every query has an answer after {:?}", begin.elapsed());
    for (fact, query) in FACTS {
        until(fact, async || prometheus.query(query).await.iter().any(|(_, value)| value == "1")).await;
    }

    assert_eq!(prometheus.query(FIRED).await, [], "nothing is wrong");
    control.kill();
    let begin = Instant::now();
    until("an alert", async || prometheus.firing().await.iter().any(|name| name == "KthenaControlPlaneAway")).await;
    println!("an alert after {:?}", begin.elapsed());
}
