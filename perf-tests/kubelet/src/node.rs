//! A node: that it is there, that it lives, and which pods it has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node as Object, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::NodeSpec;
use super::address::Addresses;
use super::launch::Facts;
use super::pod::{Known, Play};
use super::sandbox::{Sandbox, Shared};
use crate::plan;

const LEASES: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(2);
const LEAVING: Duration = Duration::from_secs(2);

pub(super) struct Node {
    shared: Rc<Shared>,
    name: String,
    index: usize,
    addresses: Addresses,
    link: watch::Receiver<bool>,
    /// By uid.
    pods: RefCell<BTreeMap<String, watch::Sender<Known>>>,
}

impl Node {
    /// Puts it there, ready.
    pub(super) async fn register(
        shared: Rc<Shared>,
        spec: NodeSpec,
        index: usize,
        link: watch::Receiver<bool>,
    ) -> Result<Self> {
        let six = shared.config.dual_stack.then(|| plan::node_second(index));
        let addresses = Addresses { four: shared.block.node(index), six };
        let api = Api::<Object>::all(shared.client.clone());
        let applied = api.patch(&spec.name, &params(), &Patch::Apply(object(&spec))).await;
        applied.with_context(|| format!("registering node {}", spec.name))?;
        let status = status(&spec, addresses, Timestamp::now());
        api.patch_status(&spec.name, &PatchParams::default(), &Patch::Strategic(status)).await?;
        let node = Self { shared, name: spec.name, index, addresses, link, pods: RefCell::default() };
        node.renew().await?;
        Ok(node)
    }

    /// What keeps the names of Services, and where they are, on a bed of nodes.
    pub(super) fn names(&self) -> Option<(Client, PathBuf)> {
        Some((self.shared.client.clone(), self.shared.hosts()?))
    }

    /// For ever.
    pub(super) async fn run(self: Rc<Self>) {
        tokio::join!(self.beat(), self.play());
    }

    /// Takes it out of the cluster, so that nothing is bound to it any more. An API server that has ended minds no longer.
    pub(super) async fn leave(&self) {
        let api = Api::<Object>::all(self.shared.client.clone());
        let _ = timeout(LEAVING, api.delete(&self.name, &DeleteParams::default())).await;
    }

    async fn beat(&self) {
        let mut link = self.link.clone();
        loop {
            if link.wait_for(|up| *up).await.is_err() {
                return;
            }
            // One that fails is followed by another before the controllers miss it.
            let _ = timeout(RENEW, self.renew()).await;
            sleep(RENEW).await;
        }
    }

    async fn renew(&self) -> Result<()> {
        let api = Api::<Lease>::namespaced(self.shared.client.clone(), LEASES);
        let spec = LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        api.patch(&self.name, &params(), &Patch::Apply(lease)).await?;
        Ok(())
    }

    /// Follows the pods that are bound to it.
    async fn play(&self) {
        let mut playing = JoinSet::new();
        let api = Api::<Pod>::all(self.shared.client.clone());
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", self.name));
        let mut events = pin!(watcher(api, mine).default_backoff());
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => {
                    listed.extend(pod.uid());
                    self.see(pod, &mut playing);
                }
                Ok(Event::Apply(pod)) => self.see(pod, &mut playing),
                Ok(Event::Delete(pod)) => self.forget(|uid| pod.metadata.uid.as_ref() == Some(uid)),
                // What is not listed was deleted while nobody watched.
                Ok(Event::InitDone) => self.forget(|uid| !listed.contains(uid)),
                // The watcher tries again by itself.
                Err(_) => {}
            }
            while playing.try_join_next().is_some() {}
        }
    }

    fn see(&self, pod: Pod, playing: &mut JoinSet<()>) {
        let Some(uid) = pod.uid() else { return };
        if let Some(known) = self.pods.borrow().get(&uid) {
            known.send_replace(Known::There(Rc::new(pod)));
            return;
        }
        let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let host = self.addresses;
        let facts = Facts { pod: if on_node { host } else { self.next_pod() }, host, node: self.name.clone() };
        let (sender, known) = watch::channel(Known::There(Rc::new(pod.clone())));
        self.pods.borrow_mut().insert(uid, sender);
        let play = Play { client: self.shared.client.clone(), known, link: self.link.clone() };
        playing.spawn_local(play.run(Sandbox::new(self.shared.clone(), pod, facts)));
    }

    fn next_pod(&self) -> Addresses {
        let four = self.shared.block.pod(self.index);
        Addresses { four, six: self.addresses.six.map(|_| plan::second(four)) }
    }

    fn forget(&self, mut gone: impl FnMut(&String) -> bool) {
        let mut pods = self.pods.borrow_mut();
        pods.retain(|uid, known| {
            let gone = gone(uid);
            if gone {
                known.send_replace(Known::Gone);
            }
            !gone
        });
    }
}

fn params() -> PatchParams {
    PatchParams::apply("kubelet").force()
}

fn object(spec: &NodeSpec) -> Value {
    let mut labels = spec.labels.clone();
    labels.insert("kubernetes.io/hostname".to_owned(), spec.name.clone());
    labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": spec.name, "labels": labels}})
}

fn status(spec: &NodeSpec, addresses: Addresses, now: Timestamp) -> Value {
    let capacity = json!({"cpu": "64", "memory": "512Gi", "pods": "1000", "nvidia.com/gpu": spec.gpus.to_string()});
    let calm = ["MemoryPressure", "DiskPressure", "PIDPressure"].map(|name| (name, "False"));
    let conditions = calm.into_iter().chain([("Ready", "True")]).map(|(name, status)| {
        let now = Time(now);
        json!({"type": name, "status": status, "reason": "Played", "lastHeartbeatTime": now, "lastTransitionTime": now})
    });
    let addresses = addresses.all().into_iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
    let addresses = addresses.chain([json!({"type": "Hostname", "address": spec.name})]);
    json!({"status": {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": addresses.collect::<Vec<_>>(),
        "conditions": conditions.collect::<Vec<_>>(),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": super::LOGS}},
    }})
}
