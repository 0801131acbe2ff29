//! The chart on a real API server: strict dry runs of all that it renders, and its whole life with and without server-side apply. There
//! are no kubelets, so hooks are left out and what they run is called by its function. Each test has a cluster of its own, for much of
//! what is installed has no namespace.

mod families;

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

pub const NAMESPACE: &str = "serving";

pub async fn send(client: &Client, method: Method, path: &str, body: &Value) -> kube::Result<Value> {
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

pub async fn make_namespace(client: &Client, name: &str) {
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
    // Of their kinds are some of the chart's objects.
    cluster.install_definitions_of_others(&client).await.unwrap();
    for namespace in [NAMESPACE, "one", "two", values::DIGITS] {
        make_namespace(&client, namespace).await;
    }
    // What helm would render for that server. For the bed's own release a case says that itself.
    let release = Cluster::release().map(|release| format!("{release}.0"));
    let mut taken = 0;
    for mut case in values::all() {
        if let Some(release) = &release {
            case.render.kubernetes = release;
        }
        for object in case.objects() {
            let path = format!("{}?dryRun=All&fieldManager=helm&fieldValidation=Strict", path(&object.0));
            if let Err(error) = send(&client, Method::PATCH, &path, &object.0).await {
                panic!("{}: {object}: {error}", case.name);
            }
            taken += 1;
        }
    }
    println!("{taken} objects of the chart were taken");
    assert!(taken > 100, "only {taken} objects were rendered");
}

/// A cluster and helm on it.
pub struct Bed {
    pub cluster: Cluster,
    pub client: Client,
}

impl Bed {
    async fn start() -> Self {
        let bed = Self::bare().await;
        apply_definitions(&bed.client).await;
        bed
    }

    /// Without our definitions.
    pub async fn bare() -> Self {
        let cluster = Cluster::start(Parts::ApiServer).unwrap();
        let client = cluster.admin().await.unwrap();
        Self { cluster, client }
    }

    pub fn try_helm(&self, arguments: &[&str]) -> Result<String, String> {
        let kubeconfig = self.cluster.kubeconfig();
        let mut all = vec!["--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", NAMESPACE];
        all.extend(arguments);
        let output = helm(&all).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    #[track_caller]
    pub fn helm(&self, arguments: &[&str]) -> String {
        self.try_helm(arguments).unwrap_or_else(|said| panic!("helm {arguments:?}: {said}"))
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
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

fn lease() -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "kthena-controlplane", "namespace": NAMESPACE}})
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

#[tokio::test]
async fn a_lease_that_another_made_stays_anothers_and_stops_no_release() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
    send(&bed.client, Method::POST, &leases, &lease()).await.unwrap();
    let folder = chart();
    for step in [&["install", "kthena"][..], &["upgrade", "kthena"]] {
        bed.helm(&[step, &[folder.to_str().unwrap(), "--no-hooks"]].concat());
        let found = bed.get(&path(&lease())).await.unwrap();
        assert_eq!(found["metadata"]["annotations"], Value::Null, "after {step:?}");
    }
    bed.helm(&["uninstall", "kthena", "--no-hooks"]);
    assert!(bed.get(&path(&lease())).await.is_some());
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
    assert!(bed.get(&path(&lease())).await.is_some(), "the release's own stays");

    bed.helm(&["rollback", "kthena", "1", "--no-hooks", &apply]);
    assert_eq!(replicas().await, Some(json!(2)));
    check_filled(&bed, "rollback").await;
    let policy = format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/kthena-router");
    assert_eq!(bed.get(&policy).await, None);

    bed.helm(&["uninstall", "kthena", "--no-hooks"]);
    assert_eq!((bed.get(&path(&webhook())).await, bed.get(&path(&lease())).await), (None, None));
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

/// Why helm/README.md warns of it: what is put in an object's place has only what the chart says.
#[tokio::test]
async fn a_replacement_by_force_takes_away_what_the_control_plane_filled() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let folder = chart();
    let folder = folder.to_str().unwrap();
    bed.helm(&["install", "kthena", folder, "--no-hooks", "--server-side=false"]);
    for object in [certificates(), authority(), webhook()] {
        bed.fill(&object).await;
    }
    bed.helm(&["upgrade", "kthena", folder, "--no-hooks", "--server-side=false", "--force-replace"]);
    for object in [certificates(), authority()] {
        let held = bed.get(&path(&object)).await.unwrap();
        assert_eq!(held["data"], Value::Null, "{held}");
    }
    let hook = bed.get(&path(&webhook())).await.unwrap();
    assert_eq!(hook["webhooks"][0]["clientConfig"]["caBundle"], Value::Null);
}

