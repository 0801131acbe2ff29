//! C1 and C14: the API server is away, the control plane dies, a data plane dies and starts again, and no request is lost but those that
//! were on their way through the one that died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use perf_tests::cluster::{Cluster, Parts};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::program::{Home, Program, get, ports, route, server};
use crate::wait::until;

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// From its start until a data plane serves by what it finds on disk.
const FROM_DISK: Duration = Duration::from_secs(2);

/// A data plane, its ports, and its folder.
pub struct Proxy {
    port: u16,
    metrics: u16,
    program: Option<Program>,
    folder: std::path::PathBuf,
    control: u16,
}

impl Proxy {
    pub fn start(home: &Home, name: &str) -> Self {
        let [port, metrics] = ports();
        let folder = home.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut proxy = Self { port, metrics, program: None, folder, control: home.stream };
        proxy.run();
        proxy
    }

    pub fn run(&mut self) {
        let Self { port, metrics, folder, control, .. } = self;
        let state = folder.join("state");
        let args = [
            "--bind=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--metrics-port={metrics}"),
            "--debug-port=0".to_owned(),
            "--cores=1".to_owned(),
            format!("--control-plane=127.0.0.1:{control}"),
            format!("--state-dir={}", state.display()),
        ];
        self.program = Some(Program::start(folder, "kthena-dataplane", &args));
    }

    /// It dies, and what it had on disk is lost.
    pub fn lose(&mut self) {
        self.program.take().unwrap().kill();
        std::fs::remove_dir_all(self.folder.join("state")).unwrap();
    }

    async fn ready(&self) -> Option<Value> {
        let (status, body) = get(self.metrics, "/readyz").await?;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    pub async fn until_ready(&self) {
        until("a ready data plane", async || self.ready().await.is_some()).await;
    }

    /// The status of a chat completion, 0 where there is no answer.
    pub async fn ask(&self, model: &str) -> u16 {
        ask(self.port, model).await
    }
}

async fn ask(port: u16, model: &str) -> u16 {
    let body = json!({"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(Duration::from_secs(10), exchange).await.unwrap_or_else(|_| Ok(String::new()));
    answer.unwrap_or_default().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Asks one proxy again and again until it is told that it is over.
struct Client {
    over: Arc<AtomicBool>,
    failed: Arc<AtomicU32>,
    task: JoinHandle<u32>,
}

/// Requests of a client at least.
const ENOUGH: u32 = 6;

impl Client {
    fn of(proxy: &Proxy) -> Self {
        let (over, failed, port) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default(), proxy.port);
        let (ends, fails) = (over.clone(), failed.clone());
        let task = tokio::spawn(async move {
            let mut asked = 0;
            // However soon it is ended, it has asked a few times: what it stands for is that none failed.
            while asked < ENOUGH || !ends.load(Relaxed) {
                asked += 1;
                fails.fetch_add(u32::from(ask(port, "chat").await != 200), Relaxed);
                sleep_until(Instant::now() + Duration::from_millis(20)).await;
            }
            asked
        });
        Self { over, failed, task }
    }

    /// How many were asked; none may have failed.
    async fn end(self, who: &str) -> u32 {
        self.over.store(true, Relaxed);
        let (asked, failed) = (self.task.await.unwrap(), self.failed.load(Relaxed));
        assert!(failed == 0, "{who}: {failed} of {asked} failed");
        asked
    }
}

#[tokio::test]
async fn c01_c14_an_api_server_away_for_a_minute_a_dead_control_plane_and_a_restarted_data_plane_lose_no_request() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Parts::ApiServer).unwrap()));
    let home = Home::new(cluster, "away").await;
    let [engine] = ports();
    let engine_of = |name: &str, ip: &str| {
        let folder = home.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        Program::start(&folder, "engine-sim", &[format!("--listen={ip}:{engine}"), "--model=chat".to_owned()])
    };
    let _engines = [engine_of("one", "127.0.0.2"), engine_of("two", "127.0.0.3")];
    home.apply(&server("chat", engine)).await;
    home.pod("one", "chat", "127.0.0.2").await;
    home.pod("two", "chat", "127.0.0.3").await;
    home.apply(&route("chat", "chat")).await;
    let control = home.control(&[]);
    let (steady, mut restarted) = (Proxy::start(&home, "steady"), Proxy::start(&home, "restarted"));
    for proxy in [&steady, &restarted] {
        proxy.until_ready().await;
        until("an answer", async || proxy.ask("chat").await == 200).await;
    }
    let (all_along, before) = (Client::of(&steady), Client::of(&restarted));

    cluster.kill_api_server().await.unwrap();
    let back = Instant::now() + AWAY;
    until("failing watches", async || {
        let text = get(home.metrics, "/metrics").await.unwrap_or_default().1;
        text.lines().any(|line| line == "kthena_controlplane_watches_failing{kind=\"Pod\"} 1")
    })
    .await;
    control.kill();
    until("it knows", async || steady.ready().await.is_some_and(|ready| ready["control_plane"]["connected"] == false))
        .await;
    before.end("the one that is restarted, before").await;
    restarted.program.take().unwrap().kill();
    let begin = Instant::now();
    restarted.run();
    restarted.until_ready().await;
    let took = begin.elapsed();
    let ready = restarted.ready().await.unwrap();
    assert_eq!(ready["control_plane"]["table_from_disk"], true, "{ready}");
    assert!(took < FROM_DISK, "ready from disk after {took:?}");
    let after = Client::of(&restarted);

    sleep_until(back).await;
    cluster.start_api_server().await.unwrap();
    let _control = home.control(&[]);
    home.apply(&route("code", "chat")).await;
    for proxy in [&steady, &restarted] {
        until("an answer by a new route", async || proxy.ask("code").await == 200).await;
    }
    let asked = all_along.end("the steady one").await + after.end("the one that was restarted").await;
    println!("{asked} requests in {AWAY:?} without an API server, none lost; ready from disk after {took:?}");
}
