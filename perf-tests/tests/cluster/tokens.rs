//! Tokens that a real API server made, verified as the control plane does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use api::proto::Subscribe;
use controlplane::identity::{AUDIENCE, Options, Proofs, keep};
use controlplane::publish::serve::{Holds, Identify, Identity};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};
use perf_tests::cluster::Cluster;
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace with a node, and data planes that may run as `dataplane` in it.
struct Site {
    client: Client,
    namespace: String,
    node: String,
}

impl Site {
    async fn make() -> Result<Self> {
        let cluster = Cluster::shared();
        let client = cluster.admin().await?;
        let namespace = cluster.namespace(&client, "tokens").await?;
        let node = format!("node-{namespace}");
        let site = Self { client, namespace, node };
        site.create_in::<Node>(Api::all(site.client.clone()), json!({"metadata": {"name": site.node}})).await?;
        site.account("dataplane").await?;
        Ok(site)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create_in<K>(&self, api: Api<K>, object: Value) -> Result<K>
    where
        K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    async fn account(&self, name: &str) -> Result<ServiceAccount> {
        self.create_in(self.api(), json!({"metadata": {"name": name}})).await
    }

    async fn pod(&self, name: &str, account: &str) -> Result<Pod> {
        let containers = json!([{"name": "c", "image": "kthena/dataplane"}]);
        let spec = json!({"serviceAccountName": account, "nodeName": self.node, "containers": containers});
        self.create_in(self.api(), json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// As the kubelet asks for it.
    async fn token(&self, account: &str, audience: &str, pod: Option<&Pod>) -> Result<String> {
        let bound = pod.map(|pod| json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()}));
        let request: TokenRequest = serde_json::from_value(json!({
            "spec": {"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound},
        }))?;
        let api: Api<ServiceAccount> = self.api();
        let answer = api.create_token_request(account, &PostParams::default(), &request).await?;
        Ok(answer.status.expect("the API server made a token").token)
    }

    /// What verifies by the API server's answers, for as long as the task runs.
    fn verifier(&self) -> (Arc<Proofs>, tokio::task::JoinHandle<()>) {
        let refresh = Duration::from_millis(200);
        let options = Options { refresh, ..Options::new(&self.namespace, ["dataplane"]) };
        let (proofs, keeping) = keep(self.client.clone(), options);
        (proofs, tokio::spawn(keeping))
    }
}

async fn show(proofs: &Proofs, token: &str) -> Result<Identity, Status> {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    proofs.identify(&metadata, &Subscribe::default()).await
}

/// Shows it until it is judged so; what is known may be some moments old.
async fn until(proofs: &Proofs, token: &str, part: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let verdict = show(proofs, token).await;
        match &verdict {
            Err(status) if status.code() == Code::Unauthenticated && status.message().contains(part) => return,
            _ => assert!(Instant::now() < deadline, "not refused with {part}: {verdict:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_pods_token_says_which_pod_it_is_and_on_which_node() -> Result<()> {
    let site = Site::make().await?;
    let (proofs, keeping) = site.verifier();
    let pod = site.pod("dataplane-x7", "dataplane").await?;
    let token = site.token("dataplane", AUDIENCE, Some(&pod)).await?;
    let Identity { node, namespace, pod: name, uid, proof } = show(&proofs, &token).await?;
    assert_eq!((node, namespace), (site.node.clone(), site.namespace.clone()));
    assert_eq!((name, Some(uid)), ("dataplane-x7".to_owned(), pod.uid()));
    let Holds::For(valid_for) = proof.expect("there is one").holds else { panic!("{proof:?}") };
    assert!((Duration::from_secs(500)..=Duration::from_secs(600)).contains(&valid_for), "{valid_for:?}");
    // It is enough to have asked once.
    keeping.abort();
    assert!(keeping.await.unwrap_err().is_cancelled());
    show(&proofs, &token).await?;
    Ok(())
}

#[tokio::test]
async fn tokens_of_others_and_for_others_are_refused() -> Result<()> {
    let site = Site::make().await?;
    let (proofs, _keeping) = site.verifier();
    let pod = site.pod("dataplane-x7", "dataplane").await?;
    until(&proofs, &site.token("dataplane", "https://kubernetes.default.svc", Some(&pod)).await?, "audience").await;
    until(&proofs, &site.token("dataplane", AUDIENCE, None).await?, "not bound to a pod").await;
    site.account("other").await?;
    let other = site.pod("other", "other").await?;
    until(&proofs, &site.token("other", AUDIENCE, Some(&other)).await?, "may not connect here").await;
    let elsewhere = Site::make().await?;
    let foreign = elsewhere.pod("dataplane-x7", "dataplane").await?;
    until(&proofs, &elsewhere.token("dataplane", AUDIENCE, Some(&foreign)).await?, "may not connect here").await;
    Ok(())
}

#[tokio::test]
async fn a_deleted_service_accounts_tokens_are_refused_and_those_of_the_next_one_are_not() -> Result<()> {
    let site = Site::make().await?;
    let (proofs, _keeping) = site.verifier();
    let pod = site.pod("dataplane-x7", "dataplane").await?;
    let old = site.token("dataplane", AUDIENCE, Some(&pod)).await?;
    show(&proofs, &old).await?;
    let api: Api<ServiceAccount> = site.api();
    api.delete("dataplane", &DeleteParams::default()).await?;
    until(&proofs, &old, "service account was deleted").await;
    site.account("dataplane").await?;
    let new = site.token("dataplane", AUDIENCE, Some(&pod)).await?;
    // The first refusal has the API server asked again.
    show(&proofs, &new).await?;
    until(&proofs, &old, "service account was deleted").await;
    Ok(())
}
