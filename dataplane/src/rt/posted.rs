//! A wait on the reading side that outlives the phases of a connection.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use monoio::buf::SliceMut;
use monoio::io::Canceller;

use super::stream::ReadHalf;

type Pending = Pin<Box<dyn Future<Output = (ReadHalf, PostedOutcome)>>>;

/// How a posted wait ended.
#[derive(Debug)]
pub enum PostedOutcome {
    /// The read ended; `Ok(0)` is the peer's end. The buffer holds what it held before, and the new bytes.
    Read(io::Result<usize>, Vec<u8>),
    /// A read would not wait (or would fail).
    Ready(io::Result<()>),
    /// It was cancelled before anything arrived; the buffer is as it was, empty for a wait for readiness.
    Cancelled(Vec<u8>),
}

/// A pending read or wait for readiness that owns its [`ReadHalf`]. It is a future: poll it beside others as often as
/// needed (by [`super::select2`]), it stays posted. Dropping it gives up bytes that arrive meanwhile.
pub struct PostedRead {
    pending: Pending,
    cancel: Rc<CancelCell>,
}

/// The wish of another task that the posted wait of a connection end.
#[derive(Default)]
pub(super) struct CancelCell {
    wanted: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
    /// Of the last read that nobody cancelled, for the next one: it holds a table that would be made anew.
    spare: Cell<Option<Canceller>>,
}

/// Cancels the posted wait of a connection from another task of its core, such as the sweep.
#[derive(Debug, Clone)]
pub struct ReadCanceller(Rc<CancelCell>);

impl ReadCanceller {
    /// Ends the wait that is posted now: with [`PostedOutcome::Cancelled`], or with what has arrived just before.
    /// Without one it does nothing.
    pub fn cancel(&self) {
        self.0.wanted.set(true);
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for CancelCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelCell").field("wanted", &self.wanted.get()).finish_non_exhaustive()
    }
}

impl CancelCell {
    /// Ready once the wait is to end.
    fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wanted.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl ReadHalf {
    /// What cancels the posted waits of this connection from outside.
    pub fn canceller(&self) -> ReadCanceller {
        ReadCanceller(self.cancel.clone())
    }
}

impl PostedRead {
    pub(super) fn read(half: ReadHalf, buf: SliceMut<Vec<u8>>) -> Self {
        Self::new(half, |half| Box::pin(read(half, buf)))
    }

    pub(super) fn ready(half: ReadHalf) -> Self {
        Self::new(half, |half| Box::pin(ready(half)))
    }

    fn new(half: ReadHalf, pending: impl FnOnce(ReadHalf) -> Pending) -> Self {
        let cancel = half.cancel.clone();
        cancel.wanted.set(false);
        Self { pending: pending(half), cancel }
    }

    /// Makes the wait end soon: await it to get the side back, with what arrived before the cancellation did.
    pub fn cancel(&self) {
        ReadCanceller(self.cancel.clone()).cancel();
    }
}

async fn read(half: ReadHalf, buf: SliceMut<Vec<u8>>) -> (ReadHalf, PostedOutcome) {
    let spare = half.cancel.spare.take().unwrap_or_default();
    let handle = spare.handle();
    let mut canceller = Some(spare);
    let (result, buf) = {
        let mut reading = pin!(half.sock().recv_cancelable(buf, handle));
        poll_fn(|cx| {
            if canceller.is_some() && half.cancel.poll_wanted(cx).is_ready() {
                // The operation is still polled to its end: it may have its bytes already.
                canceller.take().map(Canceller::cancel);
            }
            reading.as_mut().poll(cx)
        })
        .await
    };
    let buf = buf.into_inner();
    let cancelled = canceller.is_none();
    half.cancel.spare.set(canceller);
    let outcome = match result {
        Err(error) if cancelled && error.raw_os_error() == Some(libc::ECANCELED) => PostedOutcome::Cancelled(buf),
        result => PostedOutcome::Read(result, buf),
    };
    (half, outcome)
}

async fn ready(half: ReadHalf) -> (ReadHalf, PostedOutcome) {
    let outcome = {
        let mut waiting = pin!(half.sock().readable());
        poll_fn(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(PostedOutcome::Ready(result)),
            Poll::Pending => half.cancel.poll_wanted(cx).map(|()| PostedOutcome::Cancelled(Vec::new())),
        })
        .await
    };
    (half, outcome)
}

impl Future for PostedRead {
    type Output = (ReadHalf, PostedOutcome);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.pending.as_mut().poll(cx)
    }
}

impl fmt::Debug for PostedRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostedRead").finish_non_exhaustive()
    }
}
