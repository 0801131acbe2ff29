//! Certificates that somebody else makes: the control plane serves what it finds, as soon as it changes, and may write none of it. The test
//! is cert-manager: it fills the Secret and writes its CA into the webhook configuration, as the annotation of the chart asks of it.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams};
use perf_tests::cluster::Cluster;
use perf_tests::rights::{Account, asked};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

use crate::c08_webhook::{configuration, wrong};
use crate::program::{Home, get, server};
use crate::wait::until;

const SECRET: &str = "kthena-controlplane-tls";

/// What cert-manager puts into a Secret.
pub struct Made {
    pub ca: String,
    leaf: String,
    key: String,
}

/// A leaf for this machine, of a CA that nobody has seen before.
pub fn made(generation: u32) -> Made {
    made_for(vec!["127.0.0.1".to_owned()], &format!("cert-manager {generation}"))
}

/// A leaf for these names and addresses, of a new CA of this name.
pub fn made_for(hosts: Vec<String>, authority: &str) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, authority);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let text = ca.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(ca, key);
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(hosts).unwrap().signed_by(&own, &issuer).unwrap();
    Made { ca: text, leaf: leaf.pem(), key: own.serialize_pem() }
}

impl Made {
    /// As a Secret has it.
    pub fn data(&self) -> serde_json::Value {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        json!({"ca.crt": bytes(&self.ca), "tls.crt": bytes(&self.leaf), "tls.key": bytes(&self.key)})
    }
}

/// What cert-manager does at a renewal: both at once. Returns the Secret's version.
async fn issue(home: &Home, made: &Made) -> String {
    let by = PatchParams::apply("cert-manager").force();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET}, "data": made.data()});
    let secrets = Api::<Secret>::namespaced(home.admin.clone(), &home.namespace);
    let written = secrets.patch(SECRET, &by, &Patch::Apply(secret)).await.unwrap();
    let mut hook = configuration(home);
    hook["webhooks"][0]["clientConfig"]["caBundle"] = json!(ByteString(made.ca.clone().into_bytes()));
    let hooks = Api::<ValidatingWebhookConfiguration>::all(home.admin.clone());
    hooks.patch(&home.namespace, &by, &Patch::Apply(hook)).await.unwrap();
    written.metadata.resource_version.unwrap()
}

/// To read the one Secret, and to try the webhook. Not to write either.
async fn grant(home: &Home) {
    let name = "issued-elsewhere";
    home.apply(&format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}}}
rules:
- {{apiGroups: [''], resources: [secrets], resourceNames: [{SECRET}], verbs: [get]}}
- {{apiGroups: [networking.serving.volcano.sh], resources: [modelroutes], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{kind: ServiceAccount, name: kthena-controlplane, namespace: {}}}]
",
        home.namespace
    ))
    .await;
}

/// Whether the API server takes the webhook's word, and so its certificate.
async fn refuses(home: &Home, name: &str) -> bool {
    let taken = home.cluster.apply(&home.admin, &home.namespace, &wrong(name)).await;
    taken.is_err_and(|error| format!("{error:#}").contains("modelMatch.uri.regex"))
}

async fn told(home: &Home) -> Option<String> {
    let maps = Api::<ConfigMap>::namespaced(home.admin.clone(), &home.namespace);
    maps.get("kthena-controlplane-ca").await.unwrap().data?.remove("ca.crt")
}

/// A CA that did not sign the certificate beside it is told to nobody, and what was served before goes on.
async fn stays_where_the_next_is_wrong(home: &Home, before: &Made) {
    let wrong = Made { ca: made(4).ca, ..made(3) };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET}, "data": wrong.data()});
    let secrets = Api::<Secret>::namespaced(home.admin.clone(), &home.namespace);
    secrets.patch(SECRET, &PatchParams::apply("cert-manager").force(), &Patch::Apply(secret)).await.unwrap();
    let log = home.folder.path().join("kthena-controlplane.log");
    let said = async || std::fs::read_to_string(&log).unwrap().contains("ca.crt does not verify tls.crt");
    until("sentence about the wrong CA", said).await;
    assert_eq!(told(home).await.as_deref(), Some(&*before.ca));
    assert!(refuses(home, "three").await, "the webhook is served as before");
}

#[tokio::test]
async fn what_cert_manager_makes_is_served_as_soon_as_it_changes_and_never_written() {
    let home = Home::new(Cluster::shared(), "issued").await;
    home.apply(&server("s", 8000)).await;
    grant(&home).await;
    let webhook = format!("--webhook-address=127.0.0.1:{}", home.webhook);
    let more = ["--always-tls", "--certificates-issuer=cert-manager", "--certificates-secret=kthena-controlplane-tls"];
    let configuration = format!("--webhook-configuration={}", home.namespace);
    let _control = home.control(&[more.as_slice(), &[webhook.as_str(), configuration.as_str()]].concat());
    until("it waits for cert-manager", async || {
        get(home.metrics, "/readyz").await.is_some_and(|(status, body)| status == 503 && body.contains("certificates"))
    })
    .await;

    let first = made(1);
    issue(&home, &first).await;
    home.until_ready().await;
    assert!(refuses(&home, "one").await);
    until("data planes are told", async || told(&home).await.as_deref() == Some(&*first.ca)).await;

    // Another CA altogether, which the API server believes from now on and no other.
    let second = made(2);
    let version = issue(&home, &second).await;
    until("the next one is served", async || refuses(&home, "two").await).await;
    until("data planes are told", async || told(&home).await.as_deref() == Some(&*second.ca)).await;
    let secrets = Api::<Secret>::namespaced(home.admin.clone(), &home.namespace);
    let now = secrets.get(SECRET).await.unwrap();
    assert_eq!(now.metadata.resource_version, Some(version), "nobody but cert-manager writes it");
    stays_where_the_next_is_wrong(&home, &second).await;
    let log = std::fs::read_to_string(home.cluster.audit_log()).unwrap();
    let account = Account { namespace: &home.namespace, name: "kthena-controlplane" };
    let refused: Vec<_> = asked(&log, account).into_iter().filter(|asked| asked.refused).collect();
    assert!(refused.is_empty(), "it asks for nothing that it has no right to: {refused:?}");
}
