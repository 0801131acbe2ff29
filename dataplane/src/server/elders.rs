//! Who listened at our address before us. Of two processes that share one, as a pod and its successor on a node do, the kernel keeps the elder's
//! listeners first, and whoever ends passes new connections on to the other by its place.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

/// `st` of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Their sockets.
#[derive(Debug)]
pub(crate) struct Elders {
    address: SocketAddr,
    inodes: Vec<u64>,
}

impl Elders {
    /// Those who listen now, when we do not yet. Where the kernel's table cannot be read there are none.
    pub(crate) fn now(address: SocketAddr) -> Self {
        Self { address, inodes: listeners(address) }
    }

    /// Whether one of them listens still.
    pub(crate) fn stay(&self) -> bool {
        !self.inodes.is_empty() && listeners(self.address).iter().any(|inode| self.inodes.contains(inode))
    }
}

fn listeners(address: SocketAddr) -> Vec<u64> {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    File::open(table).map(|table| read(BufReader::new(table), address)).unwrap_or_default()
}

/// Listeners come first in the table, so that however many connections there are nothing is read of them.
fn read(table: impl BufRead, address: SocketAddr) -> Vec<u64> {
    let local = local(address);
    let mut found = Vec::new();
    for line in table.lines().skip(1).map_while(Result::ok) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (at, state) = (fields.next(), fields.nth(1));
        if state != Some(LISTENS) {
            break;
        }
        if at == Some(&local) {
            found.extend(fields.nth(5).and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    found
}

/// As it stands there: words in the machine's order.
fn local(address: SocketAddr) -> String {
    let hex = |bytes: &[u8]| -> String {
        let word = |four: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*four));
        bytes.as_chunks::<4>().0.iter().map(word).collect()
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => hex(&ip.octets()),
        IpAddr::V6(ip) => hex(&ip.octets()),
    };
    format!("{ip}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41 1 0 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1 0 100 0 0 10 0
   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 43 1 0 100 0 0 10 0
   3: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 44 1 0 100 0 0 10 0
   4: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 45 1 0 100 0 0 10 0
   5: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 46 1 0 100 0 0 10 0
";

    #[test]
    fn the_kernels_table_tells_who_listens_at_an_address() {
        let check = |address: &str, expected: &[u64]| {
            assert_eq!(read(TABLE.as_bytes(), address.parse().unwrap()), expected, "{address}");
        };
        check("127.0.0.1:8080", &[41, 43]);
        check("0.0.0.0:8080", &[42]);
        check("127.0.0.1:8081", &[44]);
        check("127.0.0.2:8080", &[]);
        assert_eq!(local("[::1]:8080".parse().unwrap()), "00000000000000000000000001000000:1F90");
    }

    #[test]
    fn an_elder_stays_until_it_listens_no_more() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(elder) = TcpListener::bind(host) else {
                let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: this machine has no {host}");
                continue;
            };
            let elders = Elders::now(elder.local_addr().unwrap());
            assert!(elders.stay(), "{elders:?}");
            drop(elder);
            let _next = TcpListener::bind(elders.address).unwrap();
            assert!(!elders.stay(), "who comes after is none: {elders:?}");
        }
    }
}
