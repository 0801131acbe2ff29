//! Where data planes connect, and who they are. The stream is plain text so far, so it stays on loopback: a listener
//! anywhere else is refused. TLS under our own CA and projected tokens come in here: TLS as another kind of listener,
//! tokens as another [`Identify`], which finds the node and the pod in the token's claims.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::proto::Subscribe;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::server::Connected;

/// Why it cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Plain text would leave the machine.
    #[error("{0} is not a loopback address: the stream is plain text until it has TLS, listen on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The system says no.
    #[error("cannot listen on {0}: {1}")]
    System(SocketAddr, #[source] io::Error),
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Plain text, on loopback only.
    pub async fn plain(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        let failed = |error| ListenError::System(address, error);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// With the port that the kernel chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    cut: Cut,
}

/// Cuts a connection off under the HTTP/2 layer, which would wait for ever for a peer that answers pings but reads
/// nothing, and hold what it has for it.
#[derive(Debug, Clone)]
pub(super) struct Cut(Arc<std::net::TcpStream>);

impl Cut {
    pub(super) fn cut(&self) {
        // An error means that it is closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let cut = Cut(Arc::new(stream.as_fd().try_clone_to_owned()?.into()));
        Ok(Self { stream, cut })
    }
}

impl Connected for Connection {
    type ConnectInfo = Cut;

    fn connect_info(&self) -> Cut {
        self.cut.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who a subscriber is, as far as it was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node that it runs on.
    pub node: String,
    /// The namespace of its pod.
    pub namespace: String,
}

/// Finds out who subscribes.
pub trait Identify: fmt::Debug + Send + Sync + 'static {
    /// From what came with the call and what the subscriber says of itself; a status refuses it.
    fn identify(&self, metadata: &MetadataMap, subscribe: &Subscribe) -> Result<Identity, Status>;
}

/// On loopback whoever can connect runs on this machine, and is believed.
#[derive(Debug, Clone, Copy)]
pub struct Local;

impl Identify for Local {
    fn identify(&self, _: &MetadataMap, subscribe: &Subscribe) -> Result<Identity, Status> {
        Ok(Identity { node: subscribe.node.clone(), namespace: subscribe.namespace.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_text_does_not_leave_the_machine() {
        for address in ["0.0.0.0:0", "[::]:0", "10.1.2.3:0"] {
            let refused = Listener::plain(address.parse().unwrap()).await.unwrap_err();
            assert!(refused.to_string().contains("not a loopback address"), "{refused}");
        }
        let bound = Listener::plain("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(bound.address().port(), 0);
    }
}
