//! A connection whose requests must arrive at a pace.
//!
//! The API server keeps connections for 90 seconds without a request, and one that we closed under its next request would fail that request:
//! so a connection may be idle for longer than that. But once a request's first byte is here, the rest of its head has to follow at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Whether a request is being answered, told by whoever answers.
#[derive(Debug, Default)]
pub(super) struct Busy(AtomicBool);

impl Busy {
    pub(super) fn set(&self, busy: bool) {
        self.0.store(busy, Relaxed);
    }
}

/// Ends reads with an error when a head takes too long. A new connection owes its first one.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    busy: Arc<Busy>,
    limit: Duration,
    /// Bytes of a head are here, or owed.
    within_head: bool,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    pub(super) fn new(inner: S, busy: Arc<Busy>, limit: Duration) -> Self {
        Self { inner, busy, limit, within_head: true, deadline: Box::pin(sleep(limit)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.busy.0.load(Relaxed) {
            // The body has a limit of its own, and what comes after it begins anew.
            this.within_head = false;
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Pending if this.within_head => {
                ready!(this.deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Ok(())) if !this.within_head && buf.filled().len() > before => {
                this.within_head = true;
                this.deadline.as_mut().reset(Instant::now() + this.limit);
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Reads one byte, and says after how long.
    async fn read(paced: &mut Paced<impl AsyncRead + Unpin>) -> (io::Result<usize>, Duration) {
        let start = Instant::now();
        let done = paced.read(&mut [0]).await;
        (done, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_owes_its_first_request() {
        let (_peer, ours) = duplex(64);
        let mut paced = Paced::new(ours, Arc::default(), LIMIT);
        let (done, took) = read(&mut paced).await;
        assert_eq!((done.unwrap_err().kind(), took), (io::ErrorKind::TimedOut, LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_began_must_end_and_an_idle_connection_may_stay() {
        let (mut peer, ours) = duplex(64);
        let busy = Arc::new(Busy::default());
        let mut paced = Paced::new(ours, busy.clone(), LIMIT);
        peer.write_all(b"ab").await.unwrap();
        read(&mut paced).await.0.unwrap();
        busy.set(true);
        read(&mut paced).await.0.unwrap();
        busy.set(false);
        // Between requests there is time.
        tokio::time::timeout(LIMIT * 20, read(&mut paced)).await.expect_err("an idle connection was ended");
        peer.write_all(b"c").await.unwrap();
        read(&mut paced).await.0.unwrap();
        let (done, took) = read(&mut paced).await;
        assert_eq!((done.unwrap_err().kind(), took), (io::ErrorKind::TimedOut, LIMIT));
    }
}
