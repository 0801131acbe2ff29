//! Pods, without the nine tenths of them that nobody here reads.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::ObjectName;

/// A pod as the publisher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `namespace/name`.
    pub name: ObjectName,
    /// A pod made anew under the same name has another one.
    pub uid: Arc<str>,
    /// Selected by.
    pub labels: BTreeMap<String, String>,
    /// Where it runs, once it is scheduled.
    pub node: Option<Arc<str>>,
    /// The primary address first; a dual-stack pod has one of each family.
    pub ips: Vec<IpAddr>,
    /// Whether it may be sent requests.
    pub life: Life,
    /// When its node took it, for people; none before it has an address, so that it is no news by itself.
    pub started: Option<Timestamp>,
}

/// Where a pod stands between creation and end. Only `Ready` takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Life {
    /// Running, its condition Ready is true, and nobody has asked it to end.
    Ready,
    /// Running, but its condition Ready is not true.
    NotReady,
    /// Not running yet.
    Pending,
    /// It has ended by itself.
    Ended,
    /// It was deleted and is on its way out.
    Terminating,
}

impl Pod {
    /// The address that requests go to: the first that a connection can be made to.
    pub fn address(&self) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| !ip.is_unspecified() && !ip.is_multicast())
    }
}
