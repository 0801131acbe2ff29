//! A TCP stream that hyper reads and writes while the handler of a request can also write raw bytes to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::ReadBufCursor;
use tokio::net::TcpStream;

/// The stream and bytes that were read from it before hyper took over.
#[derive(Debug)]
pub(crate) struct SharedStream {
    stream: Arc<TcpStream>,
    before: Bytes,
}

impl SharedStream {
    pub(crate) fn new(stream: Arc<TcpStream>, before: Bytes) -> Self {
        Self { stream, before }
    }
}

impl hyper::rt::Read for SharedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.before.has_remaining() {
            let taken = self.before.len().min(buf.remaining());
            buf.put_slice(&self.before.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        let mut piece = [0; 16 << 10];
        let wanted = piece.len().min(buf.remaining());
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(&mut piece[..wanted]) {
                Ok(read) => {
                    buf.put_slice(&piece[..read]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl hyper::rt::Write for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the socket, which follows, says the same; after SO_LINGER 0 a FIN before the RST would be wrong.
        Poll::Ready(Ok(()))
    }
}

/// Writes all bytes past hyper.
pub(crate) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns once the peer has closed or reset; never while it has sent bytes that no one read.
pub(crate) async fn peer_left(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0; 1]).await {
        std::future::pending::<()>().await;
    }
}

/// Makes the coming close a reset.
pub(crate) fn linger_zero(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
