//! The namespaces that a bed needs, and the way into those of its nodes and pods.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::process::getuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::cluster::Parts;
use crate::namespaces::{self, Namespaces};

/// `ip netns` keeps its names in /run.
const SETUP: &str = r#"mount -t tmpfs none /run && mkdir /run/netns && exec "$0" "$@""#;

/// Beds that there may be at a time. More starve each other on two cores; a test that has none runs beside them.
const BEDS: usize = 2;
static LAID: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A bed that may be laid, until it is dropped.
struct Turn;

impl Turn {
    /// Waits for it.
    fn take() -> Self {
        let laid = LAID.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut laid = LAID.1.wait_while(laid, |laid| *laid >= BEDS).unwrap_or_else(PoisonError::into_inner);
        *laid += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *LAID.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        LAID.1.notify_one();
    }
}

/// Runs a test once more in a network and a mount namespace of its own. `name` is the test's, as the harness knows it. Who is not
/// root becomes it in a user namespace, in which there are no other users: then pods run as that one, whatever they ask for.
pub fn within<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) -> Result<()> {
    // Inside there is this test alone.
    let _turn = Turn::take();
    let as_root =
        if getuid().is_root() { &["--net", "--mount"][..] } else { &["--net", "--mount", "--user", "--map-root-user"] };
    namespaces::within(name, Namespaces { unshare: as_root, setup: SETUP, parts: Parts::Nodes }, test)
}

/// Runs something in the network of a node or a pod, on a thread and a runtime of its own: what it opens there is that one's.
pub async fn enter<T: Send + 'static, F: Future<Output = T>>(
    namespace: &str,
    there: impl FnOnce() -> F + Send + 'static,
) -> Result<T> {
    let path = format!("/run/netns/{namespace}");
    let network = File::open(&path).with_context(|| format!("opening {path}"))?;
    let (over, answer) = oneshot::channel();
    std::thread::Builder::new().name(namespace.to_owned()).spawn(move || {
        let run = || -> Result<T> {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(there()))
        };
        // Who asked may have gone.
        let _ = over.send(run());
    })?;
    answer.await.with_context(|| format!("what ran in {path} panicked"))?
}
