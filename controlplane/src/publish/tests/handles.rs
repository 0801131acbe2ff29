//! Numbers of endpoints from build to build.

use std::collections::BTreeMap;

use api::snapshot::Snapshot;

use super::{Memory, pod, rebuilt, server};

fn handles(snapshot: &Snapshot) -> BTreeMap<String, u32> {
    let endpoints = snapshot.backends.iter().flat_map(|backend| &backend.endpoints);
    endpoints.map(|endpoint| (endpoint.key.uid.to_string(), endpoint.handle)).collect()
}

#[test]
fn an_endpoint_keeps_its_number_while_others_come_and_go() {
    let mut memory = Memory::default();
    let all = server("d/s") + &pod("d/a", "app: s", "10.0.0.1") + &pod("d/b", "app: s", "10.0.0.2");
    let first = handles(&rebuilt(&all, &mut memory).snapshot);
    let without = server("d/s") + &pod("d/b", "app: s", "10.0.0.2");
    let second = handles(&rebuilt(&without, &mut memory).snapshot);
    assert_eq!(second["d/b@10.0.0.2"], first["d/b@10.0.0.2"]);
    let grown = server("d/s") + &pod("d/aa", "app: s", "10.0.0.9") + &pod("d/b", "app: s", "10.0.0.2");
    let third = handles(&rebuilt(&grown, &mut memory).snapshot);
    assert_eq!(third["d/b@10.0.0.2"], first["d/b@10.0.0.2"]);
    assert!(!first.values().any(|handle| *handle == third["d/aa@10.0.0.9"]));
}

#[test]
fn c11_a_pod_made_anew_is_another_endpoint() {
    let mut memory = Memory::default();
    let pod_of = |uid: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: d, uid: {uid}, labels: {{app: s}}}}, \
             status: {{podIP: 10.0.0.1}}}}\n"
        )
    };
    let first = handles(&rebuilt(&(server("d/s") + &pod_of("u1")), &mut memory).snapshot);
    let second = handles(&rebuilt(&(server("d/s") + &pod_of("u2")), &mut memory).snapshot);
    assert_ne!(first["u1"], second["u2"]);
}

#[test]
fn what_has_not_changed_is_not_made_again() {
    let mut memory = Memory::default();
    let world =
        crate::source::directory::reading_of(&[("a.yaml", &(server("d/s") + &pod("d/a", "app: s", "10.0.0.1")))]).world;
    let first = super::build(&world, &super::SETTINGS, &mut memory).snapshot;
    let second = super::build(&world, &super::SETTINGS, &mut memory).snapshot;
    assert!(std::sync::Arc::ptr_eq(&first.backends[0].endpoints[0], &second.backends[0].endpoints[0]));
}

/// The pod has both servers' labels: one endpoint, a member of both backends.
const SHARED: &str = "app: s, also: t";

fn two_servers() -> String {
    let other = server("d/t").replace("app: t", "also: t");
    server("d/s") + &other + &pod("d/a", SHARED, "10.0.0.1")
}

#[test]
fn a_pod_of_two_servers_is_one_endpoint_in_both() {
    let snapshot = rebuilt(&two_servers(), &mut Memory::default()).snapshot;
    let [s, t] = &snapshot.backends[..] else { panic!("two backends") };
    assert_eq!(s.endpoints[0], t.endpoints[0]);
}

#[test]
fn a_pod_of_two_servers_decodes() {
    super::assert_decodes(&rebuilt(&two_servers(), &mut Memory::default()).snapshot);
}
