//! The lines of helm/MIGRATION.md, taken from there and run by a shell with the real helm, kubectl and control plane, over a release of a chart
//! that plays Kthena's. There are no kubelets: a Deployment has no pods, and hooks are left out, of which the definitions' is called by its function.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

use controlplane::definitions::{self, Release};
use controlplane::object::Kind;
use kubelet::built;
use perf_tests::cluster::Cluster;
use perf_tests::helm::chart;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{install_theirs, theirs};
use crate::chart::{Bed, NAMESPACE, make_namespace};
use crate::wait::{until, within};

/// Where Kthena is, by the name that its release has.
const KTHENA: &str = "kthena-system";
const RELEASE: &str = "inference";
/// Of way A.
const INSTALL: &str = "helm install kthena ./helm --namespace kthena-system -f ours.yaml";
/// Needs pods.
const NOT_RUN: [&str; 1] = ["helm -n kthena-system test kthena"];

/// Who reads the document, and does what it says in a folder of their own.
struct Reader {
    folder: TempDir,
    kubeconfig: PathBuf,
    path: std::ffi::OsString,
    lines: BTreeSet<String>,
    followed: RefCell<BTreeSet<String>>,
}

/// What is typed of a document: each line of its blocks, and each word in backticks that is a whole command.
fn commands(document: &str) -> BTreeSet<String> {
    let quoted = document.split('`').skip(1).step_by(2);
    let lines = quoted.flat_map(|quoted| match quoted.strip_prefix('\n') {
        Some(block) => block.lines().map(str::to_owned).collect(),
        None => vec![quoted.split_whitespace().collect::<Vec<_>>().join(" ")],
    });
    let is_whole = |line: &String| {
        let mut words = line.split(' ');
        ["helm", "kubectl", "kthena-controlplane"].contains(&words.next().unwrap_or_default()) && words.count() > 1
    };
    lines.filter(is_whole).collect()
}

impl Reader {
    async fn new(bed: &Bed) -> Self {
        // Building it the first time takes longer than anything here may.
        let kubectl = tokio::task::spawn_blocking(Cluster::kubectl).await.unwrap().unwrap();
        let helm = PathBuf::from(env::var_os("KTHENA_HELM").unwrap_or_default());
        let control = built("kthena-controlplane").unwrap();
        let folders = [&kubectl, &helm, &control].into_iter().filter_map(|program| program.parent()).map(PathBuf::from);
        let path = env::join_paths(folders.chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(chart().canonicalize().unwrap(), folder.path().join("helm")).unwrap();
        let lines = commands(&fs::read_to_string(chart().join("MIGRATION.md")).unwrap());
        Self { folder, kubeconfig: bed.cluster.kubeconfig(), path, lines, followed: RefCell::default() }
    }

    /// Runs a line of the document, with these names in it; an error is what it says where it ends badly.
    async fn follow(&self, line: &str, names: &[(&str, &str)]) -> Result<String, String> {
        assert!(self.lines.contains(line), "`{line}` is not in helm/MIGRATION.md, which has {:#?}", self.lines);
        self.followed.borrow_mut().insert(line.to_owned());
        let typed = names.iter().fold(line.to_owned(), |typed, (name, here)| typed.replace(name, here));
        self.run(&if typed.starts_with("helm install ") { typed + " --no-hooks" } else { typed }).await
    }

    async fn run(&self, line: &str) -> Result<String, String> {
        let mut shell = Command::new("sh");
        shell.args(["-euc", line]).current_dir(self.folder.path()).kill_on_drop(true).env("PATH", &self.path);
        shell.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.folder.path());
        let output = within(line, shell.output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// A list of objects for kubectl.
    fn list(&self, name: &str, objects: &[Value]) {
        self.write(name, &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
    }
}

fn webhooks() -> [Value; 3] {
    let (route, booster) =
        (("networking.serving.volcano.sh", "modelroute"), ("workload.serving.volcano.sh", "modelbooster"));
    let named = |kind: &str, program: &str, of| {
        let mut object = theirs(kind, program, of);
        object["metadata"]["name"] = format!("{program}-{}-webhook", kind.to_lowercase()).into();
        object
    };
    [
        named("Validating", "kthena-router", route),
        named("Validating", "kthena-controller-manager", booster),
        named("Mutating", "kthena-controller-manager", booster),
    ]
}

/// One that is served here as there, and one of each kind that is not.
fn objects() -> [Value; 6] {
    let version = "networking.serving.volcano.sh/v1alpha1";
    let metadata = json!({"name": "chat", "namespace": NAMESPACE});
    let named = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    let route = |name: &str, more: Value| {
        let mut spec = json!({"modelName": name, "rules": [{"targetModels": [{"modelServerName": "chat"}]}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": version, "kind": "ModelRoute", "metadata": named(name), "spec": spec})
    };
    [
        route("limited", json!({"rateLimit": {"inputTokensPerUnit": 30, "unit": "minute"}})),
        route("outside", json!({"rules": [{"targetModels": [{"externalModelProviderName": "openai"}]}]})),
        json!({"apiVersion": version, "kind": "ExternalModelProvider", "metadata": named("openai"), "spec": {"providerType": "OpenAI",
            "baseURL": "https://api.openai.com/v1", "model": "m", "auth": {"secretRef": {"name": "key", "key": "api-key"}}}}),
        json!({"apiVersion": version, "kind": "ModelServer", "metadata": named("apart"), "spec": {"inferenceEngine": "vLLM",
            "workloadSelector": {"matchLabels": {"app": "apart"}, "pdGroup": {"groupKey": "group", "prefillLabels": {"role": "p"},
            "decodeLabels": {"role": "d"}}}, "workloadPort": {"port": 8000}}}),
        json!({"apiVersion": version, "kind": "ModelServer", "metadata": metadata, "spec": {"inferenceEngine": "vLLM",
            "workloadSelector": {"matchLabels": {"app": "chat"}}, "workloadPort": {"port": 8000}}}),
        json!({"apiVersion": version, "kind": "ModelRoute", "metadata": metadata,
            "spec": {"modelName": "chat", "rules": [{"targetModels": [{"modelServerName": "chat"}]}]}}),
    ]
}

/// Kthena, as far as it counts here: definitions, objects of its users, and a release with its programs' Deployments and webhook configurations.
async fn kthena(bed: &Bed, reader: &Reader) {
    for namespace in [KTHENA, NAMESPACE] {
        make_namespace(&bed.client, namespace).await;
    }
    install_theirs(&bed.client).await;
    reader.list("users.json", &objects());
    until("their kinds are served", async || reader.run("kubectl apply -f users.json").await.is_ok()).await;
    let deployments = ["kthena-router", "kthena-controller-manager"].map(|program| {
        let labels = json!({"app": program});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": program}, "spec": {"selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "program", "image": "x"}]}}}})
    });
    let configuration = "{auth: {issuer: us, jwksUri: 'https://keys.example.com'}, scheduler: {plugins: {Score: {enabled: [{name: gpu-usage, weight: 1}]}}}}";
    let configuration = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-router-config"},
        "data": {"routerConfiguration": configuration}});
    reader.run("mkdir -p kthena/templates").await.unwrap();
    reader.write("kthena/Chart.yaml", "{apiVersion: v2, name: kthena, version: 1.0.0}");
    for (n, object) in deployments.iter().chain(&webhooks()).chain([&configuration]).enumerate() {
        reader.write(&format!("kthena/templates/{n}.yaml"), &object.to_string());
    }
    let install = format!("helm -n {KTHENA} install {RELEASE} ./kthena --set networking.kthenaRouter.replicas=3");
    reader.run(&install).await.unwrap();
}

