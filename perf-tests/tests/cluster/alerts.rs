//! Each alert fires when what it tells of has come about, with the labels of where, and did not before: live, with a real Prometheus and the chart's
//! rules in seconds. No test can make a program panic, and no token ends here; for those three alerts the series of a quiet moment are recorded and told to
//! promtool, with one more of what is counted.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use perf_tests::cluster::Cluster;
use perf_tests::helm::chart;
use perf_tests::missing;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::c08_webhook::wrong;
use crate::data_plane::DataPlane;
use crate::older::Older;
use crate::program::{Home, Program, ports, route, server};
use crate::prometheus::{FIRED, Prometheus, job};
use crate::wait::{DEADLINE, until};

/// Which alert fires, and a label by which it is that one.
type Expected = (&'static str, &'static str, &'static str);

/// All but the ones that are told and of the control plane's end.
const EXPECTED: [Expected; 9] = [
    ("KthenaErrorsOfEngines", "model", "failing"),
    ("KthenaFirstTokenSlow", "model", "slow"),
    ("KthenaEndpointsEjected", "pod", "busy"),
    ("KthenaConfigurationRefused", "pod", "older"),
    ("KthenaConfigurationBehind", "pod", "controlplane"),
    ("KthenaObjectsNotAccepted", "verdict", "Invalid"),
    ("KthenaCoreStands", "pod", "stuck"),
    ("KthenaProxySaturated", "pod", "late"),
    ("KthenaLimitHit", "limit", "uri"),
];
const AWAY: Expected = ("KthenaControlPlaneAway", "pod", "calm");

/// An alert that is not brought about here, the series that counts one more then, and whose.
struct Counted {
    alert: &'static str,
    series: &'static str,
    pod: &'static str,
}

const TOLD: [Counted; 3] = [
    Counted { alert: "KthenaPanic", series: "kthena_router_panics_total", pod: "calm" },
    Counted { alert: "KthenaBuildPanics", series: "kthena_controlplane_build_panicking", pod: "controlplane" },
    Counted { alert: "KthenaTokensExcused", series: "kthena_controlplane_streams_excused_total", pod: "controlplane" },
];

/// Stops a thread of another process until its input ends; `kill -STOP` would stop all of them.
const HOLD: &str = "import ctypes, sys
libc, thread = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT
    if libc.ptrace(request, thread, 0, 0) != 0: sys.exit('ptrace: errno %d' % ctypes.get_errno())
sys.stdin.read()
";

/// Dropped, the thread goes on.
struct Held {
    holder: Child,
    _input: Option<ChildStdin>,
}

impl Held {
    /// The first core of a data plane.
    fn core_of(plane: &DataPlane) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", plane.pid())).unwrap();
        let is_core =
            |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).unwrap().trim() == "core-0";
        let task = tasks.map(|entry| entry.unwrap().path()).find(is_core).expect("a thread of that name");
        let thread = task.file_name().unwrap();
        let mut holder =
            Command::new("python3").args(["-c", HOLD]).arg(thread).stdin(Stdio::piped()).spawn().expect("python3");
        let input = holder.stdin.take();
        Self { holder, _input: input }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn signal(plane: &DataPlane, signal: Signal) {
    kill_process(Pid::from_raw(plane.pid().cast_signed()).unwrap(), signal).unwrap();
}

/// What happens again and again until this is dropped.
struct Again(Arc<AtomicBool>);

impl Again {
    fn every<F: Future<Output = ()> + Send>(pause: Duration, act: impl Fn() -> F + Send + 'static) -> Self {
        let over = Arc::<AtomicBool>::default();
        let ends = over.clone();
        tokio::spawn(async move {
            while !ends.load(Relaxed) {
                act().await;
                sleep(pause).await;
            }
        });
        Self(over)
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Begins a request, and waits for no answer longer than a minute.
async fn ask(port: u16, path: String, model: &'static str) {
    let body =
        json!({"model": model, "max_tokens": 2, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let body = body.to_string();
    tokio::spawn(timeout(DEADLINE, async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let head = "Host: x\r\nContent-Type: application/json\r\nConnection: close";
        let request = format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await
    }));
}

fn asking(port: u16, model: &'static str, pause_ms: u64) -> Again {
    Again::every(Duration::from_millis(pause_ms), move || ask(port, "/v1/chat/completions".to_owned(), model))
}

struct Stage {
    home: Home,
    control: Program,
    _engines: [Program; 2],
    _between: Older,
    planes: Vec<(&'static str, DataPlane)>,
}

impl Stage {
    async fn new() -> Self {
        let home = Home::new(Cluster::shared(), "alerts").await;
        let [port] = ports();
        let engine = |model: &str, ip: &str, more: &str| {
            let folder = home.folder.path().join(format!("engine-{model}"));
            std::fs::create_dir(&folder).unwrap();
            let args = [format!("--listen={ip}:{port}"), format!("--model={model}"), more.to_owned()];
            Program::start(&folder, "engine-sim", &args)
        };
        // The slow one takes four seconds to read a prompt of eight tokens.
        let engines =
            [engine("chat", "127.0.0.2", "--gap-us=1000"), engine("slow", "127.0.0.3", "--prefill-tokens-per-s=2")];
        for (name, model, ip) in [
            ("chat", "chat", "127.0.0.2"),
            ("slow", "slow", "127.0.0.3"),
            ("failing-0", "failing", "127.0.0.4"),
            ("failing-1", "failing", "127.0.0.5"),
        ] {
            home.pod(name, model, ip).await;
        }
        for model in ["chat", "slow", "failing"] {
            home.apply(&(server(model, port) + "---\n" + &route(model, model))).await;
        }
        let control = home.control(&[]);
        home.until_ready().await;
        let between = Older::than(home.stream).await;
        let of_control = ["calm", "busy", "behind", "stuck", "late"].map(|name| (name, DataPlane::start(&home, name)));
        let mut planes = Vec::from(of_control);
        planes.push(("older", DataPlane::start_at(&home, "older", between.port)));
        for (name, plane) in &planes {
            plane.until_ready().await;
            until(&format!("answer of {name}"), async || plane.ask("chat").await == 200).await;
        }
        Self { home, control, _engines: engines, _between: between, planes }
    }

    fn plane(&self, name: &str) -> &DataPlane {
        &self.planes.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn prometheus(&self) -> Option<Prometheus> {
        let planes = self.planes.iter().map(|(name, plane)| (*name, plane.metrics));
        let pods: Vec<_> = planes.chain([("controlplane", self.home.metrics)]).collect();
        Prometheus::start(self.home.folder.path(), vec![job(&pods)])
    }

    /// All causes but the last; they go on until what is returned is dropped.
    async fn go_wrong(&self) -> (Vec<Again>, Held) {
        let busy = self.plane("busy").port;
        let too_long = move || ask(busy, format!("/v1/{}", "x".repeat(40_000)), "chat");
        let late = Pid::from_raw(self.plane("late").pid().cast_signed()).unwrap();
        let stop = move || async move {
            // It ends before this does.
            let _ = kill_process(late, Signal::STOP);
            sleep(Duration::from_millis(300)).await;
            let _ = kill_process(late, Signal::CONT);
        };
        let again = vec![
            asking(busy, "failing", 100),
            asking(busy, "slow", 1_000),
            Again::every(Duration::from_millis(500), too_long),
            Again::every(Duration::from_millis(100), stop),
        ];
        // Its report of the load puts the stream's next ping off: the stream ends long after the alert is due.
        assert_eq!(self.plane("behind").ask("chat").await, 200);
        signal(self.plane("behind"), Signal::STOP);
        let held = Held::core_of(self.plane("stuck"));
        self.home.apply(&wrong("wrong")).await;
        let regex = "spec: {modelName: refused, rules: [{modelMatch: {uri: {regex: '^/v1/.*'}}, targetModels: [{modelServerName: chat}]}]}";
        let kind = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: refused}\n";
        self.home.apply(&format!("{kind}{regex}\n")).await;
        (again, held)
    }
}

fn is((name, label, value): Expected, alert: &Value) -> bool {
    alert["alertname"] == name && alert[label] == value
}

/// Waits until each of these has fired, at whatever time.
async fn fire(prometheus: &Prometheus, expected: &[Expected]) {
    let (begin, mut waiting) = (Instant::now(), BTreeSet::from_iter(expected.iter().copied()));
    while !waiting.is_empty() {
        let firing = prometheus.alerts().await;
        for fired in expected.iter().filter(|expected| firing.iter().any(|alert| is(**expected, alert))) {
            if waiting.remove(fired) {
                println!("{} fired after {:?}", fired.0, begin.elapsed());
            }
        }
        assert!(begin.elapsed() < 2 * DEADLINE, "silent: {waiting:?}; what fires: {firing:#?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// Series of a moment as promtool takes them, each as it was for 40 minutes; the one that counts with one more in the last of them.
fn series(recorded: &[(Value, String)], counted: Option<&Counted>) -> Vec<Value> {
    let told = |(labels, value): &(Value, String)| {
        let labels = labels.as_object().unwrap();
        let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
        let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        let name = labels["__name__"].as_str().unwrap();
        let more =
            counted.is_some_and(|counted| (name, labels["pod"].as_str().unwrap()) == (counted.series, counted.pod));
        let one_more = value.parse::<f64>().unwrap() + 1.0;
        let values = if more { format!("{value}x25 {one_more}x15") } else { format!("{value}x40") };
        json!({"series": format!("{name}{{{}}}", pairs.join(", ")), "values": values})
    };
    recorded.iter().map(told).collect()
}

/// By the rules as the chart has them. None where promtool is not installed.
fn promtool(folder: &Path, recorded: &[(Value, String)]) -> Option<()> {
    let firing = "count by (alertname, pod) (ALERTS{alertstate=\"firing\"})";
    let test = |counted: Option<&Counted>, samples: Value| {
        let expression = json!({"expr": firing, "eval_time": "30m", "exp_samples": samples});
        json!({"interval": "1m", "input_series": series(recorded, counted), "promql_expr_test": [expression]})
    };
    let fired = |counted: &Counted| {
        let Counted { alert, pod, .. } = counted;
        let labels = format!("{{alertname=\"{alert}\", pod=\"{pod}\"}}");
        test(Some(counted), json!([{"labels": labels, "value": 1}]))
    };
    let tests: Vec<_> = std::iter::once(test(None, json!([]))).chain(TOLD.iter().map(fired)).collect();
    let tests = json!({"rule_files": [chart().join("files/alerts.yaml").canonicalize().unwrap()], "evaluation_interval": "1m",
        "tests": tests});
    let file = folder.join("recorded_test.yaml");
    std::fs::write(&file, tests.to_string()).unwrap();
    let program = std::env::var_os("KTHENA_PROMTOOL").unwrap_or_else(|| "promtool".into());
    match Command::new(program).args(["test", "rules"]).arg(&file).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => {
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            Some(())
        }
    }
}

#[tokio::test]
async fn each_alert_fires_when_what_it_tells_of_has_come_about() {
    let stage = Stage::new().await;
    let Some(prometheus) = stage.prometheus() else { return missing::skip("prometheus") };
    let _traffic = asking(stage.plane("calm").port, "chat", 100);
    // Each alert waits for five seconds, after as many scrapes as it takes to know a rate.
    until("fifteen scrapes of each", async || {
        let scraped = prometheus.query("count_over_time(up[1m]) >= 15").await;
        scraped.len() == stage.planes.len() + 1
    })
    .await;
    // A moment in which nothing is on its way.
    let behind = "kthena_controlplane_subscribers_connected - kthena_controlplane_subscribers_applied != 0";
    until("all planes have all", async || prometheus.query(behind).await.is_empty()).await;
    let recorded = prometheus.query(r#"{__name__=~"kthena_.+", pod=~"calm|controlplane"}"#).await;
    assert_eq!(prometheus.query(FIRED).await, [], "before anything is wrong");
    let (again, held) = stage.go_wrong().await;
    fire(&prometheus, &EXPECTED).await;
    drop((again, held));
    stage.control.kill();
    fire(&prometheus, &[AWAY]).await;
    assert!(recorded.len() > 100, "{} series were recorded", recorded.len());
    if promtool(stage.home.folder.path(), &recorded).is_none() {
        missing::skip("promtool, of Debian's package prometheus,");
    }
}

#[test]
fn every_alert_has_its_cause_here() {
    let rules: Value =
        serde_norway::from_str(&std::fs::read_to_string(chart().join("files/alerts.yaml")).unwrap()).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let mut known: BTreeSet<_> = EXPECTED.iter().map(|(name, ..)| *name).collect();
    known.insert(AWAY.0);
    known.extend(TOLD.iter().map(|counted| counted.alert));
    assert_eq!(rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect::<BTreeSet<_>>(), known);
}
