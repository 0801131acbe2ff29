//! The chart on a real API server: strict dry runs of all that it renders, and its whole life with and without server-side apply. There
//! are no kubelets, so hooks are left out and what they run is called by its function. Each test has a cluster of its own, for much of
//! what is installed has no namespace.

use controlplane::definitions::{self, Release};
use controlplane::object::Kind;
use http::{Method, Request};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, PostParams};
use perf_tests::cluster::{Cluster, Parts};
use perf_tests::helm::{chart, helm};
use serde_json::{Value, json};

use crate::values;

const NAMESPACE: &str = "serving";

async fn send(client: &Client, method: Method, path: &str, body: &Value) -> kube::Result<Value> {
    let content = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content);
    client.request(request.body(body.to_string().into_bytes()).expect("a path of names and a body")).await
}

/// Where an object is.
fn path(object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let plural = match kind {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{root}/{plural}/{name}"),
    }
}

async fn make_namespace(client: &Client, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

async fn apply_definitions(client: &Client) {
    for kind in Kind::ALL {
        definitions::apply(client, kind, &Release::ours()).await.unwrap();
    }
}

#[tokio::test]
async fn the_api_server_takes_every_object_of_the_matrix_strictly() {
    let cluster = Cluster::start(Parts::ApiServer).unwrap();
    let client = cluster.admin().await.unwrap();
    apply_definitions(&client).await;
    for namespace in [NAMESPACE, "one", "two"] {
        make_namespace(&client, namespace).await;
    }
    let mut taken = 0;
    for case in values::all() {
        for mut object in case.objects() {
            // The kinds of Prometheus Operator are not of this cluster, and neither is IPv6.
            if object.0["apiVersion"] == "monitoring.coreos.com/v1" {
                continue;
            }
            if let Some(spec) = object.0.get_mut("spec").and_then(Value::as_object_mut) {
                spec.remove("ipFamilies");
            }
            let path = format!("{}?dryRun=All&fieldManager=helm&fieldValidation=Strict", path(&object.0));
            if let Err(error) = send(&client, Method::PATCH, &path, &object.0).await {
                panic!("{}: {object}: {error}", case.name);
            }
            taken += 1;
        }
    }
    assert!(taken > 100, "only {taken} objects were rendered");
}

/// A cluster and helm on it.
struct Bed {
    cluster: Cluster,
    client: Client,
}

impl Bed {
    async fn start() -> Self {
        let cluster = Cluster::start(Parts::ApiServer).unwrap();
        let client = cluster.admin().await.unwrap();
        apply_definitions(&client).await;
        Self { cluster, client }
    }

    fn try_helm(&self, arguments: &[&str]) -> Result<String, String> {
        let kubeconfig = self.cluster.kubeconfig();
        let mut all = vec!["--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", NAMESPACE];
        all.extend(arguments);
        let output = helm(&all).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    #[track_caller]
    fn helm(&self, arguments: &[&str]) -> String {
        self.try_helm(arguments).unwrap_or_else(|said| panic!("helm {arguments:?}: {said}"))
    }

    async fn get(&self, path: &str) -> Option<Value> {
        match send(&self.client, Method::GET, path, &Value::Null).await {
            Ok(found) => Some(found),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// As the control plane does.
    async fn fill(&self, object: &Value) {
        let path = format!("{}?fieldManager=kthena-controlplane-certificates&force=true", path(object));
        send(&self.client, Method::PATCH, &path, object).await.unwrap();
    }
}

const CA_BUNDLE: &str = "Y2EK";

fn certificates() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kthena-controlplane-certificates", "namespace": NAMESPACE},
        "data": {"tls.key": "a2V5Cg=="}})
}

fn authority() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-controlplane-ca", "namespace": NAMESPACE},
        "data": {"ca.crt": "the bundle"}})
}

fn webhook() -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "kthena-controlplane"},
        "webhooks": [{"name": "validate.kthena.volcano.sh", "clientConfig": {"caBundle": CA_BUNDLE}}]})
}

