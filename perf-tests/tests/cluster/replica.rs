//! A control plane's status writer on a thread of its own, under an identity of its own, that a test can stop in the middle of
//! whatever it does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use controlplane::lease::{self, Leadership};
use controlplane::publish::serve::Progress;
use controlplane::run::Round;
use controlplane::status;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use prometheus::{Registry, TextEncoder};
use serde_json::json;
use tokio::sync::{oneshot, watch};

/// What the chart is to grant, all of it and no more.
pub async fn grant(admin: &Client, users: &[&str]) {
    let parameters = PatchParams::apply("perf-tests").force();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "status"},
        "rules": [
            {"apiGroups": ["networking.serving.volcano.sh"], "verbs": ["get", "list"],
             "resources": ["modelroutes", "modelservers", "externalmodelproviders"]},
            {"apiGroups": ["networking.serving.volcano.sh"], "verbs": ["patch"],
             "resources": ["modelroutes/status", "modelservers/status", "externalmodelproviders/status"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]},
            {"apiGroups": ["workload.serving.volcano.sh"], "verbs": ["get", "list"],
             "resources": ["modelservings", "modelboosters", "autoscalingpolicies", "autoscalingpolicybindings"]},
            {"apiGroups": ["workload.serving.volcano.sh"], "verbs": ["patch"],
             "resources": ["modelservings/status", "modelboosters/status", "autoscalingpolicies/status", "autoscalingpolicybindings/status"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "get", "patch"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]},
        ],
    });
    Api::<ClusterRole>::all(admin.clone()).patch("status", &parameters, &Patch::Apply(role)).await.unwrap();
    for user in users {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "status"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        let bindings = Api::<ClusterRoleBinding>::all(admin.clone());
        bindings.patch(user, &parameters, &Patch::Apply(binding)).await.unwrap();
    }
}

/// Under which the audit log knows it, and in which times its lease runs out.
#[derive(Clone)]
pub struct Identity {
    pub user: String,
    pub namespace: String,
    pub lease: Duration,
    /// How it reaches the API server, as somebody who may impersonate.
    pub kubeconfig: PathBuf,
}

/// Dropped, it is let run, told to stop, and waited for.
pub struct Replica {
    pub rounds: watch::Sender<Option<Arc<Round>>>,
    pub progress: watch::Sender<Arc<Progress>>,
    pub leadership: watch::Receiver<Leadership>,
    pub registry: Registry,
    freeze: tokio::sync::mpsc::UnboundedSender<mpsc::Receiver<()>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Replica {
    /// Runs one.
    pub fn start(identity: Identity) -> Self {
        let (rounds, newest) = watch::channel(None);
        let (progress, acknowledged) = watch::channel(Arc::default());
        let (stop, stopped) = oneshot::channel();
        let (freeze, mut frozen) = tokio::sync::mpsc::unbounded_channel::<mpsc::Receiver<()>>();
        let (told, leadership) = mpsc::channel();
        let registry = Registry::new();
        let metrics = registry.clone();
        let running = async move {
            let client = client(&identity).await;
            let mut options = lease::Options::new(&identity.namespace, "status", &identity.user);
            options.duration = identity.lease;
            (options.renewed, options.interval) = (identity.lease / 2, identity.lease / 8);
            let (lease_stop, lease_stopped) = oneshot::channel::<()>();
            let stopping = async { drop(lease_stopped.await) };
            let (leadership, standing) = lease::run(client.clone(), options, &metrics, stopping);
            told.send(leadership.clone()).unwrap();
            // There is no other replica that has data planes.
            let (_alone, others) = watch::channel(Arc::default());
            let inputs = status::Inputs { rounds: newest, progress: acknowledged, others, leadership };
            let options = status::Options { namespaces: vec![identity.namespace], instance: identity.user };
            let freezing = async move {
                while let Some(thawed) = frozen.recv().await {
                    // The whole thread stands still, whatever else is under way on it, as under SIGSTOP.
                    let _ = thawed.recv();
                }
            };
            let writing = async move {
                let stopped = async { drop(stopped.await) };
                status::run(client, options, inputs, &metrics, stopped).await;
                drop(lease_stop);
            };
            tokio::select! {
                _ = async { tokio::join!(standing, writing) } => {}
                () = freezing => {}
            }
        };
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(running);
        });
        let leadership = leadership.recv().unwrap();
        Self { rounds, progress, leadership, registry, freeze, stop: Some(stop), thread: Some(thread) }
    }

    /// Stands still until the sender is dropped.
    pub fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, thawed) = mpsc::channel();
        self.freeze.send(thawed).unwrap();
        thaw
    }

    /// A sample of one of its metrics, as in a scrape; 0 where there is none.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the replica's thread panicked");
    }
}

/// Acts as a user who has no more rights than were granted.
async fn client(identity: &Identity) -> Client {
    let mut config = Kubeconfig::read_from(&identity.kubeconfig).unwrap();
    for named in &mut config.auth_infos {
        named.auth_info.as_mut().unwrap().impersonate = Some(identity.user.clone());
    }
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}