/// Whether the users' route can be written.
async fn label(reader: &Reader) -> Result<String, String> {
    let line = format!("kubectl -n {NAMESPACE} label --overwrite modelroute chat at=$(date +%s%N)");
    reader.run(&line).await
}

#[tokio::test]
async fn the_documents_lines_lead_from_kthena_to_ours_by_either_way_and_back() {
    let bed = Bed::bare().await;
    let reader = Reader::new(&bed).await;
    kthena(&bed, &reader).await;
    before(&reader).await;
    for kind in Kind::ALL {
        definitions::apply(&bed.client, kind, &Release::ours()).await.unwrap();
    }
    // Nobody answers for our own webhook here.
    reader.write("ours.yaml", "{gateway: {replicas: 3}, controlplane: {webhook: {enabled: false}}}");
    side_by_side(&reader).await;
    back_again(&bed, &reader).await;
    one_after_the_other(&reader).await;
    let left: Vec<_> = reader.lines.iter().filter(|line| !reader.followed.borrow().contains(*line)).collect();
    assert_eq!(left, NOT_RUN);
}

async fn before(reader: &Reader) {
    let names = [("NAMESPACE", KTHENA), ("RELEASE", RELEASE)];
    reader.follow("helm -n NAMESPACE get values RELEASE -o yaml > theirs.yaml", &names).await.unwrap();
    let refused = reader.follow("helm template kthena ./helm -f theirs.yaml", &[]).await.unwrap_err();
    let sentence = "networking.kthenaRouter.replicas is a value of Kthena's chart; here it is gateway.replicas";
    assert!(refused.contains(sentence), "{refused}");
    reader
        .follow("kubectl get modelroutes,modelservers,externalmodelproviders -A -o yaml > objects.yaml", &[])
        .await
        .unwrap();
    let said = reader.follow("kthena-controlplane check objects.yaml", &[]).await.unwrap();
    for warning in
        ["answered 503 until rateLimit is removed", "do not call external providers", "prefill pods are asked nothing"]
    {
        assert!(said.contains(warning), "{warning} is not in {said}");
    }
    scheduler(reader, &names).await;
    let refused = reader.follow("helm -n NAMESPACE upgrade RELEASE ./helm", &names).await.unwrap_err();
    assert!(refused.contains("is one of Kthena's own chart"), "{refused}");
}

