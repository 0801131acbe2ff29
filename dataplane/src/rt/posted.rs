//! A read that outlives the phases of a connection.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use monoio::buf::SliceMut;
use monoio::io::Canceller;

use super::stream::ReadHalf;

type Pending = Pin<Box<dyn Future<Output = (ReadHalf, PostedOutcome)>>>;

/// How a posted read ended.
#[derive(Debug)]
pub enum PostedOutcome {
    /// The read ended; `Ok(0)` is the peer's end. The buffer holds what it held before, and the new bytes.
    Read(io::Result<usize>, Vec<u8>),
    /// It was cancelled before anything arrived; the buffer is as it was.
    Cancelled(Vec<u8>),
}

/// A pending read that owns its [`ReadHalf`]. It is a future: poll it beside others as often as needed (by [`super::select2`]), it stays posted, and a poll that nothing has happened since is one load. Dropping it
/// gives up bytes that arrive meanwhile.
pub struct PostedRead {
    pending: Pending,
    cancel: Rc<CancelCell>,
    /// Where its wake-ups arrive once it was polled.
    bell: Option<Bell>,
}

/// What wakes the task of a connection, and remembers that it did: a task that waits for something else as well is woken for
/// that as a rule, and need not look at the posted wait then.
#[derive(Clone)]
struct Bell {
    rung: Arc<Rung>,
    /// Rings it.
    waker: Waker,
}

struct Rung {
    /// Of this core alone: a waker has to be `Sync`.
    since: AtomicBool,
    task: Waker,
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.since.store(true, Relaxed);
        self.task.wake_by_ref();
    }
}

impl Bell {
    fn of(task: &Waker) -> Self {
        let rung = Arc::new(Rung { since: AtomicBool::new(false), task: task.clone() });
        let waker = Waker::from(rung.clone());
        Self { rung, waker }
    }

    /// Whether it rang since it was asked last.
    fn rang(&self) -> bool {
        let rang = self.rung.since.load(Relaxed);
        if rang {
            self.rung.since.store(false, Relaxed);
        }
        rang
    }

    fn wakes(&self, task: &Waker) -> bool {
        self.rung.task.will_wake(task)
    }
}

/// The wish of another task that the posted wait of a connection end.
#[derive(Default)]
pub(super) struct CancelCell {
    wanted: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
    /// Of the last read that nobody cancelled, for the next one: it holds a table that would be made anew.
    spare: Cell<Option<Canceller>>,
    /// Of the last wait, for the next one, which the same task polls.
    bell: Cell<Option<Bell>>,
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
    pub(super) fn new(half: ReadHalf, buf: SliceMut<Vec<u8>>) -> Self {
        let cancel = half.cancel.clone();
        cancel.wanted.set(false);
        Self { pending: Box::pin(read(half, buf)), cancel, bell: None }
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

impl Future for PostedRead {
    type Output = (ReadHalf, PostedOutcome);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let bell = match &this.bell {
            Some(bell) if bell.wakes(cx.waker()) => {
                if !bell.rang() {
                    return Poll::Pending;
                }
                bell
            }
            // Polled for the first time, or by another task than before.
            _ => {
                let kept = this.cancel.bell.take().filter(|bell| bell.wakes(cx.waker()));
                this.bell.insert(kept.unwrap_or_else(|| Bell::of(cx.waker())))
            }
        };
        let polled = this.pending.as_mut().poll(&mut Context::from_waker(&bell.waker));
        if polled.is_ready() {
            this.cancel.bell.set(this.bell.take());
        }
        polled
    }
}

impl fmt::Debug for PostedRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostedRead").finish_non_exhaustive()
    }
}
