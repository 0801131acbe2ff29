//! Who a data plane is: its pod's projected service account token says so.
//!
//! The token is verified here (`token`, `keys`, `claims`: pure), by what the API server says of itself and what is kept of that (`known`,
//! `asked`, and `keep`, the loop that asks). So data planes can prove who they are while the API server is away, also past the end of a
//! token that nobody can renew meanwhile (`contact`), and a fleet that comes back costs it nothing. What a token is no proof of is that its
//! pod still exists: it holds to its end, which of projected ones comes after an hour unless the pod asks for another time, or past it.
//! That its service account still exists is looked at as often as the keys are.

mod asked;
mod claims;
mod contact;
mod keep;
mod keys;
mod known;
mod token;
mod verify;

use std::collections::BTreeSet;
use std::time::Duration;

pub use asked::{Asked, Clock, Look};
pub use contact::{Moment, PAST_ITS_END, RENEWAL};
pub use keep::keep;
pub use keys::{Keys, KeysError};
pub use known::{Accounts, Known};
pub use verify::Proofs;

/// What data planes' tokens are for, and nobody else's.
pub const AUDIENCE: &str = "kthena-controlplane";

/// Whom to believe.
#[derive(Debug, Clone)]
pub struct Options {
    /// What tokens have to be for.
    pub audience: String,
    /// The namespace of the data planes' service accounts.
    pub namespace: String,
    /// Their names.
    pub service_accounts: BTreeSet<String>,
    /// Between two looks at what the API server says.
    pub refresh: Duration,
    /// The time of day, by which tokens end.
    pub clock: Clock,
}

impl Options {
    /// For data planes that run as these service accounts.
    pub fn new<'a>(namespace: &str, service_accounts: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            audience: AUDIENCE.to_owned(),
            namespace: namespace.to_owned(),
            service_accounts: service_accounts.into_iter().map(str::to_owned).collect(),
            refresh: Duration::from_secs(60),
            clock: Clock::default(),
        }
    }
}

/// Why a token proves nothing. The sentences go to whoever showed it: they say what to do, and nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no token: send `authorization: Bearer TOKEN` with the pod's token (--control-plane-token)")]
    Missing,
    #[error("more than one authorization")]
    Several,
    #[error("the authorization is no bearer token")]
    NoToken,
    #[error("the token is signed in a way that is not accepted here: RS256 and ES256 are")]
    Algorithm,
    #[error("the token is signed by a key that this cluster's API server does not list: is it of another cluster?")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token's issuer is not this cluster's API server")]
    Issuer,
    #[error(
        "the token is for another audience: project one with the audience of the control plane ({AUDIENCE} unless set otherwise)"
    )]
    Audience,
    #[error("the token has expired, and the kubelet renews it: is the file read anew, and is the node's clock right?")]
    Expired,
    #[error("the token is not valid yet: is the node's clock right?")]
    TooEarly,
    #[error("the token is of a service account that may not connect here")]
    Account,
    #[error("the token's service account was deleted, and perhaps made anew: restart the pod")]
    AccountGone,
    #[error("the token is not bound to a pod that runs on a node: use a projected service account token")]
    Unbound,
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
