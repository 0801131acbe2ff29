//! What works for a cluster's users besides Kubernetes itself, as a test plays it: cert-manager, and a cloud's load balancer.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::issuers::made_for;
use crate::wait::until;

/// By which a webhook configuration asks for the CA of a Certificate.
const INJECT: &str = "cert-manager.io/inject-ca-from";

/// As cert-manager does it: what a Certificate asks for is made as soon as it is there, and its CA put where that is asked for. Returns the name
/// of the Secret.
pub async fn issue(client: &Client, namespace: &str, name: &str) -> String {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let certificates = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind);
    let mut asked = Value::Null;
    until(&format!("Certificate {name}"), async || {
        let found = certificates.get_opt(name).await.unwrap();
        asked = found.map(|certificate| certificate.data["spec"].clone()).unwrap_or_default();
        !asked.is_null()
    })
    .await;
    let hosts = asked["dnsNames"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    let made = made_for(hosts, asked["issuerRef"]["name"].as_str().unwrap());
    let holder = asked["secretName"].as_str().unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": holder}, "data": made.data()});
    let by = PatchParams::apply("cert-manager").force();
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    secrets.patch(holder, &by, &Patch::Apply(secret)).await.unwrap();
    inject(client, &format!("{namespace}/{name}"), made.ca).await;
    holder.to_owned()
}

/// Into each webhook of the configurations that name this Certificate, as soon as there is one.
async fn inject(client: &Client, certificate: &str, ca: String) {
    let configurations = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let mut asking = Vec::new();
    until(&format!("webhook that wants the CA of {certificate}"), async || {
        asking = configurations.list(&ListParams::default()).await.unwrap().items;
        asking.retain(|found| found.annotations().get(INJECT).is_some_and(|named| named == certificate));
        !asking.is_empty()
    })
    .await;
    let bundle = json!({"caBundle": ByteString(ca.into_bytes())});
    for configuration in asking {
        let name = configuration.name_any();
        let webhooks = configuration.webhooks.into_iter().flatten();
        let webhooks: Vec<_> = webhooks.map(|webhook| json!({"name": webhook.name, "clientConfig": bundle})).collect();
        let patch = Patch::Strategic(json!({"webhooks": webhooks}));
        configurations.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// As a cloud does it: the Service is given an address from outside, as soon as it is there.
pub async fn balance(client: &Client, namespace: &str, (name, address): (&str, &str)) {
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    until(&format!("Service {name}"), async || services.get_opt(name).await.unwrap().is_some()).await;
    let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    services.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}
