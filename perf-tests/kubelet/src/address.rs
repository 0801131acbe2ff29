//! Addresses of nodes and pods: 127.B.0.0/16 for one kubelet, so that several test runs share a machine. EndpointSlices refuse such
//! addresses, so where these matter the machine's network is the test's own, and all of 10.77.0.0/16 is its, or it has a bed of nodes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use anyhow::{Context, Result, bail};

use crate::plan;

/// The real kubelet's. Nothing is served there: that it is taken is what claims the block.
const KUBELET_PORT: u16 = 10250;
const LAST: u32 = 254;

/// What addresses pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Of loopback. Services stay empty.
    Loopback,
    /// Of 10.77.0.0/16, all of which is this machine's: `ip route add local 10.77.0.0/16 dev lo`. For one kubelet at a time.
    Private,
    /// Of a bed of nodes, with a network each. For one kubelet at a time.
    Nodes,
}

/// Of a pod or a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) four: Ipv4Addr,
    /// Where the bed has both families.
    pub(super) six: Option<Ipv6Addr>,
}

impl Addresses {
    /// IPv6 comes first where there are both, for what has one family alone has IPv4: so each is tested as the first.
    pub(super) fn all(self) -> Vec<IpAddr> {
        self.six.map(IpAddr::from).into_iter().chain([self.four.into()]).collect()
    }

    pub(super) fn first(self) -> IpAddr {
        self.six.map_or(self.four.into(), IpAddr::from)
    }

    pub(super) fn listed(self) -> String {
        self.all().iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
    }
}

#[derive(Debug)]
pub(super) struct Block {
    /// The first two octets, where it is one block for all.
    prefix: Option<[u8; 2]>,
    /// By node; of one block all belong to the first.
    given: RefCell<BTreeMap<usize, u32>>,
    _claim: TcpListener,
}

impl Block {
    /// One that no other kubelet has, sought from `seed` on.
    pub(super) fn claim(network: Network, seed: u32) -> Result<Self> {
        let of = |prefix, claim| Self { prefix, given: RefCell::default(), _claim: claim };
        if network == Network::Nodes {
            let claim = TcpListener::bind((plan::BED, KUBELET_PORT));
            return Ok(of(None, claim.context("there is no bed of nodes here, or another kubelet has it")?));
        }
        if network == Network::Private {
            let claim = TcpListener::bind((Ipv4Addr::new(10, 77, 0, 1), KUBELET_PORT));
            let claim = claim.context("10.77.0.1 is no address of this machine, or another kubelet has it")?;
            return Ok(of(Some([10, 77]), claim));
        }
        for n in 0..LAST {
            let octet = host(seed.wrapping_add(n));
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, octet, 0, 1), KUBELET_PORT)) {
                return Ok(of(Some([127, octet]), claim));
            }
        }
        bail!("every block of loopback addresses is taken: port {KUBELET_PORT} at 127.1.0.1 to 127.{LAST}.0.1")
    }

    pub(super) fn node(&self, index: usize) -> Ipv4Addr {
        let Some([a, b]) = self.prefix else { return plan::node(index) };
        Ipv4Addr::new(a, b, 0, host(u32::try_from(index).unwrap_or_default()))
    }

    /// The next one of a node. Each is given once in 64,516 pods, of a bed's node once in 253.
    pub(super) fn pod(&self, node: usize) -> Ipv4Addr {
        let mut given = self.given.borrow_mut();
        let next = given.entry(if self.prefix.is_some() { 0 } else { node }).or_default();
        let n = *next;
        *next = n.wrapping_add(1);
        let Some([a, b]) = self.prefix else { return plan::pod(node, n) };
        Ipv4Addr::new(a, b, host(n / LAST), host(n))
    }
}

/// From 1 to 254: no part of an address is all zeros or all ones.
fn host(n: u32) -> u8 {
    u8::try_from(n % LAST + 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn claim(seed: u32) -> Block {
        Block::claim(Network::Loopback, seed).unwrap()
    }

    #[test]
    fn two_kubelets_have_blocks_of_their_own() {
        let (one, other) = (claim(7), claim(7));
        assert_ne!(one.prefix, other.prefix);
    }

    #[test]
    fn no_pod_has_the_address_of_another_or_of_a_node() {
        let block = claim(100);
        let mut seen: BTreeSet<_> = (0..10).map(|index| block.node(index)).collect();
        assert!((0..LAST * LAST).all(|_| seen.insert(block.pod(0))));
    }
}
