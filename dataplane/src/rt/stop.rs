//! Telling the tasks of one core to stop.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct Shared {
    stopped: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// A flag of one core that can be waited for. Clones share it.
#[derive(Clone, Default)]
pub struct StopToken(Rc<Shared>);

impl StopToken {
    /// A token that nobody has stopped yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops: every wait of [`StopToken::stopped`] ends, now and later.
    pub fn stop(&self) {
        self.0.stopped.set(true);
        for waker in self.0.waiting.take() {
            waker.wake();
        }
    }

    /// Whether [`StopToken::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.get()
    }

    /// Waits for [`StopToken::stop`].
    pub fn stopped(&self) -> impl Future<Output = ()> + Unpin + use<> {
        let token = self.clone();
        poll_fn(move |cx| token.poll_stopped(cx))
    }

    /// One waker per task is kept, so the list is no longer than the number of tasks that wait.
    fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_stopped() {
            return Poll::Ready(());
        }
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for StopToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StopToken").field(&self.is_stopped()).finish()
    }
}
