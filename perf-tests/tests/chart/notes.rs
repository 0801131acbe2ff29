//! What helm says after an install.

use perf_tests::helm::{chart, helm};

/// Without a cluster.
fn notes(set: &[&str]) -> String {
    let folder = chart();
    let mut arguments =
        vec!["install", "kthena", folder.to_str().unwrap(), "--namespace", "serving", "--dry-run=client"];
    set.iter().for_each(|set| arguments.extend(["--set", set]));
    let output = helm(&arguments).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    said.split_once("\nNOTES:\n").expect("notes").1.to_owned()
}

#[test]
fn an_address_of_ipv6_is_put_into_brackets_where_nodes_may_have_one() {
    let plain = notes(&["node.enabled=true", "node.exposure=hostPort", "node.port=8081"]);
    assert!(plain.contains("curl http://$HOST_IP:8081/v1/") && !plain.contains("[$HOST_IP]"), "{plain}");
    let both = notes(&["node.enabled=true", "node.exposure=hostNetwork", "global.listenAddress=::"]);
    for url in [" http://$HOST_IP:8080/v1/", " \"http://[$HOST_IP]:8080/v1/"] {
        assert!(both.contains(url), "{url} is not in\n{both}");
    }
}

#[test]
fn who_is_outside_is_told_the_gateways_address() {
    let plain = notes(&[]);
    assert!(!plain.contains("from outside"), "{plain}");
    let balanced = notes(&["gateway.service.type=LoadBalancer", "gateway.service.port=81"]);
    assert!(balanced.contains("ADDRESS=$(kubectl -n serving get service kthena-router -o jsonpath="), "{balanced}");
    assert!(balanced.contains("curl http://$ADDRESS:81/v1/chat/completions"), "{balanced}");
    let set = ["gateway.service.type=NodePort", "gateway.service.externalTrafficPolicy=Local"];
    for (set, node) in [(&set[..1], "any node"), (&set, "a node with a pod of the gateway")] {
        let by_node = notes(set);
        assert!(by_node.contains("jsonpath='{.spec.ports[0].nodePort}'"), "{by_node}");
        assert!(
            by_node.contains("curl http://NODE:$PORT/v1/") && by_node.contains(&format!("of {node}:")),
            "{by_node}"
        );
    }
}

/// `helm install` without a cluster knows Kubernetes' own kinds alone.
#[test]
fn monitors_and_alerts_that_the_cluster_does_not_know_are_said_to_be_missing() {
    let missing = "has no kinds of monitoring.coreos.com/v1";
    assert!(!notes(&["monitoring.dashboards=true"]).contains(missing));
    for (set, said) in [
        (&["monitoring.monitors=true"][..], "monitoring.monitors made nothing"),
        (&["monitoring.alerts=true"], "monitoring.alerts made nothing"),
        (
            &["monitoring.alerts=true", "monitoring.monitors=true"],
            "monitoring.monitors and monitoring.alerts made nothing",
        ),
    ] {
        let notes = notes(set);
        assert!(notes.contains(missing) && notes.contains(said), "{notes}");
    }
}

#[test]
fn keys_that_an_uninstall_leaves_are_named() {
    assert!(!notes(&[]).contains("delete secret") && !notes(&[]).contains("ca.crt"));
    let yours = notes(&["controlplane.certificates.issuer=secret", "controlplane.certificates.secretName=mine"]);
    assert!(yours.contains("before Secret mine has tls.crt, tls.key and ca.crt"), "{yours}");
    let issuer = "controlplane.certificates.issuer=cert-manager";
    let left = "kubectl -n serving delete secret kthena-controlplane-tls";
    assert!(notes(&[issuer]).contains(&format!("{left} kthena-controlplane-tls-ca\n")));
    let corporate = notes(&[issuer, "controlplane.certificates.certManager.issuerRef.name=corporate"]);
    assert!(corporate.contains(left) && !corporate.contains("tls-ca"), "{corporate}");
}
