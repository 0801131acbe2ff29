//! What the behaviours are told with: a proxy, scripted engines, a client that sees every byte, and the three drivers.

pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod engine;
pub(crate) mod legs;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod snapshot;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Waits for a condition; what it waits for is said when it does not come.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        // A look each millisecond leaves the core to those who are waited for.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
