//! Where the snapshot comes from: a file, or a control plane.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use dataplane_core::table::Place;

/// One of the two.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, watched.
    File(PathBuf),
    /// A stream.
    ControlPlane(ControlPlane),
}

impl Source {
    /// Where this process runs, as far as that was said: endpoints there are preferred at equal cost.
    pub fn place(&self) -> Place {
        let known = |name: &str| Some(name).filter(|name| !name.is_empty()).map(Into::into);
        match self {
            Self::File(_) => Place::default(),
            Self::ControlPlane(ControlPlane { node, zone, .. }) => Place { node: known(node), zone: known(zone) },
        }
    }
}

impl From<PathBuf> for Source {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

impl From<ControlPlane> for Source {
    fn from(control_plane: ControlPlane) -> Self {
        Self::ControlPlane(control_plane)
    }
}

/// The control plane, and how this data plane presents itself to it.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// Where it listens.
    pub address: Address,
    /// Where the last good snapshot is kept, to start from while the control plane is away. None: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The node that this process runs on.
    pub node: String,
    /// Its zone; empty where only the control plane knows it.
    pub zone: String,
    /// The namespace of this process's pod; empty outside Kubernetes.
    pub namespace: String,
}

impl ControlPlane {
    /// Without a state directory, node and zone unknown: for tests and tools.
    pub fn at(address: SocketAddr) -> Self {
        let address = Address { host: address.ip().to_string(), port: address.port() };
        Self { address, state_dir: None, node: String::new(), zone: String::new(), namespace: String::new() }
    }
}

/// A control plane's address. Plain text, so only on loopback until the stream has TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Address {
    /// Reads `HOST:PORT`; the error is a sentence.
    pub fn parse(typed: &str) -> Result<Self, String> {
        if typed.starts_with("https://") {
            return Err(format!("`{typed}` asks for TLS, which the stream does not have yet; use a loopback address"));
        }
        let form = || format!("`{typed}` is not an address; write HOST:PORT, as 127.0.0.1:15010");
        let (host, port) = typed.trim_start_matches("http://").rsplit_once(':').ok_or_else(form)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        if host.is_empty() || host.contains('/') || (bare.is_none() && host.contains(':')) {
            return Err(form());
        }
        if host != "localhost" && !host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) {
            return Err(format!(
                "`{host}` is not on this machine, and the stream is plain text until it has TLS; use a loopback address"
            ));
        }
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, expected: Result<&str, &str>) {
        match (Address::parse(typed), expected) {
            (Ok(address), Ok(expected)) => assert_eq!(address.to_string(), expected),
            (Err(sentence), Err(expected)) => assert!(sentence.contains(expected), "{sentence}"),
            (got, _) => panic!("{typed}: {got:?}"),
        }
    }

    #[test]
    fn only_what_stays_on_the_machine_is_taken() {
        check("127.0.0.1:15010", Ok("127.0.0.1:15010"));
        check("http://127.0.0.9:1", Ok("127.0.0.9:1"));
        check("[::1]:15010", Ok("[::1]:15010"));
        check("localhost:15010", Ok("localhost:15010"));
        check("10.0.0.1:15010", Err("not on this machine"));
        check("localhost.example.com:15010", Err("not on this machine"));
        check("https://127.0.0.1:15010", Err("TLS"));
    }

    #[test]
    fn what_is_no_address_says_how_one_is_written() {
        for typed in ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", "::1:15010", ":15010", "127.0.0.1/a:15010", ""] {
            check(typed, Err("HOST:PORT"));
        }
    }
}
