//! An API server, and a control plane that follows it as a process of its own, with its own rights.

use std::net::{Ipv4Addr, SocketAddr};

use bench::show::Site;
use bench::show::manifests::{self, Size};
use bench::show::site::{Control, free};
use bench::show::subscribers::Trust;
use controlplane::identity::AUDIENCE;
use controlplane::object::Kind;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use perf_tests::cluster::{Account, Cluster, Parts, Wanted};
use serde_json::{Value, json};

use crate::objects::Place;
use crate::wait::until;

/// Writes at once while a fleet is made.
const AT_ONCE: usize = 32;

/// What a control plane of the bed is besides one that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    Nothing,
    /// The API server asks it about each edit.
    Webhook,
    /// Data planes come by TLS, and prove who they are.
    Tls,
}

pub(super) struct Bed {
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) site: Site,
    pub(super) routes: Place,
    servers: Place,
    account: Account,
    webhook: Option<SocketAddr>,
    with: With,
}

impl Bed {
    pub(super) async fn start(with: With) -> Self {
        let cluster = Cluster::start(Parts::ApiServer).unwrap();
        let client = cluster.admin().await.unwrap();
        cluster.install_definitions(&client).await.unwrap();
        let namespace = cluster.namespace(&client, "figures").await.unwrap();
        let here = |yaml: &str| yaml.replace("kthena-system", &namespace);
        let rights = include_str!("../../../../examples/cluster/controlplane.yaml");
        cluster.apply(&client, &namespace, &here(rights)).await.unwrap();
        let webhook = (with == With::Webhook).then(|| free(Ipv4Addr::LOCALHOST).unwrap());
        if let Some(address) = webhook {
            // There are no Services here.
            let mut yaml = include_str!("../../../../examples/cluster/webhook.yaml").to_owned();
            for name in ["kthena-controlplane-webhook", "kthena-controlplane-webhook-starting"] {
                let service =
                    format!("service: {{namespace: kthena-system, name: {name}, path: /validate, port: 443}}");
                assert!(yaml.contains(&service), "the example's webhook is reached by its Service");
                yaml = yaml.replace(&service, &format!("url: https://{address}/validate"));
            }
            cluster.apply(&client, &namespace, &here(&yaml)).await.unwrap();
        }
        let server = cluster.url().unwrap();
        let wanted = Wanted { namespace: &namespace, name: "kthena-controlplane", server: &server };
        let account = cluster.account(&client, wanted).await.unwrap();
        let [routes, servers] = [Kind::ModelRoute, Kind::ModelServer].map(|kind| Place::of(&client, kind, &namespace));
        let site = Site::of(&super::programs()).unwrap();
        Self { cluster, client, namespace, site, routes, servers, account, webhook, with }
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
        if self.with == With::Tls {
            args.push("--always-tls".to_owned());
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

    /// What is of the second size and not of the first: servers, a route to each, and their pods. Pods are told apart by their number alone.
    pub(super) async fn grow(&self, from: Size, to: Size) {
        let server = |n: usize| format!("server-{n}");
        all((from.routes..to.routes).map(|n| self.serve(manifests::server(&server(n), &server(n), 9)))).await;
        all((from.endpoints..to.endpoints).map(|n| self.pod(manifests::pod(n, to, 0)))).await;
        let route = |n: usize| manifests::route(&format!("route-{n}"), &manifests::model(n), &server(n));
        all((from.routes..to.routes).map(|n| self.route(route(n)))).await;
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pod that is ready, as its manifest for a directory says.
    pub(super) async fn pod(&self, manifest: Value) {
        let pods = self.pods();
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

    /// Says of a pod, as its kubelet does, that it is ready or not.
    pub(super) async fn ready(&self, name: &str, ready: bool) {
        let conditions = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let status = json!({"status": {"conditions": conditions}});
        self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// What so many data planes, each a pod of its own, have of a control plane that runs.
    pub(super) async fn trust(&self, data_planes: usize) -> Trust {
        let tokens = stream::iter(0..data_planes).map(|n| self.token(n)).buffer_unordered(AT_ONCE).collect().await;
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut bundle = String::new();
        until("a CA for data planes", async || {
            let data = maps.get("kthena-controlplane-ca").await.unwrap().data;
            bundle = data.and_then(|mut data| data.remove("ca.crt")).unwrap_or_default();
            !bundle.is_empty()
        })
        .await;
        Trust { bundle, server_name: format!("kthena-controlplane.{}", self.namespace), tokens }
    }

    /// A data plane's pod, and its token as the kubelet asks for it.
    async fn token(&self, n: usize) -> String {
        let account = "kthena-dataplane";
        let pod = json!({"metadata": {"name": format!("data-plane-{n}")}, "spec": {"serviceAccountName": account,
            "nodeName": format!("node-{n}"), "containers": [{"name": "main", "image": "kthena-dataplane"}]}});
        let pod = self.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()});
        let spec = json!({"audiences": [AUDIENCE], "expirationSeconds": 3600, "boundObjectRef": bound});
        let request: TokenRequest = serde_json::from_value(json!({"spec": spec})).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        answer.status.unwrap().token
    }
}

/// Makes all of them, some at once.
async fn all<F: Future<Output = ()>>(made: impl Iterator<Item = F>) {
    stream::iter(made).buffer_unordered(AT_ONCE).collect::<()>().await;
}
