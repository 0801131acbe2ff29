//! `cluster/controlplane.yaml` for a control plane that follows some namespaces, as its first lines say: the ClusterRole's rules as a Role in each of
//! them, but for nodes and the two paths. No right is too many and none too few.

use perf_tests::helm::documents;
use perf_tests::rights::Account;
use serde_json::{Value, json};

use super::{PLANES, SYSTEM, Stage};
use crate::rights::{life::Life, settled};

/// In the place of the file's namespace, and another one that is followed.
const HOME: &str = "some-system";
const OTHER: &str = "followed";
const ROLE: &str = "kthena-controlplane-objects";

/// What of a rule is of the cluster, and what can be of namespaces.
fn halves(rule: &Value) -> [Option<Value>; 2] {
    if rule["nonResourceURLs"].is_array() {
        return [Some(rule.clone()), None];
    }
    let part = |of_cluster: bool| {
        let resources = rule["resources"].as_array().unwrap().iter();
        let kept: Vec<_> = resources.filter(|resource| (**resource == "nodes") == of_cluster).collect();
        let part = json!({"apiGroups": rule["apiGroups"], "resources": kept, "verbs": rule["verbs"]});
        (!kept.is_empty()).then_some(part)
    };
    [part(true), part(false)]
}

fn narrowed(planes: &str) -> Vec<Value> {
    let mut objects = documents(&planes.replace(SYSTEM, HOME)).unwrap();
    let role = objects.iter_mut().find(|object| object["kind"] == "ClusterRole").unwrap();
    let rules: Vec<_> = role["rules"].as_array().unwrap().iter().map(halves).collect();
    role["rules"] = rules.iter().filter_map(|[of_cluster, _]| of_cluster.clone()).collect();
    let of_namespaces: Vec<_> = rules.iter().filter_map(|[_, other]| other.clone()).collect();
    let subjects = json!([{"kind": "ServiceAccount", "name": "kthena-controlplane", "namespace": HOME}]);
    for namespace in [HOME, OTHER] {
        let metadata = json!({"name": ROLE, "namespace": namespace});
        let api = "rbac.authorization.k8s.io";
        let version = format!("{api}/v1");
        objects.push(json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": of_namespaces}));
        objects.push(json!({"apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "subjects": subjects,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": ROLE}}));
    }
    objects
}

/// It follows both, and asks for nothing that it may not.
pub async fn follows(stage: &Stage) {
    let began = std::time::Instant::now();
    let objects = narrowed(&stage.read("cluster/controlplane.yaml"));
    stage.apply(HOME, &format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {OTHER}}}}}")).await;
    for object in &objects {
        // JSON is YAML.
        stage.apply(HOME, &object.to_string()).await;
    }
    let webhook = "--webhook-address=0.0.0.0:8443";
    assert!(PLANES.contains(webhook));
    let planes = PLANES.replace(SYSTEM, HOME).replace(webhook, &format!("--namespaces={HOME},{OTHER}"));
    stage.apply(HOME, &planes).await;
    stage.ready(HOME, "controlplane").await;
    stage.ready(HOME, "proxy").await;
    Life { cluster: &stage.site.cluster, client: &stage.client }.lead(HOME, &[OTHER]).await;
    let account = Account { namespace: HOME, name: "kthena-controlplane" };
    assert_eq!(settled(&stage.site.cluster, &objects, account).await, "");
    stage.end(HOME, "proxy").await;
    stage.end(HOME, "controlplane").await;
    println!("a control plane of some namespaces: {:?}", began.elapsed());
}