/// Without a kubelet no pod of a test begins.
#[tokio::test]
async fn a_test_that_fails_leaves_nothing_that_an_uninstall_would_leave() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let folder = chart();
    let settings = "node.enabled=true,controlplane.webhook.enabled=false";
    bed.helm(&["install", "kthena", folder.to_str().unwrap(), "--no-hooks", "--set", settings]);
    let of_tests = "app.kubernetes.io/instance=kthena,app.kubernetes.io/name%20in%20(kthena-test,kthena-router-doctor,kthena-node-doctor)";
    let left = async || {
        let crs = format!("/apis/networking.serving.volcano.sh/v1alpha1/namespaces/{NAMESPACE}");
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let mut left = Vec::new();
        for kind in [pods, format!("{crs}/modelroutes"), format!("{crs}/modelservers")] {
            let found = bed.get(&format!("{kind}?labelSelector={of_tests}")).await.unwrap();
            let items = found["items"].as_array().unwrap().iter();
            left.extend(items.map(|item| format!("{kind}/{}", item["metadata"]["name"].as_str().unwrap())));
        }
        left
    };
    for (test, pod) in [("kthena-node-doctor", "kthena-node-doctor"), ("kthena-test", "kthena-test")] {
        let said = bed.try_helm(&["test", "kthena", "--timeout=3s", "--filter", &format!("name={test}")]).unwrap_err();
        // It was there.
        assert!(said.contains(pod), "{said}");
        assert_eq!(left().await, Vec::<String>::new(), "{said}");
    }
    bed.helm(&["uninstall", "kthena", "--no-hooks"]);
}

/// A chart of our name as an older release might have been: one object, and values that lack what came later.
fn older_chart() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("Chart.yaml", "apiVersion: v2\nname: kthena\nversion: 0.0.9\n");
    let values = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let mut values: Value = serde_norway::from_str(&values).unwrap();
    for path in ["", "/global", "/controlplane", "/gateway", "/node"] {
        let lacks = [
            "migration",
            "tests",
            "monitoring",
            "networkPolicy",
            "ipFamilies",
            "certificates",
            "pdb",
            "ioUring",
            "doctor",
        ];
        let block = values.pointer_mut(path).unwrap().as_object_mut().unwrap();
        block.retain(|key, _| !lacks.contains(&key.as_str()));
    }
    write("values.yaml", &values.to_string());
    std::fs::create_dir(folder.path().join("templates")).unwrap();
    write("templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: older}\n");
    folder
}

#[tokio::test]
async fn values_of_an_older_chart_are_reused_and_what_they_lack_has_its_default() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let (older, ours) = (older_chart(), chart());
    let set = ["--set", "gateway.replicas=3", "--set", "node.enabled=true"];
    bed.helm(&[&["install", "kthena", older.path().to_str().unwrap(), "--no-hooks"][..], &set].concat());
    bed.helm(&["upgrade", "kthena", ours.to_str().unwrap(), "--no-hooks", "--reuse-values"]);
    let manifest = bed.helm(&["get", "manifest", "kthena"]);
    let version = format!("--kube-version={}.0", Cluster::release().as_deref().unwrap_or("1.36"));
    let fresh = ["template", "kthena", ours.to_str().unwrap(), "--no-hooks", &version];
    assert_eq!(manifest.trim(), bed.helm(&[&fresh[..], &set].concat()).trim());
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

/// With the label of ours on the one that we never have.
fn kthenas(program: &str, annotations: &Value) -> Value {
    let part_of = if program == "kthena-router" { "another" } else { "kthena" };
    let labels = json!({"app": program});
    let image = format!("ghcr.io/volcano-sh/{program}:latest");
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": program, "namespace": NAMESPACE, "annotations": annotations, "labels": {"app.kubernetes.io/part-of": part_of}},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "program", "image": image}]}}}})
}

/// An upgrade of it would put ours in the place of all that Kthena's chart has made.
#[tokio::test]
async fn a_release_of_kthenas_own_chart_is_not_upgraded_to_ours() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let folder = chart();
    let of_release = json!({"meta.helm.sh/release-name": "kthena", "meta.helm.sh/release-namespace": NAMESPACE});
    let deployments = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    for program in ["kthena-router", "kthena-controller-manager"] {
        let theirs = kthenas(program, &of_release);
        send(&bed.client, Method::POST, &deployments, &theirs).await.unwrap();
        for set in ["migration.besideKthena=false", "migration.besideKthena=true"] {
            let arguments = ["upgrade", "--install", "kthena", folder.to_str().unwrap(), "--no-hooks", "--set", set];
            let said = bed.try_helm(&arguments).unwrap_err();
            let wanted =
                format!("release kthena is one of Kthena's own chart, for its Deployment is {NAMESPACE}/{program}");
            assert!(said.contains(&wanted) && said.contains("way A"), "{set}: {said}");
        }
        send(&bed.client, Method::DELETE, &path(&theirs), &json!({})).await.unwrap();
    }
}