/// That what the control plane filled is there as it filled it.
async fn check_filled(bed: &Bed, after: &str) {
    let secret = bed.get(&path(&certificates())).await.unwrap();
    assert_eq!(secret["data"], certificates()["data"], "after {after}");
    let authority_held = bed.get(&path(&authority())).await.unwrap();
    assert_eq!(authority_held["data"], authority()["data"], "after {after}");
    let hook = bed.get(&path(&webhook())).await.unwrap();
    assert_eq!(hook["webhooks"][0]["clientConfig"]["caBundle"], CA_BUNDLE, "after {after}");
    assert_eq!(hook["webhooks"][0]["clientConfig"]["service"]["namespace"], NAMESPACE, "after {after}");
}

async fn whole_life(server_side: &str) {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let route = json!({"apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
        "metadata": {"name": "mine", "namespace": NAMESPACE},
        "spec": {"modelName": "m", "rules": [{"targetModels": [{"modelServerName": "s"}]}]}});
    let routes = format!("/apis/networking.serving.volcano.sh/v1alpha1/namespaces/{NAMESPACE}/modelroutes");
    send(&bed.client, Method::POST, &routes, &route).await.unwrap();
    let folder = chart();
    let folder = folder.to_str().unwrap();
    let apply = format!("--server-side={server_side}");
    let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kthena-router");
    let replicas = async || bed.get(&deployment).await.map(|found| found["spec"]["replicas"].clone());

    let said = bed.helm(&["install", "kthena", folder, "--no-hooks", &apply, "--set", "node.enabled=true"]);
    assert!(said.contains("curl http://kthena-router.serving.svc:80/v1/chat/completions"), "{said}");
    assert!(said.contains("curl http://kthena-node.serving.svc:80/v1/chat/completions"), "{said}");
    for object in [certificates(), authority(), webhook()] {
        bed.fill(&object).await;
    }
    check_filled(&bed, "install").await;

    let more = [
        "node.enabled=true",
        "gateway.replicas=5",
        "networkPolicy.enabled=true",
        "controlplane.webhook.failurePolicy=Ignore",
    ];
    let mut arguments = vec!["upgrade", "kthena", folder, "--no-hooks", &apply];
    more.iter().for_each(|set| arguments.extend(["--set", set]));
    bed.helm(&arguments);
    assert_eq!(replicas().await, Some(json!(5)));
    check_filled(&bed, "upgrade").await;

    bed.helm(&["rollback", "kthena", "1", "--no-hooks", &apply]);
    assert_eq!(replicas().await, Some(json!(2)));
    check_filled(&bed, "rollback").await;
    let policy = format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/kthena-router");
    assert_eq!(bed.get(&policy).await, None);

    bed.helm(&["uninstall", "kthena", "--no-hooks"]);
    assert_eq!(bed.get(&path(&webhook())).await, None);
    let kept = bed.get(&format!("{routes}/mine")).await.expect("objects outlive the release");
    assert_eq!(kept["spec"]["modelName"], "m");
}

#[tokio::test]
async fn install_upgrade_rollback_and_uninstall_lose_nothing_with_server_side_apply() {
    whole_life("true").await;
}

#[tokio::test]
async fn install_upgrade_rollback_and_uninstall_lose_nothing_without_server_side_apply() {
    whole_life("false").await;
}

#[tokio::test]
async fn beside_a_live_router_of_kthena_it_is_refused_unless_it_is_told_to() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, "kthena-system").await;
    make_namespace(&bed.client, NAMESPACE).await;
    let labels = json!({"app": "kthena-router"});
    let theirs = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kthena-router"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "router", "image": "ghcr.io/volcano-sh/kthena-router:latest"}]}}}});
    send(&bed.client, Method::POST, "/apis/apps/v1/namespaces/kthena-system/deployments", &theirs).await.unwrap();
    let folder = chart();
    let install = |more: &[&str]| {
        let mut arguments = vec!["upgrade", "--install", "kthena", folder.to_str().unwrap(), "--no-hooks"];
        more.iter().for_each(|set| arguments.extend(["--set", set]));
        bed.try_helm(&arguments)
    };
    let said = install(&[]).unwrap_err();
    assert!(said.contains("Deployment kthena-system/kthena-router of another installation"), "{said}");
    assert!(said.contains("migration.besideKthena=true"), "{said}");
    install(&["migration.besideKthena=true"]).unwrap();

    let deployment = "/apis/apps/v1/namespaces/kthena-system/deployments/kthena-router";
    send(&bed.client, Method::DELETE, deployment, &json!({})).await.unwrap();
    install(&[]).expect("its own kthena-router is no reason to refuse an upgrade");
}
