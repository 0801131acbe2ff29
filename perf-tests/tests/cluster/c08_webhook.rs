//! C8: our webhook is away. Nobody is kept from anything but writing our objects, and what got in without it is judged all the same.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use perf_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::program::{Home, route, server};
use crate::wait::until;

/// As the chart has it, for one namespace, and by an address of this machine.
pub fn configuration(home: &Home) -> Value {
    let rule = json!({
        "apiGroups": ["networking.serving.volcano.sh"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["modelroutes", "modelservers", "externalmodelproviders"], "scope": "Namespaced",
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": home.namespace},
        "webhooks": [{
            "name": "validate.kthena.volcano.sh", "rules": [rule], "failurePolicy": "Fail", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": home.namespace}},
            "clientConfig": {"url": format!("https://127.0.0.1:{}/validate", home.webhook)},
        }],
    })
}

/// Puts it there, with the right to fill it and to try it.
pub async fn install(home: &Home) {
    let configurations = Api::<ValidatingWebhookConfiguration>::all(home.admin.clone());
    let parameters = PatchParams::apply("tests").force();
    configurations.patch(&home.namespace, &parameters, &Patch::Apply(configuration(home))).await.unwrap();
    let name = format!("webhook-{}", home.namespace);
    home.apply(&format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {name}}}
rules:
- {{apiGroups: [admissionregistration.k8s.io], resources: [validatingwebhookconfigurations], verbs: [get, patch]}}
- {{apiGroups: [networking.serving.volcano.sh], resources: [modelroutes], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}
subjects: [{{kind: ServiceAccount, name: kthena-controlplane, namespace: {}}}]
",
        home.namespace
    ))
    .await;
}

/// What tells a control plane of it.
pub fn flags(home: &Home) -> [String; 3] {
    [
        format!("--webhook-address=127.0.0.1:{}", home.webhook),
        format!("--webhook-configuration={}", home.namespace),
        "--certificate-hosts=127.0.0.1".to_owned(),
    ]
}

/// A route whose mistake only we see.
pub fn wrong(name: &str) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\n\
         spec: {{modelName: {name}, rules: [{{modelMatch: {{uri: {{regex: '('}}}}, targetModels: [{{modelServerName: s}}]}}]}}\n"
    )
}

/// Why the API server does not take it; none where it does.
async fn refused(home: &Home, yaml: &str) -> Option<String> {
    home.cluster.apply(&home.admin, &home.namespace, yaml).await.err().map(|error| format!("{error:#}"))
}

#[tokio::test]
async fn c08_without_our_webhook_only_our_own_objects_wait_and_what_got_in_is_judged_all_the_same() {
    let home = Home::new(Cluster::shared(), "webhook").await;
    home.apply(&server("s", 8000)).await;
    // Before there was any webhook.
    home.apply(&wrong("old-mistake")).await;
    install(&home).await;
    let flags = flags(&home);
    let flags = flags.each_ref().map(String::as_str);
    let control = home.control(&flags);
    // It is ready once the API server has reached its webhook.
    home.until_ready().await;
    home.apply(&route("good", "s")).await;
    let why = refused(&home, &wrong("mistake")).await.expect("the webhook refuses it");
    assert!(why.contains("spec.rules[0].modelMatch.uri.regex"), "{why}");

    control.kill();
    let why = refused(&home, &route("later", "s")).await.expect("nobody can judge it");
    assert!(why.contains("failed calling webhook"), "{why}");
    home.pod("p", "s", "127.0.0.1").await;
    let maps = Api::<ConfigMap>::namespaced(home.admin.clone(), &home.namespace);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "anything"}});
    maps.patch("anything", &PatchParams::apply("tests"), &Patch::Apply(map)).await.unwrap();

    // Past a webhook that nobody asks.
    let configurations = Api::<ValidatingWebhookConfiguration>::all(home.admin.clone());
    configurations.delete(&home.namespace, &Default::default()).await.unwrap();
    until("a write without the webhook", async || refused(&home, &wrong("mistake")).await.is_none()).await;
    let _control = home.control(&[]);
    home.until_ready().await;
    for name in ["old-mistake", "mistake"] {
        until("the verdict", async || {
            home.condition("ModelRoute", "modelroutes", name, "Accepted").await["reason"] == "Invalid"
        })
        .await;
    }
    until("the good one's", async || {
        home.condition("ModelRoute", "modelroutes", "good", "Accepted").await["status"] == "True"
    })
    .await;
}