#[tokio::test]
async fn a_scheduler_configuration_that_another_made_is_not_replaced() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kthena-router-config", "namespace": NAMESPACE}, "data": {"routerConfiguration": "scheduler: {}"}});
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    send(&bed.client, Method::POST, &maps, &theirs).await.unwrap();
    let folder = chart();
    let ours = "scheduler.configuration=scheduler: {}";
    let upgrade = |set: &[&str]| {
        let upgrade = ["upgrade", "--install", "kthena", folder.to_str().unwrap(), "--no-hooks"];
        bed.try_helm(&[&upgrade[..], set].concat())
    };
    let said = upgrade(&["--set", ours]).unwrap_err();
    assert!(said.contains(&format!("kubectl -n {NAMESPACE} delete configmap kthena-router-config")), "{said}");
    upgrade(&[]).expect("who does not say it keeps theirs");
    assert_eq!(bed.get(&path(&theirs)).await.unwrap()["data"], theirs["data"]);
    let mut unreadable = bed.get(&path(&theirs)).await.unwrap();
    unreadable["data"]["routerConfiguration"] = "{auth: {jwksUri: 'https://keys.example.com'".into();
    send(&bed.client, Method::PUT, &path(&theirs), &unreadable).await.unwrap();
    let said = upgrade(&[]).unwrap_err();
    assert!(said.contains("kthena-router-config cannot be read"), "nobody knows what it asks for: {said}");
    send(&bed.client, Method::DELETE, &path(&theirs), &json!({})).await.unwrap();
    upgrade(&["--set", ours]).unwrap();
    upgrade(&["--set", ours]).expect("its own is no reason");
    // An earlier chart took a configuration that asks for tokens: the way out of it is this one's value.
    let mut asks = bed.get(&path(&theirs)).await.unwrap();
    asks["data"]["routerConfiguration"] = "{auth: {jwksUri: 'https://keys.example.com'}, scheduler: {}}".into();
    asks["metadata"]["managedFields"] = Value::Null;
    let as_helm = format!("{}?fieldManager=helm&force=true", path(&theirs));
    send(&bed.client, Method::PATCH, &as_helm, &asks).await.unwrap();
    upgrade(&["--set", ours]).expect("nor is what its own asks for, once it is not said any more");
    send(&bed.client, Method::DELETE, &path(&theirs), &json!({})).await.unwrap();
    // Another namespace's is another control plane's, also where its objects are served.
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-router-config", "namespace": "default"},
        "data": asks["data"].clone()});
    send(&bed.client, Method::POST, "/api/v1/namespaces/default/configmaps", &elsewhere).await.unwrap();
    upgrade(&["--set", ours, "--set", "controlplane.namespaces={default}"]).expect("nobody here reads it");
}

/// As helm/README.md says: whoever scales owns the number, and helm then takes nothing away.
#[tokio::test]
async fn replicas_that_were_scaled_by_hand_outlive_the_switch_to_an_autoscaler() {
    let bed = Bed::start().await;
    make_namespace(&bed.client, NAMESPACE).await;
    let folder = chart();
    let folder = folder.to_str().unwrap();
    let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/kthena-router");
    let replicas = async || bed.get(&deployment).await.unwrap()["spec"]["replicas"].clone();
    let helm =
        |act: &str, set: &str| bed.helm(&[act, "kthena", folder, "--no-hooks", "--server-side=true", "--set", set]);
    let (ours, theirs) = ("gateway.replicas=4", "gateway.autoscaling.enabled=true");
    helm("install", ours);
    helm("upgrade", theirs);
    assert_eq!(replicas().await, 1, "why README says what to do");
    helm("upgrade", ours);
    assert_eq!(replicas().await, 4);
    let scale = json!({"spec": {"replicas": 5}}).to_string().into_bytes();
    let request = Request::builder().method(Method::PATCH).uri(format!("{deployment}/scale?fieldManager=kubectl"));
    let request = request.header(http::header::CONTENT_TYPE, "application/merge-patch+json").body(scale).unwrap();
    bed.client.request::<Value>(request).await.unwrap();
    for step in ["the switch", "the next upgrade"] {
        helm("upgrade", theirs);
        assert_eq!(replicas().await, 5, "after {step}");
    }
}
