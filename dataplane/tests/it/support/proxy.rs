//! A proxy in this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dataplane::config::Config;
use dataplane::process::{self, Running};
use dataplane::shared::Shared;
use serde_json::Value;

use super::client::{Client, Reply};
use super::legs::Leg;
use super::until;
use super::wire::get;

/// A folder that goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("kthena-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a file in place at once, so that nobody reads half of it.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.file(".new"), self.file(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running proxy; dropping it ends it.
pub(crate) struct Proxy {
    running: Option<Running>,
    folder: Folder,
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
    debug: SocketAddr,
}

impl Proxy {
    pub(crate) fn start(leg: Leg, snapshot: &Value) -> Self {
        Self::with(leg, snapshot, |_, _| {})
    }

    /// With a configuration of its own.
    pub(crate) fn with(leg: Leg, snapshot: &Value, configure: impl FnOnce(&mut Config, &Path)) -> Self {
        let folder = Folder::new();
        let mut config = Config::loopback(folder.put("snapshot.json", &snapshot.to_string()));
        config.driver = leg.choice();
        configure(&mut config, &folder.0);
        let running = leg.run(move || process::start(config)).unwrap();
        assert_eq!(running.shared().driver.is_uring(), leg == Leg::Uring);
        let (address, metrics, debug) = (running.listen(), running.metrics(), running.debug());
        Self { running: Some(running), folder, address, metrics, debug }
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.running.as_ref().expect("it runs until it is dropped").shared()
    }

    /// For who looks at it while it ends.
    pub(crate) fn shared_by_all(&self) -> Arc<Shared> {
        self.running.as_ref().expect("it runs until it is dropped").shared().clone()
    }

    /// Ends it as a signal does; returns how many connections were cut.
    pub(crate) fn end(mut self) -> u64 {
        self.running.take().expect("it runs until it is dropped").shutdown(|| false)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> Reply {
        self.client().ask(bytes)
    }

    /// Asks the listener of metrics.
    pub(crate) fn admin(&self, path: &str) -> Reply {
        Client::connect(self.metrics).ask(get(path))
    }

    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    pub(crate) fn debug_address(&self) -> SocketAddr {
        self.debug
    }

    /// Asks the listener of `/debug`.
    pub(crate) fn debug(&self, path: &str) -> Reply {
        Client::connect(self.debug).ask(get(path))
    }

    /// The sum of a metric's series whose line holds all these parts.
    pub(crate) fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        let text = self.admin("/metrics").text();
        let lines = text.lines().filter(|l| {
            l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && parts.iter().all(|p| l.contains(p))
        });
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// How often a limit was hit.
    pub(crate) fn hits(&self, limit: &str) -> f64 {
        self.metric("kthena_router_limit_hits_total", &[&format!("limit=\"{limit}\"")])
    }

    /// How many streams ended in this way, once none is open: the client can have its last byte before it is counted.
    pub(crate) fn streams(&self, outcome: &str) -> f64 {
        self.settled();
        self.metric("kthena_router_streams_total", &[&format!("outcome=\"{outcome}\"")])
    }

    /// The endpoints as `/debug/table` shows them.
    pub(crate) fn endpoints(&self) -> Vec<Value> {
        self.debug("/debug/table").json()["endpoints"].as_array().unwrap().clone()
    }

    /// Waits until nothing is in flight any more, by every count.
    pub(crate) fn settled(&self) {
        until("the counts are back at zero", || {
            let table = self.endpoints().iter().all(|e| e["inFlight"] == 0 && e["running"] == 0);
            let gauges = ["active_requests", "active_upstream_requests", "active_downstream_requests"];
            table && gauges.iter().all(|g| self.metric(&format!("kthena_router_{g}"), &[]) == 0.0)
        });
        assert_eq!(self.metric("kthena_router_panics_total", &[]), 0.0);
    }

    /// Puts another snapshot in the file.
    pub(crate) fn edit(&self, text: &str) {
        self.folder.put("snapshot.json", text);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown(|| true);
        }
    }
}
