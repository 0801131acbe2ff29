//! Where data planes connect. Plain text stays on loopback, where whoever can connect is believed; anywhere else there is TLS, and who
//! connects proves who it is.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::identify::{Identify, Local};

/// Why it cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Plain text would leave the machine.
    #[error("{0} is not a loopback address, and the stream is plain text without TLS: listen on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The system says no.
    #[error("cannot listen on {0}: {1}")]
    System(SocketAddr, #[source] io::Error),
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    pub(super) wrap: Wrap,
    pub(super) identify: Arc<dyn Identify>,
    address: SocketAddr,
}

/// What is around the bytes of a connection.
#[derive(Clone)]
pub(super) enum Wrap {
    Plain,
    Tls(TlsAcceptor),
}

impl Listener {
    /// Plain text, on loopback only; subscribers are who they say they are.
    pub async fn plain(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        Self::bind(address, Wrap::Plain, Arc::new(Local)).await
    }

    /// TLS, where `config` finds the newest certificate at every handshake, see [`crate::certificates::server_config`], and subscribers that
    /// prove who they are, see [`crate::identity`].
    pub async fn tls(
        address: SocketAddr,
        config: &ServerConfig,
        identify: Arc<dyn Identify>,
    ) -> Result<Self, ListenError> {
        let mut config = config.clone();
        // Whatever else it is used for: here only gRPC is spoken.
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::bind(address, Wrap::Tls(TlsAcceptor::from(Arc::new(config))), identify).await
    }

    async fn bind(address: SocketAddr, wrap: Wrap, identify: Arc<dyn Identify>) -> Result<Self, ListenError> {
        let failed = |error| ListenError::System(address, error);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, wrap, identify, address })
    }

    /// With the port that the kernel chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for Wrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

/// An accepted connection, its handshake done.
pub(super) struct Connection {
    stream: Box<dyn Duplex>,
    link: Link,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

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

/// What a stream has of its connection. All that belongs to a connection holds one, so that its end shows.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) cut: Cut,
    known: watch::Sender<bool>,
}

impl Link {
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        let cut = Cut(Arc::new(stream.as_fd().try_clone_to_owned()?.into()));
        Ok(Self { cut, known: watch::Sender::new(false) })
    }

    /// Of a connection that nothing is served on.
    #[cfg(test)]
    pub(super) fn beside(stream: std::net::TcpStream) -> Self {
        Self { cut: Cut(Arc::new(stream)), known: watch::Sender::new(false) }
    }

    /// It is known now whose connection this is.
    pub(super) fn known(&self) {
        self.known.send_replace(true);
    }

    /// Becomes true once that is known, and closes with the connection.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.known.subscribe()
    }
}

impl Wrap {
    /// Does the handshake, for however long that takes.
    pub(super) async fn wrap(&self, stream: TcpStream, link: Link) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let stream: Box<dyn Duplex> = match self {
            Self::Plain => Box::new(stream),
            Self::Tls(acceptor) => Box::new(acceptor.accept(stream).await?),
        };
        Ok(Connection { stream, link })
    }
}

impl Connected for Connection {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.link.clone()
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
