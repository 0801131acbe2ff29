//! A network of a test's own: the test runs once more in a network namespace, where all of 10.77.0.0/16 is this machine's.

use std::future::Future;
use std::process::Command;

use perf_tests::cluster::Cluster;

const INSIDE: &str = "KTHENA_TEST_NETWORK";
const SETUP: &str = r#"ip link set lo up && ip route add local 10.77.0.0/16 dev lo && exec "$0" "$@""#;

/// Runs it in a network of its own. `name` is the test's, as the harness knows it.
///
/// # Panics
/// Where the test fails, or there can be no such network: it needs `unshare`, of util-linux, and `ip`, of iproute2.
pub fn within<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(test());
    }
    Cluster::prepare().unwrap();
    let this = std::env::current_exe().unwrap();
    // Killed with this one, whatever becomes of it.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--user", "--map-root-user", "--net", "--kill-child", "--fork"])
        .args(["sh", "-c", SETUP])
        .arg(this)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    let status = status.expect("setpriv, of util-linux, runs");
    assert!(status.success(), "{name}, in a network of its own: {status}");
}
