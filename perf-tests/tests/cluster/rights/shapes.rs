//! The rights that the chart gives where its values change them: some namespaces instead of all, no webhook, certificates of somebody else. In each
//! shape the real control plane, started as the chart starts it, lives its whole life under them on an API server.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};
use perf_tests::cluster::{Cluster, Parts, Wanted};
use perf_tests::helm::Render;
use perf_tests::rights::{Account, Right, To, granted};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::life::Life;
use super::{APPLIED, bound, reached_at, settled};
use crate::chart::make_namespace;
use crate::issuers::{Made, made};
use crate::network;
use crate::program::{Program, get};
use crate::wait::until;

const PROGRAM: &str = "kthena-controlplane";
/// The chart's own port, in a network of the test's own.
const METRICS: u16 = 9091;

/// A way to install the chart.
#[derive(Clone, Copy)]
struct Shape {
    /// The release's namespace, which says what is different.
    home: &'static str,
    set: &'static [&'static str],
    /// Namespaces whose objects count, where not all do.
    others: &'static [&'static str],
    /// Which accounts have any rights.
    bound: &'static [&'static str],
}

const BOTH: &[&str] = &[PROGRAM, "kthena-crds"];
const SHAPES: [Shape; 6] = [
    Shape {
        home: "some-namespaces",
        set: &["controlplane.namespaces={one,two}", "gateway.name=edge", "node.name=local", "node.enabled=true"],
        others: &["one", "two"],
        bound: BOTH,
    },
    Shape {
        home: "no-webhook",
        set: &["controlplane.webhook.enabled=false", "crds.install=false"],
        others: &[],
        bound: &[PROGRAM],
    },
    Shape { home: "secret", set: &["controlplane.certificates.issuer=secret"], others: &[], bound: BOTH },
    Shape {
        home: "secret-no-webhook",
        set: &["controlplane.certificates.issuer=secret", "controlplane.webhook.enabled=false"],
        others: &[],
        bound: BOTH,
    },
    Shape { home: "cert-manager", set: &["controlplane.certificates.issuer=cert-manager"], others: &[], bound: BOTH },
    Shape {
        home: "cert-manager-no-webhook",
        set: &["controlplane.certificates.issuer=cert-manager", "controlplane.webhook.enabled=false"],
        others: &[],
        bound: BOTH,
    },
];

impl Shape {
    fn issuer(&self) -> &'static str {
        self.set.iter().find_map(|set| set.strip_prefix("controlplane.certificates.issuer=")).unwrap_or("own")
    }

    fn account(&self) -> Account<'static> {
        Account { namespace: self.home, name: PROGRAM }
    }

    fn objects(&self) -> Vec<Value> {
        // The webhook is reached by an address.
        let hosts = ["controlplane.extraArgs={--certificate-hosts=127.0.0.1}"];
        let set = [self.set, if self.issuer() == "own" { &hosts } else { &[] }].concat();
        Render { set: &set, namespace: self.home, ..Render::default() }.objects().unwrap()
    }
}

/// An API server, and a shape of the chart on it.
struct Bed<'a> {
    life: Life<'a>,
    shape: Shape,
    objects: Vec<Value>,
    folder: TempDir,
}

