//! As much of ZeroMQ's wire protocol (ZMTP 3.x, RFC 37; no security) as it takes to subscribe and to ask.
//!
//! The crate `zeromq` 0.7 was looked at and is not used here: it sets memory aside for whatever length a peer names, ends
//! a connection on libzmq's heartbeats, and hides that a connection was lost, which `trust` has to know. It is what the
//! simulated engine speaks, so that the two are held against each other.

mod connection;
mod frame;
mod greeting;

pub use connection::{Connection, Role};
pub use frame::Frames;

/// Why a peer is not understood.
#[derive(Debug, thiserror::Error)]
pub enum ZmtpError {
    /// The connection.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer speaks something else, or an older version.
    #[error("the peer does not speak ZMTP 3 without security: {0}")]
    Greeting(&'static str),
    /// The peer's socket is of a kind that does not go with ours.
    #[error("the peer's socket is a {0}")]
    Role(String),
    /// The peer refuses us.
    #[error("the peer says: {0}")]
    Refused(String),
    /// Bytes that are not frames.
    #[error("the peer broke the protocol: {0}")]
    Frame(&'static str),
    /// Nothing came in time.
    #[error("the peer has not answered in time")]
    Late,
}

#[cfg(test)]
mod tests;
