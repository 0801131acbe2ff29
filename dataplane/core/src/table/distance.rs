//! How far an endpoint is from this proxy.

use api::snapshot::Endpoint;

/// Where something runs; what is not known is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The node's name.
    pub node: Option<Box<str>>,
    /// The zone's name.
    pub zone: Option<Box<str>>,
}

/// Nearest first. Where the proxy's own place is not known, all are equally far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Distance {
    /// On the same node.
    Node,
    /// In the same zone.
    Zone,
    /// Elsewhere, or nobody says where.
    #[default]
    Far,
}

impl Place {
    /// The distance from here to an endpoint.
    pub fn to(&self, endpoint: &Endpoint) -> Distance {
        let same = |ours: &Option<Box<str>>, theirs: Option<&str>| ours.is_some() && ours.as_deref() == theirs;
        if same(&self.node, endpoint.node.as_deref()) {
            Distance::Node
        } else if same(&self.zone, endpoint.zone.as_deref()) {
            Distance::Zone
        } else {
            Distance::Far
        }
    }
}
