//! Prometheus beside the planes, all of it in seconds instead of minutes: the rules are the chart's own with shorter times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use perf_tests::helm::chart;
use serde_json::{Value, json};

use crate::program::{get, ports};

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
    /// With these jobs; none where it is not installed.
    pub fn start(folder: &Path, jobs: Vec<Value>) -> Option<Self> {
        let [port] = ports();
        let config = json!({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [folder.join("alerts.yaml")], "scrape_configs": jobs});
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
    pub async fn answers(&self, query: &str) -> bool {
        self.query(query).await.iter().any(|(_, value)| value != "NaN")
    }

    /// What a variable of a dashboard can be.
    pub async fn label_values(&self, metric: &str, label: &str) -> Vec<String> {
        let found = self.ask(&format!("/api/v1/label/{label}/values?match[]={metric}")).await;
        let values = found["data"].as_array().cloned().unwrap_or_default().into_iter();
        values.map(|value| value.as_str().unwrap().to_owned()).collect()
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

/// Processes of this machine as a PodMonitor would name them, and their ports.
pub fn job(pods: &[(&str, u16)]) -> Value {
    let target = |(pod, port): &(&str, u16)| json!({"targets": [format!("127.0.0.1:{port}")], "labels": {"namespace": "serving", "pod": pod}});
    json!({"job_name": "kthena", "static_configs": pods.iter().map(target).collect::<Vec<_>>()})
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

fn dashboards() -> Vec<Value> {
    let entries = fs::read_dir(chart().join("files/dashboards")).unwrap();
    entries.map(|entry| serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap()).collect()
}

/// What Grafana would ask of this namespace: titles and queries.
pub fn queries(namespace: &str) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for dashboard in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap().replace("$__rate_interval", WINDOW);
                queries.push((panel["title"].as_str().unwrap().to_owned(), query.replace("$namespace", namespace)));
            }
        }
    }
    queries
}

/// Of which metric and label the values of variables are.
pub fn variables() -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for dashboard in dashboards() {
        let queried = dashboard["templating"]["list"].as_array().unwrap().iter().filter(|one| one["type"] == "query");
        for query in queried.map(|one| one["query"].as_str().unwrap()) {
            let of = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = of.and_then(|of| of.split_once(", ")).unwrap_or_else(|| panic!("{query}"));
            variables.push((metric.to_owned(), label.to_owned()));
        }
    }
    assert!(!variables.is_empty());
    variables
}
