//! Engines, control planes that can be killed, and data planes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use api::snapshot::Snapshot;
use bench::engine::{self, Engine};
use bench::show::client::{End, Question, ask};
use controlplane::publish::serve::{Counts, Inputs, Listener, Options, Progress, Server};
use dataplane::config::{Config, ControlPlane, Cores, Expose};
use dataplane::process;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::Connection;

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition; what it waits for is said when it does not come.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Engines that serve any model name, on the addresses of a snapshot.
pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    pub(crate) engines: Vec<engine::Running>,
    folder: PathBuf,
}

impl Stage {
    pub(crate) fn start(engines: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let runtime = Runtime::new().unwrap();
        let start = || runtime.block_on(Engine::start(engine::Config::default())).unwrap();
        let engines = (0..engines).map(|_| start()).collect();
        let name = format!("kthena-publish-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self { runtime, engines, folder: std::env::temp_dir().join(name) }
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A route to the first engine for each model.
    pub(crate) fn snapshot(&self, models: &[&str]) -> Snapshot {
        self.snapshot_on(models, 0)
    }

    /// A route to this engine for each model.
    pub(crate) fn snapshot_on(&self, models: &[&str], engine: usize) -> Snapshot {
        self.snapshot_of(models, &[engine])
    }

    /// A route to these engines for each model.
    pub(crate) fn snapshot_of(&self, models: &[&str], engines: &[usize]) -> Snapshot {
        let route = |model: &&str| json!({"name": format!("t/{model}"), "model": model, "rules": [{"targets": [{"backend": "t/b"}]}]});
        let endpoint = |engine: &usize| {
            let address = self.engines[*engine].addr.to_string();
            json!({"handle": engine + 1, "name": format!("t/e{engine}"), "address": address})
        };
        let endpoints: Vec<_> = engines.iter().map(endpoint).collect();
        let backend = json!({"name": "t/b", "model": "sim", "endpoints": endpoints});
        let routes: Vec<_> = models.iter().map(route).collect();
        let text = json!({"fleetSeed": "7", "routes": routes, "backends": [backend]}).to_string();
        api::json::snapshot_from_json(text.as_bytes()).unwrap()
    }

    /// So many routes, each to a backend of so many endpoints that nobody asks.
    pub(crate) fn large(&self, backends: usize, endpoints: usize) -> Snapshot {
        let endpoint = |backend: usize, n: usize| {
            let handle = backend * endpoints + n + 1;
            json!({
                "handle": handle, "name": format!("team/server-{backend}-{n}"), "uid": format!("{handle:036}"),
                "address": format!("10.{}.{}.{}:8000", handle >> 16, handle >> 8 & 255, handle & 255),
                "labels": {"app": format!("server-{backend}"), "role": "leader"}, "node": format!("node-{}", handle % 500),
            })
        };
        let backend = |b: usize| {
            let endpoints: Vec<_> = (0..endpoints).map(|n| endpoint(b, n)).collect();
            json!({"name": format!("team/server-{b}"), "endpoints": endpoints})
        };
        let route = |b: usize| {
            let targets = json!([{"backend": format!("team/server-{b}")}]);
            json!({"name": format!("team/route-{b}"), "model": format!("model-{b}"), "rules": [{"targets": targets}]})
        };
        let routes: Vec<_> = (0..backends).map(route).collect();
        let backends: Vec<_> = (0..backends).map(backend).collect();
        let text = json!({"fleetSeed": "7", "routes": routes, "backends": backends}).to_string();
        api::json::snapshot_from_json(text.as_bytes()).unwrap()
    }

    /// A streamed answer of so many tokens, 20 ms apart.
    pub(crate) fn stream(&self, plane: &Plane, model: &str, max_tokens: u32) -> JoinHandle<End> {
        let (target, model) = (plane.listen(), model.to_owned());
        let question = Question { target, model, stream: true, max_tokens, limit: Duration::from_secs(60) };
        let (begun, wait) = std::sync::mpsc::channel();
        let task = self.runtime.spawn(async move { ask(&question, || begun.send(()).unwrap()).await });
        wait.recv_timeout(PATIENCE).unwrap();
        task
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A control plane whose source is the test, on a runtime of its own, so that it can be killed.
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    pub(crate) counts: Arc<Counts>,
    progress: watch::Receiver<Arc<Progress>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    published: AtomicUsize,
    runtime: Option<Runtime>,
}

impl Control {
    pub(crate) fn start(address: Option<SocketAddr>) -> Self {
        Self::with(address, Options::default())
    }

    pub(crate) fn with(address: Option<SocketAddr>, options: Options) -> Self {
        let address = address.unwrap_or(([127, 0, 0, 1], 0).into());
        Self::behind(async || Listener::plain(address).await.unwrap(), options)
    }

    pub(crate) fn behind(listen: impl AsyncFnOnce() -> Listener, options: Options) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(listen());
        let snapshots = watch::channel(None).0;
        let (zones, reached) = (watch::channel(Arc::default()).1, watch::channel(Default::default()).1);
        let inputs = Inputs { snapshots: snapshots.subscribe(), zones, reached };
        let server = Server::new(listener, inputs, options);
        let (address, counts, progress) = (server.address(), server.counts(), server.progress());
        runtime.spawn(server.serve(std::future::pending()));
        Self { address, counts, progress, snapshots, published: AtomicUsize::default(), runtime: Some(runtime) }
    }

    /// Under a source's version of its own, by which it is known in the progress.
    pub(crate) fn publish(&self, mut snapshot: Snapshot) {
        snapshot.version.version = self.published.fetch_add(1, Relaxed) as u64 + 1;
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.progress.borrow().clone()
    }

    /// Waits until the newest snapshot is in force on so many data planes.
    pub(crate) fn complete(&self, planes: usize) -> Arc<Progress> {
        let newest = self.snapshots.borrow().clone().unwrap();
        let mut progress = None;
        until("all data planes have it", || {
            let now = self.progress.borrow().clone();
            let done = now.source == newest.version && now.connected == planes && now.complete();
            progress = done.then_some(now);
            done
        });
        progress.unwrap()
    }

    /// Closes all its sockets at once, as kill -9 does.
    pub(crate) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A data plane of two cores.
pub(crate) struct Plane {
    running: Option<process::Running>,
}

impl Plane {
    pub(crate) fn start(control: &Control, state_dir: Option<&Path>) -> Self {
        Self::at(control.address, state_dir)
    }

    pub(crate) fn at(control: SocketAddr, state_dir: Option<&Path>) -> Self {
        Self::of(ControlPlane { state_dir: state_dir.map(Into::into), ..ControlPlane::at(control) })
    }

    pub(crate) fn of(source: ControlPlane) -> Self {
        Self::with(source, Expose::default())
    }

    /// One that says so much of its decisions.
    pub(crate) fn with(source: ControlPlane, expose: Expose) -> Self {
        let config = Config { cores: Cores::First(2), expose, ..Config::loopback(source) };
        Self { running: Some(process::start(config).unwrap()) }
    }

    fn running(&self) -> &process::Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.running().listen()
    }

    #[allow(dead_code, reason = "not every test looks there")]
    pub(crate) fn debug(&self) -> SocketAddr {
        self.running().debug()
    }

    pub(crate) fn ready(&self) -> bool {
        Connection::open(self.running().metrics()).get("/readyz").0 == 200
    }

    pub(crate) fn readyz(&self) -> Value {
        serde_json::from_str(&Connection::open(self.running().metrics()).get("/readyz").1).unwrap()
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = Connection::open(self.running().metrics()).get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The only endpoint as `/debug/table` shows it.
    pub(crate) fn endpoint(&self) -> Value {
        self.first_of("endpoints")
    }

    /// All of them.
    #[allow(dead_code, reason = "not every test looks there")]
    pub(crate) fn endpoints(&self) -> Vec<Value> {
        let (_, text) = Connection::open(self.running().debug()).get("/debug/table");
        serde_json::from_str::<Value>(&text).unwrap()["endpoints"].as_array().unwrap().clone()
    }

    /// The only backend, likewise.
    #[allow(dead_code, reason = "not every test looks there")]
    pub(crate) fn backend(&self) -> Value {
        self.first_of("backends")
    }

    fn first_of(&self, list: &str) -> Value {
        let (_, text) = Connection::open(self.running().debug()).get("/debug/table");
        serde_json::from_str::<Value>(&text).unwrap()[list][0].clone()
    }

    pub(crate) fn stop(mut self) {
        self.running.take().unwrap().shutdown(|| true);
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown(|| true);
        }
    }
}
