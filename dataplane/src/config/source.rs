//! Where the snapshot comes from: a file, or a control plane.

use std::net::SocketAddr;
use std::path::PathBuf;

use dataplane_core::table::Place;

use super::Address;

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
        match self {
            Self::File(_) => Place::default(),
            Self::ControlPlane(control_plane) => control_plane.place(&control_plane.zone),
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
    /// How it is spoken to.
    pub transport: Transport,
    /// Where the last good snapshot is kept, to start from while the control plane is away. None: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The node that this process runs on, where no token says so.
    pub node: String,
    /// Its zone; empty where only the control plane knows it.
    pub zone: String,
    /// The namespace of this process's pod, where no token says so; empty outside Kubernetes.
    pub namespace: String,
}

/// How a control plane is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// In plain text, on loopback.
    Plain,
    /// By TLS.
    Tls(Tls),
}

/// What TLS needs. The files are read anew for each stream, for both are replaced while this process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificates, as PEM, of those who may have signed the control plane's.
    pub ca_file: PathBuf,
    /// The token that says who this process is.
    pub token_file: PathBuf,
    /// The name that the control plane's certificate is for.
    pub server_name: String,
}

impl ControlPlane {
    /// Where this process runs, if this is the zone.
    pub fn place(&self, zone: &str) -> Place {
        let known = |name: &str| Some(name).filter(|name| !name.is_empty()).map(Into::into);
        Place { node: known(&self.node), zone: known(zone) }
    }

    /// On loopback, without a state directory, node and zone unknown: for tests and tools.
    pub fn at(address: SocketAddr) -> Self {
        let address = Address { host: address.ip().to_string(), port: address.port() };
        let (node, zone, namespace) = Default::default();
        Self { address, transport: Transport::Plain, state_dir: None, node, zone, namespace }
    }
}
