//! What is particular to the proxies of nodes: how they are reached, and how one takes the place of another.

use perf_tests::helm::Render;
use serde_json::{Value, json};

use crate::object::{find, has, items};
use crate::refusals::check;
use crate::values::{rendered, with};

#[test]
fn clients_stay_on_their_node_as_well_as_the_cluster_can() {
    let service = |kubernetes| {
        let objects = rendered(&Render { set: &["node.enabled=true"], kubernetes, ..Render::default() });
        find(&objects, "Service", "kthena-node").0["spec"].clone()
    };
    let old = service("1.34.9");
    assert_eq!((&old["internalTrafficPolicy"], &old["trafficDistribution"]), (&json!("Local"), &Value::Null));
    let new = service("1.35.0");
    assert_eq!((&new["internalTrafficPolicy"], &new["trafficDistribution"]), (&Value::Null, &json!("PreferSameNode")));
    // Or as the user says, whatever the cluster is.
    let asked = |policy: &str, kubernetes| {
        let set = ["node.enabled=true", &format!("node.service.trafficPolicy={policy}")];
        let objects = rendered(&Render { set: &set, kubernetes, ..Render::default() });
        find(&objects, "Service", "kthena-node").0["spec"].clone()
    };
    assert_eq!((asked("auto", "1.34.9"), asked("auto", "1.35.0")), (old.clone(), new.clone()));
    assert_eq!((asked("local", "1.35.0"), asked("preferSameNode", "1.34.9")), (old, new));
}

#[test]
fn an_exposure_by_the_node_leaves_room_for_the_next_pod() {
    let node = |exposure: &str| {
        let objects = with(&["node.enabled=true", &format!("node.exposure={exposure}")]);
        let update = find(&objects, "DaemonSet", "kthena-node").at("/spec/updateStrategy/rollingUpdate").clone();
        let spec = find(&objects, "DaemonSet", "kthena-node").at("/spec/template/spec").clone();
        (has(&objects, "Service", "kthena-node"), update, spec)
    };
    let (service, update, spec) = node("hostPort");
    assert_eq!((service, &update["maxSurge"], &update["maxUnavailable"]), (false, &json!(0), &json!(1)));
    assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 8080);
    let (service, update, spec) = node("hostNetwork");
    assert_eq!((service, &update["maxSurge"]), (false, &json!(1)));
    assert_eq!((&spec["hostNetwork"], &spec["dnsPolicy"]), (&json!(true), &json!("ClusterFirstWithHostNet")));
    assert!(spec["containers"][0]["ports"].is_null(), "a declared port keeps a second pod off the node");
    let args: Vec<_> = items(&spec["containers"][0]["args"]).map(|arg| arg.as_str().unwrap()).collect();
    assert!(!args.iter().any(|arg| arg.starts_with("--debug-port")), "what the node runs could read it: {args:?}");
    let (service, update, spec) = node("service");
    assert!(service && update["maxSurge"] == 1 && spec["containers"][0]["ports"][0]["hostPort"].is_null());
}

/// How many of the DaemonSet's pods are replaced at once: (maxSurge, maxUnavailable).
fn at_once(set: &[&str]) -> (Value, Value) {
    let objects = with(&[&["node.enabled=true"], set].concat());
    let update = find(&objects, "DaemonSet", "kthena-node").at("/spec/updateStrategy/rollingUpdate").clone();
    (update["maxSurge"].clone(), update["maxUnavailable"].clone())
}

#[test]
fn how_many_proxies_are_replaced_at_once_and_whether_the_old_one_goes_first_is_the_users_choice() {
    let (surge, away) = ("node.updateStrategy.maxSurge", "node.updateStrategy.maxUnavailable");
    assert_eq!(at_once(&[&format!("{surge}=10%")]), (json!("10%"), json!(0)));
    // On nodes without room for two.
    assert_eq!(at_once(&[&format!("{away}=2")]), (json!(0), json!(2)));
    assert_eq!(at_once(&[&format!("{surge}=0"), &format!("{away}=25%")]), (json!(0), json!("25%")));
    assert_eq!(at_once(&["node.exposure=hostPort", &format!("{away}=3")]), (json!(0), json!(3)));
}

/// Of a DaemonSet Kubernetes takes one of the two, and one it needs.
#[test]
fn a_replacement_that_kubernetes_would_not_take_is_refused() {
    let (surge, away) = ("node.updateStrategy.maxSurge", "node.updateStrategy.maxUnavailable");
    let refused = |set: &[&str], said: &str| check(&[&["node.enabled=true"], set].concat(), &[said]);
    refused(
        &[&format!("{surge}=1"), &format!("{away}=10%")],
        "node.updateStrategy has both maxSurge (1) and maxUnavailable (10%)",
    );
    refused(&[&format!("{surge}=0")], "node.updateStrategy lets no pod be replaced; set maxUnavailable");
    refused(&[&format!("{surge}=0%"), &format!("{away}=0")], "node.updateStrategy lets no pod be replaced");
    refused(
        &["node.exposure=hostPort", &format!("{surge}=1")],
        "node.updateStrategy.maxSurge is 1, but with node.exposure=hostPort the old pod has to give up its port first",
    );
    for wrong in ["101%", "-1", "some"] {
        refused(&[&format!("{surge}={wrong}")], "at '/node/updateStrategy/maxSurge'");
    }
    // Without the DaemonSet it is nobody's.
    with(&[&format!("{surge}=0")]);
}
