//! One bad object takes nothing else with it, and nothing of itself that was good.

use super::{Memory, built, check, name, pod, rebuilt, route, server, text};
use crate::publish::{LeftOut, Reason};
use crate::world::Life;

const GOOD: &str = "route d/good model m\n  rule → d/s 100\n";

fn bad_route(rules: &str) -> String {
    format!(
        "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: bad, namespace: d}}\n\
         spec: {{modelName: bad, rules: {rules}}}\n"
    )
}

/// A second route is published, the bad one is not, and its verdict says this.
fn check_poison(rules: &str, sentence: &str) {
    let yaml = bad_route(rules) + &route("d/good", "modelName: m", "s");
    check(&yaml, GOOD);
    let verdict = &built(&yaml).verdicts.routes[&name("d/bad")];
    assert_eq!((verdict.accepted.holds, verdict.accepted.reason), (false, Reason::Invalid), "{rules}");
    assert!(verdict.accepted.message.contains(sentence), "{rules}: {}", verdict.accepted.message);
}

#[test]
fn c09_a_route_that_cannot_be_published_is_left_out_alone() {
    check_poison("[{modelMatch: {uri: {regex: '('}}, targetModels: [{modelServerName: s}]}]", "regex");
    check_poison("[{modelMatch: {uri: {regex: '(a{1000}){1000}'}}, targetModels: [{modelServerName: s}]}]", "regex");
    check_poison("[{targetModels: []}]", "target");
    check_poison("[{targetModels: [{modelServerName: s, weight: 0}]}]", "weight");
    check_poison("[{targetModels: [{modelServerName: s, weight: 101}]}]", "weight");
    check_poison("[{targetModels: [{modelServerName: s, wieght: 1}]}]", "wieght");
    check_poison("[{targetModels: [{modelServerName: 7}]}]", "targetModels[0].modelServerName");
    check_poison("[{targetModels: [{modelServerName: s}, {}]}]", "exactly one of");
    check_poison("[{targetModels: [{modelServerName: s, externalModelProviderName: p}]}]", "exactly one of");
    check_poison("7", "rules");
    let same_header = "[{modelMatch: {headers: {a: {exact: x}, A: {exact: y}}}, targetModels: [{modelServerName: s}]}]";
    check_poison(same_header, "header");
}

#[test]
fn a_bad_edit_leaves_the_last_good_form_in_force() {
    let mut memory = Memory::default();
    let good = route("d/r", "modelName: m", "s") + &server("d/s") + &pod("d/a", "app: s", "10.0.0.1");
    let before = rebuilt(&good, &mut memory);
    for bad in
        [good.replace("modelServerName: s", "modelServerName: s, weight: 0"), good.replace("port: 8000", "port: 0")]
    {
        let after = rebuilt(&bad, &mut memory);
        assert_eq!(text::of(&after.snapshot), text::of(&before.snapshot));
        let routes = after.verdicts.routes.values().map(|verdict| &verdict.accepted);
        let servers = after.verdicts.servers.values().map(|verdict| &verdict.accepted);
        let refused: Vec<_> = routes.chain(servers).filter(|accepted| !accepted.holds).collect();
        assert_eq!(refused.len(), 1);
        assert!(refused[0].message.contains("stays in force"), "{refused:?}");
    }
}

#[test]
fn c09_endpoints_move_on_under_a_bad_edit() {
    let mut memory = Memory::default();
    rebuilt(&(server("d/s") + &pod("d/a", "app: s", "10.0.0.1")), &mut memory);
    let bad = server("d/s").replace("port: 8000", "port: 0");
    let after = rebuilt(&(bad + &pod("d/b", "app: s", "10.0.0.2")), &mut memory);
    let names: Vec<&str> = after.snapshot.backends[0].endpoints.iter().map(|e| &*e.name).collect();
    assert_eq!(names, ["d/b"]);
}

#[test]
fn a_bad_object_deleted_and_made_again_starts_without_a_past() {
    let mut memory = Memory::default();
    rebuilt(&route("d/r", "modelName: m", "s"), &mut memory);
    rebuilt(&server("d/s"), &mut memory);
    let bad = rebuilt(&route("d/r", "modelName: m", "s, weight: 0"), &mut memory);
    assert!(bad.snapshot.routes.is_empty());
}

#[test]
fn a_scheduler_configuration_that_cannot_be_read_changes_nothing() {
    let config = |text: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: kthena-router-config, namespace: k}}, \
             data: {{routerConfiguration: '{text}'}}}}\n"
        )
    };
    let mut memory = Memory::default();
    let good = "scheduler: {plugins: {Score: {enabled: [{name: gpu-usage, weight: 1}]}}}";
    let before = rebuilt(&(config(good) + &server("d/s")), &mut memory);
    let after = rebuilt(&(config("scheduler: 7") + &server("d/s")), &mut memory);
    assert_eq!(after.snapshot, before.snapshot);
    assert!(!after.verdicts.scheduler.expect("there is one").accepted.holds);
    let fresh = built(&(config("scheduler: 7") + &server("d/s")));
    assert_eq!(text::of(&fresh.snapshot), "backend d/s Vllm\n");
}

#[test]
fn a_server_says_why_it_cannot_serve() {
    let verdict = |yaml: &str| built(yaml).verdicts.servers[&name("d/s")].clone();
    assert_eq!(verdict(&server("d/s")).ready.reason, Reason::NoPods);
    let starting = pod("d/a", "app: s", "").replace("podIP: \"\"", "phase: Pending");
    let unready = verdict(&(server("d/s") + &starting));
    assert_eq!(unready.ready.reason, Reason::NoReadyPods);
    assert_eq!(unready.left_out, [(name("d/a"), LeftOut::Life(Life::Pending))]);
    assert!(unready.ready.message.contains("d/a is not running yet"), "{}", unready.ready.message);
    let ready = verdict(&(server("d/s") + &pod("d/a", "app: s", "10.0.0.1") + &starting.replace("name: a", "name: b")));
    assert_eq!((ready.ready.holds, ready.endpoints), (true, 1));
    assert_eq!(ready.ready.message, "1 of 2 pods are endpoints");
}
