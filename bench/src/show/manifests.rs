//! A directory of manifests that is edited as careful editors do: what is read is always whole.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::edits::Edited;
use super::site::MODEL;

const GROUP: &str = "networking.serving.volcano.sh/v1alpha1";
/// Objects of a file.
const IN_FILE: usize = 100;
/// Nobody listens there.
const PORT: u16 = 9;

/// How large a fleet is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Size {
    /// Pods, each an endpoint of one server.
    pub endpoints: usize,
    /// Servers, and a route to each.
    pub routes: usize,
}

/// The directory.
#[derive(Debug)]
pub struct Manifests {
    folder: PathBuf,
    /// How often pods were made anew.
    times: BTreeMap<usize, usize>,
}

impl Manifests {
    /// One engine and a route to it.
    pub fn new(folder: &Path, engine: SocketAddr) -> anyhow::Result<Self> {
        let manifests = Self::at(folder)?;
        let server = server("s", "s", engine.port());
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "e", "labels": {"app": "s"}},
            "status": {"podIP": engine.ip().to_string()}});
        manifests.write("server.json", &server)?;
        manifests.write("pod.json", &pod)?;
        manifests.write("first.json", &route("first", MODEL, "s"))?;
        Ok(manifests)
    }

    /// Engines at one port, and a route to all of them.
    pub fn engines(folder: &Path, engines: &[SocketAddr]) -> anyhow::Result<Self> {
        let manifests = Self::at(folder)?;
        let port = engines.first().map_or(PORT, SocketAddr::port);
        let pod = |(n, engine): (usize, &SocketAddr)| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("e-{n}"), "labels": {"app": "s"}},
                "status": {"podIP": engine.ip().to_string()}})
        };
        let pods = engines.iter().enumerate().map(pod);
        manifests.write_all("all", pods.chain([server("s", "s", port), route("first", MODEL, "s")]))?;
        Ok(manifests)
    }

    /// A fleet of which nobody answers.
    pub fn large(folder: &Path, size: Size) -> anyhow::Result<Self> {
        let manifests = Self::at(folder)?;
        let routes = (0..size.routes).flat_map(|n| {
            let name = format!("server-{n}");
            [server(&name, &name, PORT), route(&format!("route-{n}"), &model(n), &name)]
        });
        manifests.write_all("routes", routes)?;
        manifests.write_all("pods", (0..size.endpoints).map(|n| pod(n, size, 0)))?;
        Ok(manifests)
    }

    fn at(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), times: BTreeMap::new() })
    }

    /// Pod `n` of a fleet is made anew.
    pub fn replace(&mut self, n: usize, size: Size) -> anyhow::Result<()> {
        *self.times.entry(n).or_default() += 1;
        let first = n - n % IN_FILE;
        let again = |at: usize| pod(at, size, self.times.get(&at).copied().unwrap_or_default());
        let pods = (first..size.endpoints.min(first + IN_FILE)).map(again);
        self.write(&format!("pods-{}.json", first / IN_FILE), &list(pods.collect()))
    }

    fn write_all(&self, name: &str, objects: impl Iterator<Item = Value>) -> anyhow::Result<()> {
        let objects: Vec<Value> = objects.collect();
        for (n, part) in objects.chunks(IN_FILE).enumerate() {
            self.write(&format!("{name}-{n}.json"), &list(part.to_vec()))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, object: &Value) -> anyhow::Result<()> {
        let next = self.folder.join(format!(".{name}"));
        fs::write(&next, object.to_string())?;
        Ok(fs::rename(next, self.folder.join(name))?)
    }
}

impl Edited for Manifests {
    async fn route(&self, name: &str, model: &str) -> anyhow::Result<()> {
        self.write(&format!("{name}.json"), &route(name, model, "s"))
    }
}

/// The model of a fleet's route `n`.
pub fn model(n: usize) -> String {
    format!("model-{n}")
}

/// A ModelServer of the pods of an app.
pub fn server(name: &str, app: &str, port: u16) -> Value {
    json!({"apiVersion": GROUP, "kind": "ModelServer", "metadata": {"name": name}, "spec": {
        "inferenceEngine": "vLLM", "workloadPort": {"port": port}, "workloadSelector": {"matchLabels": {"app": app}},
    }})
}

/// A ModelRoute to a server.
pub fn route(name: &str, model: &str, server: &str) -> Value {
    json!({"apiVersion": GROUP, "kind": "ModelRoute", "metadata": {"name": name},
        "spec": {"modelName": model, "rules": [{"targetModels": [{"modelServerName": server}]}]}})
}

/// Pod `n` of a fleet, with the labels that a ModelServing gives its pods. Made anew it has another UID and address.
pub fn pod(n: usize, size: Size, time: usize) -> Value {
    let server = n % size.routes.max(1);
    let labels = json!({"app": format!("server-{server}"), "modelserving.volcano.sh/name": format!("server-{server}"),
        "modelserving.volcano.sh/group-name": format!("server-{server}-{n}"), "modelserving.volcano.sh/role": "leader",
        "modelserving.volcano.sh/revision": "6b8f9c7d5"});
    let address = format!("127.{}.{}.{}", 64 + time % 64, n >> 8 & 255, n & 255);
    json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": format!("node-{}", n % 500)},
        "metadata": {"name": format!("server-{server}-{n}-0"), "uid": format!("{n:08}-0000-4000-8000-{time:012}"), "labels": labels},
        "status": {"podIP": address}})
}

fn list(objects: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": objects})
}
