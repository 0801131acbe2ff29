//! Bytes in memory as hyper's connection, given out no further than allowed, and a way to run hyper until it stands still.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Far more than hyper needs to take all that there is; beyond it, it spins.
const MOST_POLLS: usize = 100_000;

/// One end of a connection: what may be read is known beforehand, what is written is kept.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Rc<RefCell<Pipe>>);

#[derive(Debug)]
struct Pipe {
    bytes: Vec<u8>,
    given: usize,
    allowed: usize,
    ended: bool,
    written: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let pipe = Pipe { bytes: bytes.to_vec(), given: 0, allowed: 0, ended: false, written: Vec::new() };
        Self(Rc::new(RefCell::new(pipe)))
    }

    /// Lets hyper have the bytes before this place.
    pub(crate) fn allow(&self, to: usize) {
        self.0.borrow_mut().allowed = to;
    }

    /// The other side closes after what was allowed.
    pub(crate) fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// How often hyper wrote this.
    pub(crate) fn count_written(&self, text: &[u8]) -> usize {
        memchr::memmem::find_iter(&self.0.borrow().written, text).count()
    }
}

impl Read for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        let pipe = &mut *self.0.borrow_mut();
        let take = (pipe.allowed - pipe.given).min(into.remaining());
        if take == 0 && !pipe.ended {
            // Whoever allows more polls again.
            return Poll::Pending;
        }
        into.put_slice(&pipe.bytes[pipe.given..pipe.given + take]);
        pipe.given += take;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.borrow_mut().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Something of hyper's that runs until its connection ends.
pub(crate) type Running = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls until nothing moves without more bytes; says whether it has ended.
pub(crate) fn settle(running: &mut Running) -> bool {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    for _ in 0..MOST_POLLS {
        if running.as_mut().poll(&mut cx).is_ready() {
            return true;
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            return false;
        }
    }
    panic!("hyper wakes itself for ever");
}
