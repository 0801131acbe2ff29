//! A data plane as a program, and clients that ask it all the time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::program::{Home, Program, get, ports};
use crate::wait::until;

/// A data plane of one core, its ports, and its folder, which it keeps when it starts again.
pub struct DataPlane {
    pub port: u16,
    pub metrics: u16,
    program: Option<Program>,
    folder: PathBuf,
    control: u16,
}

impl DataPlane {
    /// One of the home's control plane.
    pub fn start(home: &Home, name: &str) -> Self {
        Self::start_at(home, name, home.stream)
    }

    /// One whose control plane is at this port.
    pub fn start_at(home: &Home, name: &str, control: u16) -> Self {
        let [port, metrics] = ports();
        let folder = home.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let access = json!({"access_log": {"format": "json", "output": folder.join("access.json")}});
        // JSON is YAML.
        std::fs::write(folder.join("settings.yaml"), access.to_string()).unwrap();
        let mut plane = Self { port, metrics, program: None, folder, control };
        plane.run();
        plane
    }

    pub fn pid(&self) -> u32 {
        self.program.as_ref().unwrap().pid()
    }

    /// When it runs again, its control plane is at this port.
    pub fn turn_to(&mut self, control: u16) {
        self.control = control;
    }

    /// Whether this is in what it has on disk.
    pub fn keeps(&self, text: &str) -> bool {
        let bytes = std::fs::read(self.folder.join("state/snapshot.bin")).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        self.program.take().unwrap().kill();
    }

    /// It dies, and what it had on disk is lost.
    pub fn lose(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.join("state")).unwrap();
    }

    /// Starts it, for the first time or again.
    pub fn run(&mut self) {
        let Self { port, metrics, folder, control, .. } = self;
        let args = [
            "--bind=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--metrics-port={metrics}"),
            "--debug-port=0".to_owned(),
            "--cores=1".to_owned(),
            format!("--control-plane=127.0.0.1:{control}"),
            format!("--state-dir={}", folder.join("state").display()),
            format!("--config={}", folder.join("settings.yaml").display()),
        ];
        self.program = Some(Program::start(folder, "kthena-dataplane", &args));
    }

    pub async fn ready(&self) -> Option<Value> {
        let (status, body) = get(self.metrics, "/readyz").await?;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    pub async fn until_ready(&self) {
        until("a ready data plane", async || self.ready().await.is_some()).await;
    }

    /// The status of a chat completion, 0 where there is no answer.
    pub async fn ask(&self, model: &str) -> u16 {
        ask(self.port, model, "x").await
    }

    /// What it has logged of each request so far, in the order of their ends.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("access.json")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Which endpoint answers for a model.
    pub async fn endpoint(&self, model: &str) -> String {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let id = format!("endpoint-{}", ASKED.fetch_add(1, Relaxed));
        let status = ask(self.port, model, &id).await;
        assert_eq!(status, 200, "{model}");
        let mut endpoint = String::new();
        until("a line of the access log", async || {
            let lines = self.log();
            let line = lines.iter().find(|line| line["request_id"] == id);
            endpoint = line.and_then(|line| line["endpoint"].as_str()).unwrap_or_default().to_owned();
            line.is_some()
        })
        .await;
        endpoint
    }
}

async fn ask(port: u16, model: &str, id: &str) -> u16 {
    let body = json!({"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
         X-Request-Id: {id}\r\n"
    );
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

/// Asks one data plane again and again until it is told that it is over.
pub struct Client {
    over: Arc<AtomicBool>,
    failed: Arc<AtomicU32>,
    task: JoinHandle<u32>,
}

/// Requests of a client at least.
const ENOUGH: u32 = 6;

impl Client {
    pub fn of(plane: &DataPlane, model: &str) -> Self {
        let (over, failed, port) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default(), plane.port);
        let (ends, fails, model) = (over.clone(), failed.clone(), model.to_owned());
        let task = tokio::spawn(async move {
            let mut asked = 0;
            // However soon it is ended, it has asked a few times: what it stands for is that none failed.
            while asked < ENOUGH || !ends.load(Relaxed) {
                asked += 1;
                fails.fetch_add(u32::from(ask(port, &model, "x").await != 200), Relaxed);
                sleep_until(Instant::now() + Duration::from_millis(20)).await;
            }
            asked
        });
        Self { over, failed, task }
    }

    /// How many were asked; none may have failed.
    pub async fn end(self, who: &str) -> u32 {
        self.over.store(true, Relaxed);
        let (asked, failed) = (self.task.await.unwrap(), self.failed.load(Relaxed));
        assert!(failed == 0, "{who}: {failed} of {asked} failed");
        asked
    }
}
