//! An API server, and a control plane that follows it as a process of its own, with its own rights.

use std::net::{Ipv4Addr, SocketAddr};

use bench::show::Site;
use bench::show::site::{Control, free};
use controlplane::object::Kind;
use futures_util::{StreamExt, stream};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use perf_tests::cluster::{Account, Cluster, Parts, Wanted};
use serde_json::{Value, json};

use crate::objects::Place;

/// Writes at once while a fleet is made.
const AT_ONCE: usize = 32;

pub(super) struct Bed {
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) site: Site,
    pub(super) routes: Place,
    servers: Place,
    account: Account,
    webhook: Option<SocketAddr>,
}

impl Bed {
    /// With the webhook registered, or without one.
    pub(super) async fn start(webhook: bool) -> Self {
        let cluster = Cluster::start(Parts::ApiServer).unwrap();
        let client = cluster.admin().await.unwrap();
        cluster.install_definitions(&client).await.unwrap();
        let namespace = cluster.namespace(&client, "figures").await.unwrap();
        let here = |yaml: &str| yaml.replace("kthena-system", &namespace);
        let rights = include_str!("../../../../examples/cluster/controlplane.yaml");
        cluster.apply(&client, &namespace, &here(rights)).await.unwrap();
        let webhook = webhook.then(|| free(Ipv4Addr::LOCALHOST).unwrap());
        if let Some(address) = webhook {
            // There are no Services here.
            let service =
                "service: {namespace: kthena-system, name: kthena-controlplane-webhook, path: /validate, port: 443}";
            let yaml = include_str!("../../../../examples/cluster/webhook.yaml");
            assert!(yaml.contains(service), "the example's webhook is reached by its Service");
            let yaml = yaml.replace(service, &format!("url: https://{address}/validate"));
            cluster.apply(&client, &namespace, &here(&yaml)).await.unwrap();
        }
        let server = cluster.url().unwrap();
        let wanted = Wanted { namespace: &namespace, name: "kthena-controlplane", server: &server };
        let account = cluster.account(&client, wanted).await.unwrap();
        let [routes, servers] = [Kind::ModelRoute, Kind::ModelServer].map(|kind| Place::of(&client, kind, &namespace));
        let site = Site::of(&super::programs()).unwrap();
        Self { cluster, client, namespace, site, routes, servers, account, webhook }
    }

    /// What a control plane of this place is told.
    pub(super) fn args(&self) -> Vec<String> {
        let mut args = vec![
            "serve".to_owned(),
            "--kubernetes".to_owned(),
            format!("--kubeconfig={}", self.account.kubeconfig.display()),
            format!("--namespace={}", self.namespace),
            format!("--namespaces={}", self.namespace),
        ];
        if let Some(address) = self.webhook {
            args.push(format!("--webhook-address={address}"));
            args.push(format!("--certificate-hosts={}", address.ip()));
        }
        args
    }

    /// Starts one, which is ready.
    pub(super) fn control(&self) -> Control {
        let args = self.args();
        self.site.control_with(&args.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
    }

    pub(super) async fn serve(&self, server: Value) {
        self.servers.create(&server).await.unwrap();
    }

    pub(super) async fn route(&self, route: Value) {
        self.routes.create(&route).await.unwrap();
    }

    /// A pod that is ready, as its manifest for a directory says.
    pub(super) async fn pod(&self, manifest: Value) {
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let meta = &manifest["metadata"];
        let made = json!({
            "metadata": {"name": meta["name"], "labels": meta["labels"]},
            "spec": {"nodeName": manifest["spec"]["nodeName"], "containers": [{"name": "engine", "image": "engine"}]},
        });
        let made = pods.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
        let ip = &manifest["status"]["podIP"];
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        let name = made.metadata.name.unwrap();
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

/// Makes all of them, some at once.
pub(super) async fn all<F: Future<Output = ()>>(made: impl Iterator<Item = F>) {
    stream::iter(made).buffer_unordered(AT_ONCE).collect::<()>().await;
}
