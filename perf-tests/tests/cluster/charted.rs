//! The control plane's account with the rights that the chart gives it, and no others.

use kube::Client;
use perf_tests::cluster::{Account, Cluster, Wanted};
use perf_tests::helm::Render;
use serde_json::Value;

/// As the chart calls it.
pub const ACCOUNT: &str = "kthena-controlplane";

/// What of the chart is whose the control plane is, and what it may.
const KINDS: [&str; 6] = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Lease"];

/// A pod that is there, and runs nowhere.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec: {serviceAccountName: kthena-controlplane, schedulerName: nobody, containers: [{name: main, image: kthena-controlplane}]}
";

/// The account in its own namespace, of which it counts the objects.
pub async fn grant(cluster: &Cluster, admin: &Client, namespace: &str) {
    let own = format!("controlplane.namespaces={{{namespace}}}");
    let objects = Render { namespace, set: &[&own], ..Render::default() }.objects().unwrap();
    let is_one = |object: &&Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        KINDS.iter().any(|kind| object["kind"] == *kind) && name.contains(ACCOUNT)
    };
    for object in objects.iter().filter(is_one) {
        // JSON is YAML.
        cluster.apply(admin, namespace, &object.to_string()).await.unwrap();
    }
}

/// One that was granted that, as a pod of this name, which reaches the API server at this URL.
pub async fn pod(cluster: &Cluster, admin: &Client, (namespace, name): (&str, &str), server: &str) -> Account {
    cluster.apply(admin, namespace, &POD.replace("NAME", name)).await.unwrap();
    cluster.account_of_pod(admin, Wanted { namespace, name: ACCOUNT, server }, name).await.unwrap()
}

/// Who that was, by an entry of the audit log: the pod's name.
pub fn who(entry: &Value) -> Option<&str> {
    let user = &entry["user"];
    let ours = user["username"].as_str()?.ends_with(":kthena-controlplane");
    ours.then(|| user["extra"]["authentication.kubernetes.io/pod-name"][0].as_str()).flatten()
}
