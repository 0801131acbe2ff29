//! A control plane over a folder of manifests, and a data plane that notes what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::proto::config_ack::Result as Answer;
use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Said;
use api::proto::to_data_plane::Message as Told;
use api::proto::{
    Applied, ConfigAck, FromDataPlane, KvDigest, KvDigests, KvTrust, KvUpdate, Subscribe, ToDataPlane, Version,
};
use api::snapshot::Snapshot;
use api::{delta, hash};
use controlplane::admin::{self, Admin};
use controlplane::peer::{Member, Members, Peering};
use controlplane::run::{Listen, Options, Plane, Source};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

use crate::client;

pub(crate) const MODEL: &str = "sim";
pub(crate) const FLEET_SEED: u64 = 77;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct ControlPlane {
    address: SocketAddr,
    metrics: SocketAddr,
    debug: SocketAddr,
    _stop: oneshot::Sender<()>,
    folder: tempfile::TempDir,
}

/// Control planes that know each other, by their names.
pub(crate) struct Replicas {
    engines: Vec<SocketAddr>,
    members: Vec<Member>,
    told: Vec<watch::Sender<Members>>,
}

impl Replicas {
    pub(crate) fn of(engines: &[SocketAddr]) -> Self {
        Self { engines: engines.to_vec(), members: Vec::new(), told: Vec::new() }
    }

    /// One more, which all others hear of.
    pub(crate) async fn add(&mut self) -> ControlPlane {
        let me: Arc<str> = format!("replica-{}", self.members.len()).into();
        let (tell, members) = watch::channel(Members { me: me.clone(), all: Vec::new() });
        let control =
            ControlPlane::of(&self.engines, true, None, |plane| plane.with_peers(Peering::on_loopback(members))).await;
        self.members.push(Member { name: me, address: control.address });
        self.told.push(tell);
        for tell in &self.told {
            tell.send_modify(|members| members.all.clone_from(&self.members));
        }
        control
    }
}

impl ControlPlane {
    pub(crate) async fn start(engines: &[SocketAddr]) -> Self {
        Self::of(engines, true, None, |plane| plane).await
    }

