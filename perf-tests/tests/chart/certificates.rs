//! Who makes the certificates: what is asked of cert-manager, what the control plane is told, and which rights it keeps.

use std::collections::BTreeSet;

use controlplane::certificates::service_names;
use serde_json::{Value, json};

use crate::object::{Object, find, has, items};
use crate::values::with;

fn by(issuer: &str) -> Vec<Object> {
    with(&[&format!("controlplane.certificates.issuer={issuer}")])
}

/// The verbs of each named object of a kind that the control plane has rights to.
fn rights(objects: &[Object], resource: &str) -> BTreeSet<(String, String)> {
    let roles = objects.iter().filter(|object| ["Role", "ClusterRole"].contains(&object.kind()));
    let ours = roles.filter(|role| role.name().ends_with("kthena-controlplane"));
    let rules = ours.flat_map(|role| items(role.at("/rules")).cloned().collect::<Vec<_>>());
    let of = rules.filter(|rule| items(&rule["resources"]).any(|named| named == resource));
    let pairs = of.flat_map(|rule| {
        let text = |list: &Value| items(list).map(|item| item.as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let (names, verbs) = (text(&rule["resourceNames"]), text(&rule["verbs"]));
        names.into_iter().flat_map(move |name| verbs.clone().into_iter().map(move |verb| (name.clone(), verb)))
    });
    pairs.collect()
}

fn pairs(list: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    list.iter().map(|(name, verb)| ((*name).to_owned(), (*verb).to_owned())).collect()
}

#[test]
fn cert_manager_is_asked_for_exactly_the_names_that_the_control_plane_is_known_by() {
    let objects = by("cert-manager");
    let certificate = find(&objects, "Certificate", "kthena-controlplane");
    let names: BTreeSet<_> =
        items(certificate.at("/spec/dnsNames")).map(|name| name.as_str().unwrap().to_owned()).collect();
    let services = ["kthena-controlplane", "kthena-controlplane-webhook", "kthena-controlplane-webhook-starting"];
    let ours: BTreeSet<_> = services.iter().flat_map(|service| service_names(service, "serving")).collect();
    assert_eq!(names, ours);
    // What it makes is what is served, and who issues it has a CA of its own.
    let args = find(&objects, "Deployment", "kthena-controlplane").at("/spec/template/spec/containers/0/args");
    let secret = certificate.at("/spec/secretName").as_str().unwrap();
    assert!(items(args).any(|arg| *arg == format!("--certificates-secret={secret}")), "{args}");
    let ca = find(&objects, "Certificate", "kthena-controlplane-ca");
    assert_eq!((ca.at("/spec/isCA"), ca.at("/spec/privateKey/rotationPolicy")), (&json!(true), &json!("Never")));
    let issuer = find(&objects, "Issuer", certificate.at("/spec/issuerRef/name").as_str().unwrap());
    assert_eq!(issuer.at("/spec/ca/secretName"), ca.at("/spec/secretName"));
    let injected = find(&objects, "ValidatingWebhookConfiguration", "kthena-controlplane");
    assert_eq!(injected.0["metadata"]["annotations"]["cert-manager.io/inject-ca-from"], "serving/kthena-controlplane");
}

#[test]
fn an_issuer_of_the_users_own_takes_the_place_of_ours() {
    let objects = with(&[
        "controlplane.certificates.issuer=cert-manager",
        "controlplane.certificates.certManager.issuerRef.name=corporate",
        "controlplane.certificates.certManager.issuerRef.kind=ClusterIssuer",
    ]);
    let certificate = find(&objects, "Certificate", "kthena-controlplane");
    let expected = json!({"name": "corporate", "kind": "ClusterIssuer", "group": "cert-manager.io"});
    assert_eq!(*certificate.at("/spec/issuerRef"), expected);
    assert!(
        !objects.iter().any(|object| object.kind() == "Issuer")
            && !has(&objects, "Certificate", "kthena-controlplane-ca")
    );
}

#[test]
fn what_others_make_the_control_plane_may_only_read() {
    let secrets = |issuer| rights(&by(issuer), "secrets");
    let webhooks = |issuer| rights(&by(issuer), "validatingwebhookconfigurations");
    let seed = [("kthena-fleet-seed", "get"), ("kthena-fleet-seed", "patch")];
    let own = [("kthena-controlplane-certificates", "get"), ("kthena-controlplane-certificates", "patch")];
    let others = [("kthena-controlplane-tls", "get")];
    assert_eq!(secrets("own"), pairs(&[own.as_slice(), &seed].concat()));
    assert_eq!(secrets("cert-manager"), pairs(&[others.as_slice(), &seed].concat()));
    assert_eq!(secrets("secret"), secrets("cert-manager"));
    let fills = pairs(&[("kthena-controlplane", "get"), ("kthena-controlplane", "patch")]);
    assert_eq!((webhooks("own"), webhooks("secret")), (fills.clone(), fills));
    assert_eq!(webhooks("cert-manager"), BTreeSet::new(), "cert-manager fills it");
    assert!(has(&by("own"), "Secret", "kthena-controlplane-certificates"));
    assert!(!has(&by("secret"), "Secret", "kthena-controlplane-certificates"), "nobody would fill it");
}
