//! What has a control plane use every right that it has: objects of all kinds that it judges, and what becomes of them.

use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind};
use perf_tests::cluster::Cluster;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::program::{route, server};
use crate::wait::{DEADLINE, until};

pub const PROVIDER: &str = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ExternalModelProvider\nmetadata: {name: p}\n\
                        spec: {baseURL: 'https://api.example.com/v1', model: gpt, auth: {secretRef: {name: key, key: api-key}}}\n";
const KEPT: &str = "networking.serving.volcano.sh/last-good-router-configuration";

/// The cluster in which it is lived, and its administrator.
pub struct Life<'a> {
    pub cluster: &'a Cluster,
    pub client: &'a Client,
}

/// One of each kind whose status has a condition of ours and no more.
pub fn judged() -> [String; 4] {
    let object = |kind: &str, spec: &str| {
        format!(
            "apiVersion: workload.serving.volcano.sh/v1alpha1\nkind: {kind}\nmetadata: {{name: it}}\nspec: {spec}\n"
        )
    };
    let role = "{name: server, entryTemplate: {spec: {containers: [{name: engine, image: nginx}]}}, workerReplicas: 0}";
    let target = "{minReplicas: 1, maxReplicas: 2, target: {targetRef: {kind: ModelServing, name: it}}}";
    [
        object("ModelServing", &format!("{{replicas: 0, template: {{roles: [{role}]}}}}")),
        object(
            "ModelBooster",
            "{backend: {name: b, type: vLLM, modelURI: 'hf://a/b', cacheURI: 'hostpath://tmp/cache', replicas: 0, workers: [{type: \
             server, image: 'vllm/vllm-openai:latest', replicas: 1, pods: 1}]}}",
        ),
        object("AutoscalingPolicy", "{metrics: [{name: rps, targetValue: '1'}]}"),
        object("AutoscalingPolicyBinding", &format!("{{policyRef: {{name: it}}, homogeneousTarget: {target}}}")),
    ]
}

impl Life<'_> {
    /// All of it: in the control plane's own namespace and in others whose objects count.
    pub async fn lead(&self, home: &str, others: &[&str]) {
        join_all(others.iter().chain([&home]).map(|namespace| self.lead_in(namespace))).await;
        self.break_scheduler(home).await;
    }

    /// In one namespace.
    async fn lead_in(&self, namespace: &str) {
        // A model name belongs to one namespace.
        let name = &format!("r-{namespace}");
        for object in judged().iter().chain([&route(name, "s"), &PROVIDER.to_owned()]) {
            self.apply(namespace, object).await;
        }
        // A route whose server is away, comes and goes again: the same warning twice.
        self.resolved(namespace, name, "False").await;
        self.apply(namespace, &server("s", 8000)).await;
        self.resolved(namespace, name, "True").await;
        self.api(namespace, "ModelServer").delete("s", &DeleteParams::default()).await.unwrap();
        self.resolved(namespace, name, "False").await;
        self.apply(namespace, &server("s", 8000)).await;
        self.resolved(namespace, name, "True").await;
    }

    /// The API server tells of kinds that it has just learnt a moment after it serves them, and takes a moment to let go of a webhook.
    async fn apply(&self, namespace: &str, object: &str) {
        until("it is taken", async || self.cluster.apply(self.client, namespace, object).await.is_ok()).await;
    }

    fn api(&self, namespace: &str, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("networking.serving.volcano.sh", "v1alpha1", kind);
        let plural = format!("{}s", kind.kind.to_lowercase());
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, &plural))
    }

    /// Waits until a route's condition is so.
    async fn resolved(&self, namespace: &str, route: &str, expected: &str) {
        let routes = self.api(namespace, "ModelRoute");
        until(&format!("{route} whose ResolvedRefs is {expected}"), async || {
            let status = routes.get(route).await.unwrap().data["status"].take();
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.any(|condition| condition["type"] == "ResolvedRefs" && condition["status"] == *expected)
        })
        .await;
    }

    /// What the scheduler goes by stays when it is broken, once it was seen whole, and is kept then. A program that is busy may see
    /// two edits as one.
    async fn break_scheduler(&self, home: &str) {
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), home);
        let deadline = Instant::now() + DEADLINE;
        for text in ["scheduler: {}", "scheduler: 7"].into_iter().cycle() {
            assert!(Instant::now() < deadline, "no form of it is kept");
            let map = serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-router-config"},
                "data": {"routerConfiguration": text},
            });
            self.apply(home, &Value::to_string(&map)).await;
            let looks = Instant::now() + Duration::from_secs(2);
            while Instant::now() < looks {
                let map = maps.get("kthena-router-config").await.unwrap();
                if map.metadata.annotations.is_some_and(|all| all.contains_key(KEPT)) {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
