//! A flag beats a variable, and a variable beats the file: what is written where it would not count is refused.

use perf_tests::helm::Render;

use crate::object::{find, items};
use crate::values::with;

/// The key of the file that each flag of the chart beats; none where there is none.
const FLAGS: [(&str, Option<&str>); 12] = [
    ("--config", None),
    ("--control-plane", Some("control_plane.address")),
    ("--control-plane-ca", Some("control_plane.ca_file")),
    ("--control-plane-token", Some("control_plane.token_file")),
    ("--state-dir", Some("control_plane.state_dir")),
    ("--bind", Some("bind")),
    ("--port", Some("port")),
    ("--metrics-port", Some("metrics_port")),
    ("--debug-port", Some("debug_port")),
    ("--admin-socket", Some("admin_socket")),
    ("--io-driver", Some("io.driver")),
    ("--cores", Some("cores")),
];

const NODE: [&str; 2] = ["node.enabled=true", "node.exposure=hostNetwork"];

fn said(set: &[&str]) -> Option<String> {
    Render { set, ..Render::default() }.objects().err().map(|said| said.to_string())
}

#[track_caller]
fn check(set: &[&str], expected: &str) {
    let said = said(set).unwrap_or_else(|| panic!("{set:?} is taken"));
    assert!(said.contains(expected), "{set:?}: {expected:?} is not in\n{said}");
}

#[test]
fn what_the_charts_own_arguments_say_is_refused_in_the_file() {
    let objects = with(&NODE);
    for (block, kind, name) in [("gateway", "Deployment", "kthena-router"), ("node", "DaemonSet", "kthena-node")] {
        let args = find(&objects, kind, name).at("/spec/template/spec/containers/0/args").clone();
        let flags: Vec<_> = items(&args).filter_map(|argument| argument.as_str()?.split_once('=')).collect();
        assert!(flags.len() > 10, "{args}");
        let key = |flag: &str| FLAGS.iter().find(|(known, _)| *known == flag).expect("a test knows what it beats").1;
        let by_flags = flags.iter().filter_map(|(flag, _)| key(flag));
        // These the pod's token says.
        let keys: Vec<_> = by_flags.chain(["control_plane.node", "control_plane.namespace"]).collect();
        let set: Vec<_> = keys.iter().map(|key| format!("{block}.config.{key}=a")).collect();
        let set: Vec<_> = NODE.into_iter().chain(set.iter().map(String::as_str)).collect();
        let said = said(&set).unwrap_or_default();
        for key in keys {
            let expected = format!("{block}.config.{key} does not count beside the chart's own arguments; ");
            assert!(said.contains(&expected), "{expected:?} is not in\n{said}");
        }
    }
    check(&["gateway.config.io.driver=epoll"], "arguments; set gateway.ioDriver");
    check(&["gateway.config.bind=::"], "arguments; set global.listenAddress");
    check(&["node.enabled=true", "node.config.metrics_port=1"], "arguments; set node.metricsPort");
}

#[test]
fn what_nothing_of_the_chart_says_may_be_in_the_file() {
    let host = |set| [&NODE[..], &[set]].concat();
    for set in [
        host("node.config.debug_port=15000"),
        host("node.config.control_plane.server_name=stream"),
        vec!["gateway.config.admin_socket=/more/admin.sock"],
        vec!["gateway.config.control_plane.zone=a"],
        vec!["gateway.config.debug_bind=::1"],
        // Nobody runs with it.
        vec!["node.config.cores=1"],
    ] {
        assert_eq!(said(&set), None, "{set:?}");
    }
}

#[test]
fn what_the_values_decide_is_refused_as_a_variable() {
    let env = |block: &str, name: &str| {
        [
            "node.enabled=true".to_owned(),
            format!("{block}.extraEnv[0].name={name}"),
            format!("{block}.extraEnv[0].value=json"),
        ]
    };
    for block in ["gateway", "node"] {
        let drain = env(block, "DRAIN_TIMEOUT");
        let expected = format!(
            "{block}.extraEnv has DRAIN_TIMEOUT, which would come before {block}.config.drain.deadline; set that instead"
        );
        check(&drain.each_ref().map(String::as_str), &expected);
        let log = env(block, "ACCESS_LOG_FORMAT");
        assert_eq!(said(&log.each_ref().map(String::as_str)), None);
        let both = format!("{block}.config.access_log.format=text");
        let both = [&log.each_ref().map(String::as_str)[..], &[&both]].concat();
        check(
            &both,
            &format!(
                "{block}.extraEnv has ACCESS_LOG_FORMAT, which would come before {block}.config.access_log.format"
            ),
        );
    }
}
