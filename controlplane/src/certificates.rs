//! Our own certificates: made, kept in a Secret, renewed and rotated while everything runs.
//!
//! The Secret is the one truth. It holds a bundle of CA certificates, the key of the newest of them, and one leaf with its key. `held` reads
//! it into facts, `plan` says what is due, `issue` makes the Secret's next contents, and `keep` is the loop around them: it looks every
//! half minute ([`Times`]), writes by server-side apply with the resourceVersion that it looked at, so that of two replicas that write at once one
//! loses and looks again, and copies the bundle to where clients find it (`publish`). All replicas follow the Secret; none needs more than get
//! and patch of objects by name.
//!
//! Where somebody else makes them ([`Issuer::Other`]), the Secret is followed: what it holds is served from the next look on, and what it
//! holds as `ca.crt` goes where our own bundle would, unless it does not verify what is served (`trust`): then the last good contents stay. Nothing of
//! it is written by us, and what is due is not ours to say.
//!
//! A CA is replaced in three steps, and between them clients and replicas have time to follow: a second CA joins the bundle; the leaf is
//! signed by it; the first one goes. Whoever trusts the bundle from before a step verifies what is served after it.

mod held;
mod issue;
mod keep;
mod plan;
mod publish;
mod times;
mod tls;
mod trust;

use std::collections::BTreeSet;
use std::fmt;

pub use keep::{Certificates, keep};
pub use times::Times;
pub use tls::server_config;

/// How certificates are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where Secret and ConfigMap are.
    pub namespace: String,
    /// The Secret; it exists, empty at first.
    pub secret: String,
    /// ValidatingWebhookConfigurations that get the bundle, in every one of their webhooks.
    pub webhooks: Vec<String>,
    /// A ConfigMap that gets the bundle as `ca.crt`, for the data planes; it exists.
    pub config_map: Option<String>,
    /// Names and addresses that the leaf is for.
    pub hosts: BTreeSet<String>,
    /// Who makes them.
    pub issuer: Issuer,
}

/// Who makes the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// We do, for such times.
    Own(Times),
    /// Somebody else, as cert-manager: the Secret is followed and never written. Its `ca.crt` is brought to the same places as our own.
    Other,
}

/// The names of a Service, as API servers and pods call it.
pub fn service_names(service: &str, namespace: &str) -> BTreeSet<String> {
    let suffixes = ["", ".svc", ".svc.cluster.local"];
    suffixes.iter().map(|suffix| format!("{service}.{namespace}{suffix}")).collect()
}

/// What the Secret holds, as PEM; the names are its keys.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Contents {
    /// `ca.crt`: what clients are to trust, the newest CA last.
    pub(crate) bundle: String,
    /// `ca.key`, of the newest CA.
    pub(crate) ca_key: String,
    /// `tls.crt`
    pub(crate) chain: String,
    /// `tls.key`
    pub(crate) key: String,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the keys.
        f.debug_struct("Contents").field("bundle", &self.bundle).field("chain", &self.chain).finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