impl<'a> Bed<'a> {
    /// All of the chart but its workloads, and what somebody else is to fill, filled.
    async fn new(cluster: &'a Cluster, client: &'a Client, shape: Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bed = Self { life: Life { cluster, client }, shape, objects: shape.objects(), folder };
        for namespace in shape.others.iter().chain([&shape.home]) {
            make_namespace(client, namespace).await;
        }
        for object in bed.objects.iter().filter(|object| APPLIED.iter().any(|kind| object["kind"] == *kind)) {
            bed.apply(object).await;
        }
        let somebody = made(1);
        if shape.issuer() != "own" {
            bed.apply(&json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": "kthena-controlplane-tls"}, "data": somebody.data()}))
                .await;
        }
        bed.configure_webhook(&somebody).await;
        for right in granted(&bed.objects, shape.account()).unwrap() {
            until(&format!("right to {right}"), async || bed.allows(&right).await).await;
        }
        bed
    }

    async fn apply(&self, object: &Value) {
        self.life.cluster.apply(self.life.client, self.shape.home, &object.to_string()).await.unwrap();
    }

    async fn configure_webhook(&self, somebody: &Made) {
        let is_it = |object: &&Value| object["kind"] == "ValidatingWebhookConfiguration";
        let Some(configuration) = self.objects.iter().find(is_it) else { return };
        let mut configuration = reached_at(configuration, "127.0.0.1");
        if self.shape.issuer() == "cert-manager" {
            let ca = ByteString(somebody.ca.clone().into_bytes());
            for webhook in configuration["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]["caBundle"] = json!(ca);
            }
        }
        self.apply(&configuration).await;
    }

    /// Whether the API server goes by this right already: it learns of roles and bindings a moment after it has them.
    async fn allows(&self, right: &Right) -> bool {
        let Right { verb, to, namespace } = right;
        let asked = match to {
            To::Path(path) => json!({"nonResourceAttributes": {"path": path, "verb": verb}}),
            To::Objects { group, resource, name } => {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                json!({"resourceAttributes": {"verb": verb, "group": group, "resource": resource, "subresource": subresource,
                    "name": name, "namespace": namespace}})
            }
        };
        let mut review = json!({"metadata": {}, "spec": asked});
        review["spec"]["user"] = format!("system:serviceaccount:{}:{PROGRAM}", self.shape.home).into();
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let answered = Api::all(self.life.client.clone()).create(&PostParams::default(), &review).await.unwrap();
        answered.status.unwrap().allowed
    }

    /// The token by which other replicas know this one, as a kubelet mounts it.
    async fn peer_token(&self) -> String {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "controlplane"},
            "spec": {"serviceAccountName": PROGRAM, "containers": [{"name": "controlplane", "image": PROGRAM}]}});
        let made = self.life.cluster.apply(self.life.client, self.shape.home, &pod.to_string()).await.unwrap();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "controlplane", "uid": made[0].uid()});
        let request = json!({"spec": {"audiences": [PROGRAM], "expirationSeconds": 3600, "boundObjectRef": bound}});
        let request: TokenRequest = serde_json::from_value(request).unwrap();
        let accounts = Api::<ServiceAccount>::namespaced(self.life.client.clone(), self.shape.home);
        let answer = accounts.create_token_request(PROGRAM, &PostParams::default(), &request).await.unwrap();
        let path = self.folder.path().join("token");
        std::fs::write(&path, answer.status.unwrap().token).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The control plane with the chart's own arguments; where its cluster is and who it is, which a pod would know, it is told.
    async fn start(&self) -> Program {
        let server = self.life.cluster.url().unwrap();
        let wanted = Wanted { namespace: self.shape.home, name: PROGRAM, server: &server };
        let account = self.life.cluster.account(self.life.client, wanted).await.unwrap();
        let is_it = |object: &&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == PROGRAM;
        let container = &self.objects.iter().find(is_it).unwrap()["spec"]["template"]["spec"]["containers"][0];
        let token = self.peer_token().await;
        let told = |argument: &Value| argument.as_str().unwrap().replace("/etc/kthena/identity/token", &token);
        let mut arguments: Vec<_> = container["args"].as_array().unwrap().iter().map(told).collect();
        assert!(arguments.contains(&format!("--peer-token={token}")), "{arguments:?}");
        arguments.push(format!("--kubeconfig={}", account.kubeconfig.display()));
        arguments.push(format!("--namespace={}", self.shape.home));
        Program::start(self.folder.path(), PROGRAM, &arguments)
    }

    /// So that it judges nothing in the shapes that follow.
    async fn take_webhook_away(&self) {
        let configurations = Api::<ValidatingWebhookConfiguration>::all(self.life.client.clone());
        // There is none in some shapes.
        let _ = configurations.delete(PROGRAM, &DeleteParams::default()).await;
    }
}

async fn compare(cluster: &Cluster, client: &Client, shape: Shape) {
    let began = tokio::time::Instant::now();
    let bed = Bed::new(cluster, client, shape).await;
    assert_eq!(bound(&bed.objects), shape.bound.iter().copied().collect::<BTreeSet<_>>(), "{}", shape.home);
    let program = bed.start().await;
    until(&format!("ready control plane ({})", shape.home), async || {
        get(METRICS, "/readyz").await.is_some_and(|(status, _)| status == 200)
    })
    .await;
    bed.life.lead(shape.home, shape.others).await;
    assert_eq!(settled(cluster, &bed.objects, shape.account()).await, "", "{}", shape.home);
    bed.take_webhook_away().await;
    program.kill();
    println!("{}: {:?}", shape.home, began.elapsed());
}

#[test]
fn so_is_each_right_of_the_charts_other_shapes() {
    network::within("rights::shapes::so_is_each_right_of_the_charts_other_shapes", || async {
        let cluster = Cluster::start(Parts::ApiServer).unwrap();
        let client = cluster.admin().await.unwrap();
        cluster.install_definitions(&client).await.unwrap();
        for shape in SHAPES {
            compare(&cluster, &client, shape).await;
        }
    });
}