async fn scheduler(reader: &Reader, names: &[(&str, &str)]) {
    reader
        .follow("kubectl -n NAMESPACE get configmap kthena-router-config -o yaml > scheduler.yaml", names)
        .await
        .unwrap();
    let said = reader.follow("kthena-controlplane check scheduler.yaml", &[]).await.unwrap_err();
    assert!(said.contains("look at no tokens of clients and would serve everybody"), "{said}");
    let take = "kubectl -n NAMESPACE get configmap kthena-router-config -o 'jsonpath={.data.routerConfiguration}' > scheduler.txt";
    reader.follow(take, names).await.unwrap();
    let template = "helm template kthena ./helm --set-file scheduler.configuration=scheduler.txt";
    let refused = reader.run(template).await.unwrap_err();
    assert!(refused.contains("scheduler.configuration asks for tokens of clients"), "{refused}");
    // Where it is installed, by whoever else made the ConfigMap.
    let refused = reader
        .run("helm -n kthena-system install other ./helm --no-hooks --dry-run=server --set migration.besideKthena=true")
        .await
        .unwrap_err();
    assert!(refused.contains("ConfigMap kthena-system/kthena-router-config asks for tokens"), "{refused}");
    reader.run("sed -i 's/auth: {[^}]*}, //' scheduler.txt").await.unwrap();
    let rendered = reader.run(template).await.unwrap();
    assert!(rendered.contains("gpu-usage") && !rendered.contains("jwksUri"), "{rendered}");
}

async fn side_by_side(reader: &Reader) {
    let install = "helm install kthena ./helm --namespace kthena-next --create-namespace --set migration.besideKthena=true --set gateway.name=kthena-gateway -f ours.yaml";
    reader.follow(install, &[]).await.unwrap();
    let names = [("NAMESPACE-OF-KTHENA", KTHENA)];
    reader.follow("kubectl -n NAMESPACE-OF-KTHENA delete deployment kthena-router", &names).await.unwrap();
    let mut refused = String::new();
    until("its webhook is in force", async || {
        refused = label(reader).await.err().unwrap_or_default();
        !refused.is_empty()
    })
    .await;
    assert!(refused.contains("failed calling webhook"), "{refused}");
    let delete = "kubectl delete validatingwebhookconfiguration kthena-router-validating-webhook";
    reader.follow(delete, &[]).await.unwrap();
    until("objects are taken again", async || label(reader).await.is_ok()).await;
}

async fn back_again(bed: &Bed, reader: &Reader) {
    reader.follow("helm -n NAMESPACE uninstall kthena", &[("NAMESPACE", "kthena-next")]).await.unwrap();
    let definitions = Kind::ALL.map(super::their_definition);
    reader.list("crds.json", &definitions);
    let apply = "kubectl apply --server-side --force-conflicts -f CRDS-OF-KTHENA";
    reader.follow(apply, &[("CRDS-OF-KTHENA", "crds.json")]).await.unwrap();
    label(reader).await.expect("the object is there");
    for kind in Kind::ALL {
        definitions::apply(&bed.client, kind, &Release::ours()).await.unwrap();
    }
}

async fn one_after_the_other(reader: &Reader) {
    let names = [("NAMESPACE", KTHENA), ("RELEASE", RELEASE)];
    reader.follow("helm -n NAMESPACE uninstall RELEASE", &names).await.unwrap();
    let gone = reader.run("kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o name").await;
    assert!(!gone.as_ref().unwrap().contains("kthena-"), "{gone:?}");
    what_outlived_kthena(reader).await;
    reader.follow(INSTALL, &[]).await.unwrap();
    label(reader).await.expect("the object is there");
}

/// As where its programs were deleted by hand.
async fn what_outlived_kthena(reader: &Reader) {
    let secret =
        |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": KTHENA}});
    let secrets = ["kthena-router-webhook-certs", "kthena-controller-manager-webhook-certs"].map(secret);
    reader.list("left.json", &[&webhooks()[..], &secrets].concat());
    reader.run("kubectl create -f left.json").await.unwrap();
    let refused = reader.follow(INSTALL, &[]).await.unwrap_err();
    let lines = [
        "kubectl delete validatingwebhookconfiguration kthena-router-validating-webhook kthena-controller-manager-validating-webhook",
        "kubectl delete mutatingwebhookconfiguration kthena-controller-manager-mutating-webhook",
    ];
    for line in lines {
        assert!(line.split(' ').skip(3).all(|name| refused.contains(name)), "{line}: {refused}");
        reader.follow(line, &[]).await.unwrap();
    }
    let secrets = "kubectl -n NAMESPACE-OF-KTHENA delete secret kthena-router-webhook-certs kthena-controller-manager-webhook-certs";
    reader.follow(secrets, &[("NAMESPACE-OF-KTHENA", KTHENA)]).await.unwrap();
}
