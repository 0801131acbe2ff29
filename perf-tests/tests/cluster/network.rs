//! A network of a test's own: the test runs once more in a network namespace, where all of 10.77.0.0/16 is this machine's.

use std::future::Future;

use perf_tests::cluster::Parts;
use perf_tests::namespaces::{self, Namespaces};

const OWN: Namespaces<'_> = Namespaces {
    unshare: &["--user", "--map-root-user", "--net"],
    setup: r#"ip link set lo up && ip route add local 10.77.0.0/16 dev lo && exec "$0" "$@""#,
    parts: Parts::Controllers,
};

/// Runs it in a network of its own. `name` is the test's, as the harness knows it.
///
/// # Panics
/// Where the test fails, or there can be no such network: it needs `unshare`, of util-linux, and `ip`, of iproute2.
pub fn within<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    namespaces::within(name, OWN, test).unwrap();
}
