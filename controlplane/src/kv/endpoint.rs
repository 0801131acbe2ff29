//! Where an engine publishes, as it says so itself: `tcp://10.0.0.1:5557`, `tcp://*:5557`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host and a port that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
}

/// Why an endpoint cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is reached otherwise than by TCP.
    #[error("{0:?} is not of the form tcp://HOST:PORT")]
    Form(String),
    /// It is reached from within the engine's machine only.
    #[error("{0:?} cannot be reached from outside the engine's machine")]
    Local(String),
    /// The rank's port would be beyond the last.
    #[error("rank {0} has no port after {1}")]
    Rank(u32, u16),
}

impl Endpoint {
    /// What an engine at this address means by a text. Any address (`*`) is the engine's own. A loopback address is
    /// one of the engine's machine, not of ours.
    pub fn parse(text: &str, engine: IpAddr) -> Result<Self, EndpointError> {
        let form = || EndpointError::Form(text.to_owned());
        let place = text.strip_prefix("tcp://").ok_or_else(form)?;
        let (host, port) = place.rsplit_once(':').ok_or_else(form)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address: Option<IpAddr> = bare.parse().ok();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        match address {
            Some(address) if address.is_loopback() && !engine.is_loopback() => {
                Err(EndpointError::Local(text.to_owned()))
            }
            Some(address) if !address.is_unspecified() => Ok(Self::of(address, port)),
            Some(_) => Ok(Self::of(engine, port)),
            None if bare == "*" => Ok(Self::of(engine, port)),
            None if bare == "localhost" && !engine.is_loopback() => Err(EndpointError::Local(text.to_owned())),
            None if !bare.is_empty() && bare.bytes().all(plain) => Ok(Self { host: bare.into(), port }),
            None => Err(form()),
        }
    }

    /// An address and a port.
    pub fn of(address: IpAddr, port: u16) -> Self {
        Self { host: address.to_string().into(), port }
    }

    /// Where the engine's data-parallel rank publishes, if rank 0 does so here.
    pub fn of_rank(&self, rank: u32) -> Result<Self, EndpointError> {
        let port = u16::try_from(rank).ok().and_then(|rank| self.port.checked_add(rank));
        let port = port.ok_or(EndpointError::Rank(rank, self.port))?;
        Ok(Self { host: self.host.clone(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<Ipv6Addr>() {
            Ok(_) => write!(f, "tcp://[{}]:{}", self.host, self.port),
            Err(_) => write!(f, "tcp://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, engine: &str, expected: &str) {
        let found = Endpoint::parse(text, engine.parse().unwrap());
        let found = found.map_or_else(|error| error.to_string(), |endpoint| endpoint.to_string());
        assert!(found.contains(expected), "{text}: {found}");
    }

    #[test]
    fn a_place_is_meant_as_the_engine_sees_it() {
        check("tcp://10.0.0.9:5557", "10.0.0.1", "tcp://10.0.0.9:5557");
        check("tcp://*:5557", "10.0.0.1", "tcp://10.0.0.1:5557");
        check("tcp://0.0.0.0:1", "10.0.0.1", "tcp://10.0.0.1:1");
        check("tcp://[::]:5557", "fd00::1", "tcp://[fd00::1]:5557");
        check("tcp://pod-0.svc:5557", "10.0.0.1", "tcp://pod-0.svc:5557");
        check("tcp://127.0.0.1:5557", "127.0.0.3", "tcp://127.0.0.1:5557");
    }

    #[test]
    fn what_cannot_be_dialled_says_why() {
        check("tcp://127.0.0.1:5557", "10.0.0.1", "from outside");
        check("tcp://localhost:5557", "10.0.0.1", "from outside");
        for text in ["ipc:///tmp/x", "inproc://x", "tcp://*", "tcp://:5", "tcp://h:0", "tcp://h:70000", "tcp://a b:5"] {
            check(text, "10.0.0.1", "is not of the form");
        }
    }

    #[test]
    fn ranks_publish_on_ports_in_a_row() {
        let base = Endpoint { host: "h".into(), port: 65_534 };
        assert_eq!(base.of_rank(1).unwrap().port, 65_535);
        assert_eq!(base.of_rank(2), Err(EndpointError::Rank(2, 65_534)));
        assert!(base.of_rank(u32::MAX).is_err());
    }
}
