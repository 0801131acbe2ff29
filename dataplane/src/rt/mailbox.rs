//! A bounded queue from any thread to one core.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crossbeam::queue::ArrayQueue;
use futures_util::task::AtomicWaker;

struct Shared<T> {
    queue: ArrayQueue<T>,
    reader: AtomicWaker,
}

/// The sending side; any thread may hold a clone.
pub struct Post<T>(Arc<Shared<T>>);

/// The receiving side; belongs to one task of one core.
pub struct Inbox<T>(Arc<Shared<T>>);

/// A queue of at most `capacity` values (at least one).
pub fn mailbox<T>(capacity: usize) -> (Post<T>, Inbox<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(capacity.max(1)), reader: AtomicWaker::new() });
    (Post(shared.clone()), Inbox(shared))
}

impl<T> Post<T> {
    /// Queues `value` and wakes the core if it waits. A full queue gives the value back.
    pub fn post(&self, value: T) -> Result<(), T> {
        self.0.queue.push(value)?;
        self.0.reader.wake();
        Ok(())
    }

    /// How many values wait.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }
}

impl<T> Inbox<T> {
    /// Waits for the next value. Giving up the wait loses nothing.
    pub async fn recv(&mut self) -> T {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next value, if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Polls for the next value.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.0.queue.pop() {
            return Poll::Ready(value);
        }
        self.0.reader.register(cx.waker());
        // Asked again, for a value may have come between the first look and the registration.
        self.0.queue.pop().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Post<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("len", &self.len()).finish()
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("len", &self.0.queue.len()).finish()
    }
}
