//! Addresses of nodes and pods: 127.B.0.0/16 for one kubelet, so that several test runs share a machine. EndpointSlices refuse such
//! addresses, so where these matter the machine's network is the test's own, and all of 10.77.0.0/16 is its.

use std::cell::Cell;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};

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
}

#[derive(Debug)]
pub(super) struct Block {
    /// The first two octets.
    prefix: [u8; 2],
    given: Cell<u32>,
    _claim: TcpListener,
}

impl Block {
    /// One that no other kubelet has, sought from `seed` on.
    pub(super) fn claim(network: Network, seed: u32) -> Result<Self> {
        if network == Network::Private {
            let claim = TcpListener::bind((Ipv4Addr::new(10, 77, 0, 1), KUBELET_PORT));
            let claim = claim.context("10.77.0.1 is no address of this machine, or another kubelet has it")?;
            return Ok(Self { prefix: [10, 77], given: Cell::new(0), _claim: claim });
        }
        for n in 0..LAST {
            let octet = host(seed.wrapping_add(n));
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, octet, 0, 1), KUBELET_PORT)) {
                return Ok(Self { prefix: [127, octet], given: Cell::new(0), _claim: claim });
            }
        }
        bail!("every block of loopback addresses is taken: port {KUBELET_PORT} at 127.1.0.1 to 127.{LAST}.0.1")
    }

    pub(super) fn node(&self, index: usize) -> Ipv4Addr {
        let [a, b] = self.prefix;
        Ipv4Addr::new(a, b, 0, host(u32::try_from(index).unwrap_or_default()))
    }

    /// The next one. Each is given once in 64,516 pods.
    pub(super) fn pod(&self) -> Ipv4Addr {
        let n = self.given.replace(self.given.get().wrapping_add(1));
        let [a, b] = self.prefix;
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
        assert!((0..LAST * LAST).all(|_| seen.insert(block.pod())));
    }
}
