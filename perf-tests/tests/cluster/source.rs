//! The control plane follows a real API server, by the rights that the chart gives it: what is applied there is in the snapshot.

use std::sync::Arc;
use std::time::Duration;

use api::snapshot::Snapshot;
use controlplane::run::{Listen, Options, Plane, Round, Source};
use controlplane::source::kubernetes::Scope;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use perf_tests::cluster::Cluster;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::charted;

const DEADLINE: Duration = Duration::from_secs(20);
const GROUP: &str = "networking.serving.volcano.sh";

/// A namespace, and a control plane that follows it and no other.
struct Site {
    client: Client,
    namespace: String,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    rounds: watch::Receiver<Option<Arc<Round>>>,
}

fn is_core(kind: &str) -> bool {
    matches!(kind, "Pod" | "ConfigMap" | "Secret")
}

impl Site {
    async fn start(prefix: &str) -> Self {
        let cluster = Cluster::shared();
        let client = cluster.admin().await.unwrap();
        cluster.install_definitions(&client).await.unwrap();
        let namespace = cluster.namespace(&client, prefix).await.unwrap();
        charted::grant(cluster, &client, &namespace).await;
        let account = charted::pod(cluster, &client, (&namespace, "controlplane"), &cluster.url().unwrap()).await;
        let kubeconfig = Kubeconfig::read_from(account.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let scope = Scope { namespaces: vec![namespace.clone()], home: namespace.clone() };
        let source = Source::Cluster(Box::new(config), scope);
        let plane = Plane::start(Options { source, listen: Listen::Plain(([127, 0, 0, 1], 0).into()), fleet_seed: 1 })
            .await
            .unwrap();
        let (snapshots, rounds) = (plane.snapshots(), plane.rounds());
        // It ends with the runtime of the test.
        drop(tokio::spawn(plane.serve(std::future::pending())));
        Self { client, namespace, snapshots, rounds }
    }

    fn api(&self, kind: &str, plural: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = if is_core(kind) { ("", "v1") } else { (GROUP, "v1alpha1") };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    async fn apply(&self, kind: &str, plural: &str, name: &str, body: Value) {
        let mut object = body;
        let api = self.api(kind, plural, &self.namespace);
        object["apiVersion"] = if is_core(kind) { "v1".into() } else { format!("{GROUP}/v1alpha1").into() };
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        api.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(object)).await.unwrap();
    }

    async fn server(&self, name: &str, app: &str) {
        let spec = json!({
            "inferenceEngine": "vLLM", "workloadPort": {"port": 8000},
            "workloadSelector": {"matchLabels": {"app": app}},
        });
        self.apply("ModelServer", "modelservers", name, json!({ "spec": spec })).await;
    }

    async fn route(&self, name: &str, server: &str) {
        let spec = json!({"modelName": name, "rules": [{"targetModels": [{"modelServerName": server}]}]});
        self.apply("ModelRoute", "modelroutes", name, json!({ "spec": spec })).await;
    }

    async fn pod(&self, name: &str, app: &str) {
        let spec = json!({"nodeName": "n", "containers": [{"name": "engine", "image": "engine"}]});
        self.apply("Pod", "pods", name, json!({"metadata": {"labels": {"app": app}}, "spec": spec})).await;
    }

    async fn ready(&self, name: &str, ip: &str, ready: bool) {
        let status = json!({
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        });
        let pods = self.api("Pod", "pods", &self.namespace);
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
    }

    async fn delete(&self, kind: &str, plural: &str, name: &str) {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.api(kind, plural, &self.namespace).delete(name, &at_once).await.unwrap();
    }

    /// Waits until the snapshot has these routes and endpoints.
    #[track_caller]
    fn until(&mut self, routes: &[&str], endpoints: &[&str]) -> impl Future<Output = Arc<Snapshot>> {
        let (routes, endpoints) = (
            routes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        );
        let caller = std::panic::Location::caller();
        let mut snapshots = self.snapshots.clone();
        async move {
            let right = |snapshot: &Option<Arc<Snapshot>>| {
                snapshot.as_ref().is_some_and(|snapshot| said(snapshot) == (routes.clone(), endpoints.clone()))
            };
            let found = timeout(DEADLINE, snapshots.wait_for(right)).await.map(|found| found.expect("it runs").clone());
            match found {
                Ok(found) => found.unwrap(),
                Err(_) => panic!(
                    "{caller}: not {routes:?} {endpoints:?} but {:?}",
                    snapshots.borrow().as_ref().map(|snapshot| said(snapshot))
                ),
            }
        }
    }
}

/// Model names of routes, and addresses of endpoints.
fn said(snapshot: &Snapshot) -> (Vec<String>, Vec<String>) {
    let routes = snapshot.routes.iter().map(|route| route.model.as_ref().map_or_else(String::new, ToString::to_string));
    let endpoints = snapshot.backends.iter().flat_map(|backend| backend.endpoints.iter());
    let mut said =
        (routes.collect::<Vec<_>>(), endpoints.map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>());
    said.0.sort();
    said.1.sort();
    said
}

#[tokio::test]
async fn what_is_applied_is_in_the_snapshot_and_what_is_deleted_is_not() {
    let mut site = Site::start("source").await;
    site.until(&[], &[]).await;
    site.server("small", "a").await;
    site.pod("one", "a").await;
    site.ready("one", "10.1.0.1", true).await;
    site.route("chat", "small").await;
    site.until(&["chat"], &["10.1.0.1:8000"]).await;

    site.pod("two", "a").await;
    site.ready("two", "fd00::2", true).await;
    site.until(&["chat"], &["10.1.0.1:8000", "[fd00::2]:8000"]).await;
    site.ready("one", "10.1.0.1", false).await;
    site.until(&["chat"], &["[fd00::2]:8000"]).await;

    site.server("small", "b").await;
    site.until(&["chat"], &[]).await;
    site.server("small", "a").await;
    site.until(&["chat"], &["[fd00::2]:8000"]).await;
    site.delete("Pod", "pods", "two").await;
    site.until(&["chat"], &[]).await;
    site.delete("ModelRoute", "modelroutes", "chat").await;
    site.until(&[], &[]).await;
}

#[tokio::test]
async fn another_namespace_does_not_count() {
    let mut here = Site::start("here").await;
    let there = Site::start("there").await;
    there.server("small", "a").await;
    there.route("theirs", "small").await;
    let mut theirs = there;
    theirs.until(&["theirs"], &[]).await;
    here.server("small", "a").await;
    here.route("ours", "small").await;
    here.until(&["ours"], &[]).await;
}

/// An object that an API server took, and that we refuse, is published as it last was; the rest goes on.
#[tokio::test]
async fn a_wrong_object_stops_nothing() {
    let mut site = Site::start("wrong").await;
    site.server("small", "a").await;
    site.route("chat", "small").await;
    site.until(&["chat"], &[]).await;
    // No regex, which neither the schema nor CEL can tell.
    let rule = json!({"modelMatch": {"uri": {"regex": "("}}, "targetModels": [{"modelServerName": "small"}]});
    site.apply("ModelRoute", "modelroutes", "chat", json!({"spec": {"modelName": "chat", "rules": [rule]}})).await;
    site.route("code", "small").await;
    site.until(&["chat", "code"], &[]).await;
}

#[tokio::test]
async fn a_provider_says_whether_its_secret_has_the_key() {
    let mut site = Site::start("credentials").await;
    let labels = json!({"networking.serving.volcano.sh/external-model-provider-credential": "true"});
    site.apply("Secret", "secrets", "k", json!({"metadata": {"labels": labels}, "stringData": {"token": "sk-1"}}))
        .await;
    for key in ["other", "token"] {
        let auth = json!({"secretRef": {"name": "k", "key": key}});
        let spec = json!({"baseURL": "https://api.example", "auth": auth});
        site.apply("ExternalModelProvider", "externalmodelproviders", key, json!({"spec": spec})).await;
    }
    let said = |round: &Option<Arc<Round>>| {
        let verdicts = round.iter().flat_map(|round| round.verdicts.providers.values());
        verdicts.map(|verdict| verdict.credentials.reason.to_string()).collect::<Vec<_>>()
    };
    let expected = ["CredentialKeyNotFound", "CredentialResolved"];
    let waited = timeout(DEADLINE, site.rounds.wait_for(|round| said(round) == expected)).await.map(drop);
    assert!(waited.is_ok(), "{:?}", said(&site.rounds.borrow()));
}
