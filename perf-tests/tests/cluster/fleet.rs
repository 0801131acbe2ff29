//! The pods of these tests: one kubelet for all of them, on the shared cluster.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use kubelet::{Kubelet, Programs, built};
use perf_tests::cluster::Cluster;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::wait::until;

pub fn programs() -> Programs {
    Programs::default().with("engine-sim", built("engine-sim").unwrap()).with("shell", "/bin/sh")
}

pub async fn kubelet() -> &'static Kubelet {
    static SHARED: OnceCell<Kubelet> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let config = Cluster::shared().kubelet(programs()).unwrap();
            Kubelet::start(config).await.unwrap()
        })
        .await
}

/// A namespace of the shared cluster, with a kubelet at work.
pub struct Stage {
    pub cluster: &'static Cluster,
    pub kubelet: &'static Kubelet,
    pub client: Client,
    pub namespace: String,
    pub pods: Api<Pod>,
}

impl Stage {
    pub async fn new(prefix: &str) -> Self {
        let cluster = Cluster::shared();
        let kubelet = kubelet().await;
        let client = cluster.admin().await.unwrap();
        let namespace = cluster.namespace(&client, prefix).await.unwrap();
        let pods = Api::namespaced(client.clone(), &namespace);
        Self { cluster, kubelet, client, namespace, pods }
    }

    pub async fn apply(&self, yaml: &str) {
        self.cluster.apply(&self.client, &self.namespace, yaml).await.unwrap();
    }

    /// A pod of one shell. Kubernetes makes one dollar of two.
    pub async fn run(&self, name: &str, script: &str, rest: &str) {
        let args = serde_json::to_string(&["-c", script]).unwrap();
        let container = format!("{{name: main, image: shell, args: {args}{rest}}}");
        self.apply(&pod(name, &format!("containers: [{container}]"))).await;
    }

    pub async fn status(&self, pod: &str) -> Value {
        let pod = self.pods.get(pod).await.unwrap();
        serde_json::to_value(pod.status.unwrap_or_default()).unwrap()
    }

    /// Waits until the status has it, and returns the whole.
    pub async fn until(&self, pod: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        until(&format!("{what} of {pod}"), async || {
            status = self.status(pod).await;
            holds(&status)
        })
        .await;
        status
    }

    /// Waits until nothing of it is left.
    pub async fn until_gone(&self, name: &str) {
        until(&format!("end of {name}"), async || self.pods.get_opt(name).await.unwrap().is_none()).await;
    }

    /// The ready ones of an app, oldest first.
    pub async fn ready(&self, app: &str) -> Vec<Pod> {
        let listed = self.pods.list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap();
        listed.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).collect()
    }

    pub fn log(&self, pod: &str) -> String {
        self.kubelet.log(&self.namespace, pod, "main")
    }
}

pub fn pod(name: &str, spec: &str) -> String {
    let indented = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  {indented}\n"
    )
}

fn is_ready(pod: &Pod) -> bool {
    let status = serde_json::to_value(pod.status.clone().unwrap_or_default()).unwrap();
    holds(&status, "Ready")
}

/// Whether a condition of a pod's or a node's status is true.
pub fn holds(status: &Value, condition: &str) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|found| found["type"] == condition && found["status"] == "True")
}
