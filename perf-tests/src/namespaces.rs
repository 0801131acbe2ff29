//! A test that runs once more, in namespaces of its own: the kernel clears away what it made there, however it ends.

use std::future::Future;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, Parts};

const INSIDE: &str = "KTHENA_TEST_INSIDE";

/// Which, and what is done in them before the test.
#[derive(Clone, Copy, Debug)]
pub struct Namespaces<'a> {
    /// What `unshare` is told.
    pub unshare: &'a [&'a str],
    /// Shell, after which `exec "$0" "$@"` runs the test.
    pub setup: &'a str,
    /// What the test needs of a cluster is built outside of them.
    pub parts: Parts,
}

/// Runs it there. `name` is the test's, as the harness knows it. It needs `setpriv` and `unshare`, of util-linux.
pub fn within<F: Future<Output = ()>>(name: &str, namespaces: Namespaces<'_>, test: impl FnOnce() -> F) -> Result<()> {
    if let Some(ran) = std::env::var_os(INSIDE) {
        std::fs::write(ran, "it ran")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(test());
        return Ok(());
    }
    let Namespaces { unshare, setup, parts } = namespaces;
    Cluster::prepare(parts)?;
    // A harness that knows no test of that name ends well, too.
    let ran = std::env::temp_dir().join(format!("kthena-ran-{}-{}", std::process::id(), name.replace("::", "-")));
    // Killed with this one, whatever becomes of it.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--kill-child", "--fork"])
        .args(unshare)
        .args(["sh", "-c", setup])
        .arg(std::env::current_exe()?)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, &ran)
        .status()
        .context("running setpriv, of util-linux")?;
    ensure!(status.success(), "{name}, in namespaces of its own: {status}");
    std::fs::remove_file(&ran).with_context(|| format!("there is no test {name}"))
}