    /// Writes one of its model's files.
    pub(crate) fn write_file(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("vocabularies").join(format!("{MODEL}.{name}")), text).unwrap();
    }

    pub(crate) async fn without_vocabulary(engines: &[SocketAddr]) -> Self {
        Self::of(engines, false, None, |plane| plane).await
    }

    /// Whose model has this chat template.
    pub(crate) async fn with_template(engines: &[SocketAddr], template: &str) -> Self {
        Self::of(engines, true, Some(template), |plane| plane).await
    }

    async fn of(
        engines: &[SocketAddr],
        readable: bool,
        template: Option<&str>,
        join: impl FnOnce(Plane) -> Plane,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (manifests, vocabularies) = (folder.path().join("manifests"), folder.path().join("vocabularies"));
        std::fs::create_dir(&manifests).unwrap();
        std::fs::create_dir(&vocabularies).unwrap();
        write(&manifests, engines, template);
        if readable {
            std::fs::write(vocabularies.join(format!("{MODEL}.json")), r#"{"model": {"type": "Quads"}}"#).unwrap();
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (source, listen) = (Source::Directory(manifests), Listen::Plain(any));
        let plane = Plane::start(Options { source, listen, fleet_seed: FLEET_SEED }).await.unwrap();
        let plane = join(plane.with_vocabularies(vocabularies));
        let admin = Admin::bind(&admin::Options { metrics: any, debug: Some(any) }, plane.view()).await.unwrap();
        let (address, metrics, debug) = (plane.address(), admin.metrics(), admin.debug().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(admin.serve());
        tokio::spawn(plane.serve(async { drop(stopped.await) }));
        Self { address, metrics, debug, _stop: stop, folder }
    }

    pub(crate) async fn metrics(&self) -> String {
        client::call(self.metrics, "GET", "/metrics", &[], "").await.body
    }

    /// What is said of how engines write chats.
    pub(crate) async fn chats(&self) -> Value {
        self.page().await["endpoints"][0]["chats"].take()
    }

    async fn page(&self) -> Value {
        let asked = timeout(PATIENCE, client::call(self.debug, "GET", "/debug/kv", &[], "")).await;
        serde_json::from_str(&asked.expect("an answer of /debug/kv").body).unwrap()
    }

    /// The engines that it hears itself, by their pods' UIDs.
    pub(crate) async fn hears(&self) -> BTreeSet<String> {
        let page = self.page().await;
        let heard = page["endpoints"].as_array().unwrap().iter().filter(|endpoint| endpoint["state"] == "heard");
        heard.map(|endpoint| endpoint["uid"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn until(&self, what: &str, done: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.metrics().await;
            if done(&text) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}: {text}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One server, one route, and a ready pod for each engine; they share a port if they are several.
fn write(folder: &Path, engines: &[SocketAddr], template: Option<&str>) {
    let port = engines[0].port();
    let template = template.map(|template| format!(", chatTemplate: {}", json!({"template": template})));
    let template = template.unwrap_or_default();
    let mut text = format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: s, namespace: d}}\n\
         spec: {{inferenceEngine: vLLM, model: {MODEL}, workloadSelector: {{matchLabels: {{app: x}}}}, workloadPort: {{port: {port}}}{template}}}\n\
         ---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: r, namespace: d}}\n\
         spec: {{modelName: {MODEL}, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n"
    );
    for (n, engine) in engines.iter().enumerate() {
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}, namespace: d, uid: uid-{n}, labels: {{app: x}}}}\n\
             status: {{podIP: {}, phase: Running, conditions: [{{type: Ready, status: \"True\"}}]}}\n",
            engine.ip()
        );
    }
    std::fs::write(folder.join("all.yaml"), text).unwrap();
}

/// A data plane.
pub(crate) struct DataPlane {
    epoch: u64,
    held: Snapshot,
    generation: u64,
    sequence: u64,
    holds: BTreeMap<u32, BTreeSet<u64>>,
    ranks: BTreeMap<u32, KvTrust>,
    entries: usize,
    inbound: Streaming<ToDataPlane>,
    outbound: mpsc::Sender<FromDataPlane>,
}

impl DataPlane {
    /// Joins, with what it has of another control plane if it was at one.
    pub(crate) async fn join(control: &ControlPlane, before: Option<Self>) -> Self {
        timeout(PATIENCE, Self::begin(control, before)).await.expect("it is let in and told the config")
    }

    async fn begin(control: &ControlPlane, before: Option<Self>) -> Self {
        let held = before.as_ref().map(|before| before.held.clone());
        let version = held.as_ref().map(|held| Version { epoch: held.version.epoch, version: held.version.version });
        let content_hash = held.as_ref().map_or(0, hash::content_hash);
        let subscribe =
            Subscribe { node: "n".into(), kv: true, held: version, content_hash, instance: 5, ..Subscribe::default() };
        let channel = Channel::from_shared(format!("http://{}", control.address)).unwrap().connect().await.unwrap();
        let mut client = DataPlaneClient::new(channel);
        let (outbound, queue) = mpsc::channel(16);
        outbound.try_send(FromDataPlane { message: Some(Said::Subscribe(subscribe)) }).unwrap();
        let said = futures_util::stream::unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
        let mut inbound = client.stream(said).await.unwrap().into_inner();
        let Some(ToDataPlane { message: Some(Told::Welcome(welcome)) }) = inbound.message().await.unwrap() else {
            panic!("the first message is a welcome")
        };
        let held = held.unwrap_or_default();
        let (holds, ranks) = (BTreeMap::new(), BTreeMap::new());
        let mut joined = Self {
            epoch: welcome.epoch,
            held,
            generation: 0,
            sequence: 0,
            holds,
            ranks,
            entries: 0,
            inbound,
            outbound,
        };
        while joined.held.version.epoch != joined.epoch {
            joined.hear().await;
        }
        if let Some(before) = before {
            // Endpoints have other handles there.
            let uids = joined.uids();
            let held = |(handle, uid): (&u32, &String)| (*handle, before.holds_of(uid));
            joined.holds = uids.iter().map(held).collect();
            joined.generation = before.generation;
            let digest = |(handle, held): (&u32, &BTreeSet<u64>)| KvDigest {
                handle: *handle,
                xor: held.iter().fold(0, |xor, hash| xor ^ hash),
                blocks: held.len() as u64,
            };
            let digests = KvDigests {
                epoch: joined.epoch,
                model: MODEL.into(),
                generation: joined.generation,
                endpoints: joined.holds.iter().map(digest).collect(),
            };
            joined.say(Said::Kv(digests)).await;
        }
        joined
    }

    pub(crate) fn holds(&self) -> BTreeSet<u64> {
        self.holds.values().flatten().copied().collect()
    }

    fn uids(&self) -> BTreeMap<u32, String> {
        let endpoints = self.held.backends.iter().flat_map(|backend| &backend.endpoints);
        endpoints.map(|endpoint| (endpoint.handle, endpoint.key.uid.to_string())).collect()
    }

    /// Of one endpoint.
    pub(crate) fn holds_of(&self, uid: &str) -> BTreeSet<u64> {
        let of = |(handle, _): &(&u32, &BTreeSet<u64>)| self.uids().get(*handle).is_some_and(|known| known == uid);
        self.holds.iter().filter(of).flat_map(|(_, held)| held).copied().collect()
    }

    /// All endpoints of the config stand so.
    pub(crate) fn trusts_all(&self) -> bool {
        self.uids().keys().all(|handle| self.ranks.get(handle) == Some(&KvTrust::Trusted))
    }

    pub(crate) fn trust(&self) -> Option<KvTrust> {
        self.ranks.values().next().copied()
    }

    /// The chat template of the one backend.
    pub(crate) fn template(&self) -> Option<String> {
        Some(self.held.backends.first()?.chat_template.as_ref()?.source.to_string())
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// Whether it comes so within a moment.
    pub(crate) async fn soon(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_millis(300);
        while !done(self) && Instant::now() < deadline {
            let _ = timeout(Duration::from_millis(50), self.hear()).await;
        }
        done(self)
    }

    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let late = || format!("waited in vain: {what}: {} held, {:?}", self.holds().len(), self.ranks);
            assert!(Instant::now() < deadline, "{}", late());
            // Nothing may come for a while.
            let _ = timeout(Duration::from_millis(50), self.hear()).await;
        }
    }

    async fn hear(&mut self) {
        match self.inbound.message().await.unwrap().and_then(|told| told.message) {
            Some(Told::Config(update)) => {
                assert!(!update.more, "it is a small one");
                self.held = delta::apply(&self.held, update.delta.unwrap()).unwrap();
                let version = Version { epoch: self.held.version.epoch, version: self.held.version.version };
                let applied = Applied { version: Some(version), content_hash: hash::content_hash(&self.held) };
                self.say(Said::Config(ConfigAck { nonce: update.nonce, result: Some(Answer::Applied(applied)) })).await;
            }
            Some(Told::Kv(update)) => self.take(&update),
            other => assert!(matches!(other, Some(Told::Load(_))), "{other:?}"),
        }
    }

    fn take(&mut self, update: &KvUpdate) {
        if update.reset {
            self.holds.clear();
            self.ranks.clear();
            (self.generation, self.sequence) = (update.generation, 0);
        }
        assert_eq!((update.generation, update.sequence), (self.generation, self.sequence));
        self.sequence += 1;
        for rank in &update.ranks {
            if rank.forget {
                self.holds.remove(&rank.handle);
            }
            self.ranks.insert(rank.handle, rank.trust());
        }
        for entry in update.entries.as_chunks::<16>().0 {
            let hash = u64::from_le_bytes(entry[..8].try_into().unwrap());
            let handle = u32::from_le_bytes(entry[8..12].try_into().unwrap());
            let held = self.holds.entry(handle).or_default();
            if entry[14] & 1 == 0 {
                held.insert(hash)
            } else {
                held.remove(&hash)
            };
            self.entries += 1;
        }
    }

    async fn say(&self, said: Said) {
        self.outbound.send(FromDataPlane { message: Some(said) }).await.unwrap();
    }
}
