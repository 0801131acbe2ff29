//! What the controllers beside the API server do, and as whom programs ask it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use perf_tests::cluster::{Cluster, Parts, Wanted, client};

use crate::wait::{until, within};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  replicas: 2
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: main, image: idle}]}
";

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

#[tokio::test]
async fn pods_of_a_deployment_are_made_and_collected_and_a_deleted_namespace_ends() {
    let cluster = Cluster::shared();
    let admin = cluster.admin().await.unwrap();
    let namespace = cluster.namespace(&admin, "controllers").await.unwrap();
    cluster.apply(&admin, &namespace, DEPLOYMENT).await.unwrap();
    let pods = Api::<Pod>::namespaced(admin.clone(), &namespace);
    until("two pods", async || pods.list(&ListParams::default()).await.unwrap().items.len() == 2).await;

    let deployments = Api::<Deployment>::namespaced(admin.clone(), &namespace);
    deployments.delete("idle", &DeleteParams::default()).await.unwrap();
    until("no pods", async || pods.list(&ListParams::default()).await.unwrap().items.is_empty()).await;

    let namespaces = Api::<Namespace>::all(admin);
    let uid = namespaces.get(&namespace).await.unwrap().metadata.uid.unwrap();
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    within("the end of the namespace", await_condition(namespaces, &namespace, conditions::is_deleted(&uid)))
        .await
        .unwrap();
}

/// That the account may write only what its role says.
async fn check_rights(account: &Client, namespace: &str) {
    let mine = Api::<ConfigMap>::namespaced(account.clone(), namespace);
    // The API server's authorizer learns of a role a moment after it is made.
    until("right to write", async || mine.create(&PostParams::default(), &config_map("mine")).await.is_ok()).await;
    let kube::Error::Api(refusal) = mine.delete("mine", &DeleteParams::default()).await.unwrap_err() else {
        panic!("not the API server's answer");
    };
    assert_eq!(refusal.code, 403);
    let user = format!("system:serviceaccount:{namespace}:writer");
    assert!(refusal.message.contains(&user), "{}", refusal.message);
}

#[tokio::test]
async fn an_account_may_do_what_its_role_says_and_no_more() {
    let cluster = Cluster::shared();
    let admin = cluster.admin().await.unwrap();
    let namespace = cluster.namespace(&admin, "accounts").await.unwrap();
    let rules = format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: writer}}
rules: [{{apiGroups: [''], resources: [configmaps], verbs: [create]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: writer}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}}
subjects: [{{kind: ServiceAccount, name: writer, namespace: {namespace}}}]
---
"
    );
    assert_eq!(cluster.apply(&admin, &namespace, &rules).await.unwrap().len(), 2);
    let wanted = Wanted { namespace: &namespace, name: "writer", server: &cluster.url().unwrap() };
    let account = cluster.account(&admin, wanted).await.unwrap();
    check_rights(&client(&account.kubeconfig).await.unwrap(), &namespace).await;
}

#[tokio::test]
async fn a_killed_api_server_comes_back_at_its_place_with_what_it_held() {
    let cluster = Cluster::start(Parts::ApiServer).unwrap();
    let admin = cluster.admin().await.unwrap();
    let namespace = cluster.namespace(&admin, "restart").await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(admin, &namespace);
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();

    cluster.kill_api_server().await.unwrap();
    maps.get("kept").await.unwrap_err();
    cluster.start_api_server().await.unwrap();
    maps.get("kept").await.unwrap();
}
