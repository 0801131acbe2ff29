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
