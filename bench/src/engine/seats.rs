//! Places to run at, with a queue before them: a Triton model's instances, a TorchServe model's workers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Why a request does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody would take it from the queue.
    NoSeats,
    /// As many wait as may.
    Full,
}

#[derive(Debug)]
pub(crate) struct Seats {
    state: Mutex<State>,
    freed: Notify,
    /// Requests that may wait.
    queue: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) seats: usize,
    pub(crate) taken: usize,
    pub(crate) waiting: usize,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat<'s> {
    seats: &'s Seats,
    pub(crate) waited: Duration,
}

impl Seats {
    pub(crate) fn new(seats: usize, queue: usize) -> Self {
        Self { state: Mutex::new(State { seats, taken: 0, waiting: 0 }), freed: Notify::new(), queue }
    }

    /// Waits for a place, behind those who wait already.
    pub(crate) async fn sit(&self) -> Result<Seat<'_>, Refused> {
        let came = Instant::now();
        {
            let mut state = self.lock();
            if state.seats == 0 {
                return Err(Refused::NoSeats);
            }
            if state.taken < state.seats && state.waiting == 0 {
                state.taken += 1;
                return Ok(Seat { seats: self, waited: Duration::ZERO });
            }
            if state.waiting >= self.queue {
                return Err(Refused::Full);
            }
            state.waiting += 1;
        }
        let _queued = Queued(self);
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.lock();
                if state.taken < state.seats {
                    state.taken += 1;
                    return Ok(Seat { seats: self, waited: came.elapsed() });
                }
            }
            freed.await;
        }
    }

    pub(crate) fn state(&self) -> State {
        *self.lock()
    }

    /// From now on there are so many; who sits goes on.
    pub(crate) fn resize(&self, seats: usize) {
        self.lock().seats = seats;
        self.freed.notify_waiters();
    }

    pub(crate) fn queue(&self) -> usize {
        self.queue
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counted as waiting until dropped.
struct Queued<'s>(&'s Seats);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.seats.lock().taken -= 1;
        self.seats.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_sits_one_waits_and_the_third_is_refused() {
        let seats = Seats::new(1, 1);
        let first = seats.sit().await.unwrap();
        let mut second = std::pin::pin!(seats.sit());
        assert!(futures_now(second.as_mut()).is_none());
        assert_eq!(seats.sit().await.unwrap_err(), Refused::Full);
        assert_eq!(seats.state(), State { seats: 1, taken: 1, waiting: 1 });
        drop(first);
        let second = second.await.unwrap();
        assert_eq!(seats.state(), State { seats: 1, taken: 1, waiting: 0 });
        drop(second);
        seats.resize(0);
        assert_eq!(seats.sit().await.unwrap_err(), Refused::NoSeats);
    }

    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
