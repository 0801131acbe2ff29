//! Connections that have idled for a second. What is left of one is a line in a table: no task, no buffer, no operation of its own. One task
//! of the core waits for all of them and makes connections of those whose clients speak, or leave.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::connection;
use super::watch::Waiting;
use crate::metrics::Limit;
use crate::rt::{self, Sleepers, StopToken, select2};
use crate::worker::Worker;

/// Connections looked at before others get the core, and closed: that takes some microseconds each.
const SLICE: usize = 2_048;
const CLOSED_AT_ONCE: usize = 64;

/// After an error that cannot be, so that it does not take all of the core.
const AGAIN: Duration = Duration::from_secs(1);

/// What is left of a connection that waits for a request.
#[derive(Debug)]
pub(crate) struct Asleep {
    pub(crate) fd: OwnedFd,
    pub(crate) peer: SocketAddr,
    pub(crate) waiting: Waiting,
    /// When it is closed.
    pub(crate) due_ms: u64,
}

/// All of a core. They still count as its connections.
#[derive(Debug)]
pub(crate) struct Dozing {
    sleepers: Sleepers,
    /// Each is known to the sleepers by its place here.
    places: RefCell<Slab<Asleep>>,
    /// Put in since memory was collected.
    new: Cell<usize>,
}

impl Dozing {
    /// Needs a running core.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { sleepers: Sleepers::new()?, places: RefCell::default(), new: Cell::new(0) })
    }

    /// Puts one in, or gives it back where the kernel has no room for it.
    fn add(&self, asleep: Asleep) -> Result<(), (io::Error, Asleep)> {
        let mut places = self.places.borrow_mut();
        let place = places.vacant_entry();
        match self.sleepers.add(asleep.fd.as_fd(), place.key() as u64) {
            Ok(()) => {
                self.new.set(self.new.get() + 1);
                place.insert(asleep);
            }
            Err(error) => return Err((error, asleep)),
        }
        Ok(())
    }

    /// Whether so many were put in since this was so last.
    pub(crate) fn take_new(&self, many: usize) -> bool {
        let enough = self.new.get() >= many;
        if enough {
            self.new.set(0);
        }
        enough
    }

    fn take(&self, at: usize) -> Option<Asleep> {
        let mut places = self.places.borrow_mut();
        let asleep = places.try_remove(at)?;
        if places.is_empty() {
            // So that a crowd that has left costs nothing.
            *places = Slab::new();
        }
        self.sleepers.remove(asleep.fd.as_fd());
        Some(asleep)
    }

    /// Takes those that have something to read, a bounded number at once.
    fn take_woken(&self) -> io::Result<Vec<Asleep>> {
        let numbers = self.sleepers.woken()?;
        Ok(numbers.into_iter().filter_map(|number| self.take(usize::try_from(number).ok()?)).collect())
    }

    /// Takes some of these from `from` on. Returns where to go on.
    fn take_where(&self, from: usize, which: impl Fn(&Asleep) -> bool) -> (Vec<Asleep>, Option<usize>) {
        let (mut found, mut at) = (Vec::new(), from);
        let end = {
            let places = self.places.borrow();
            while at < places.capacity().min(from + SLICE) && found.len() < CLOSED_AT_ONCE {
                if places.get(at).is_some_and(&which) {
                    found.push(at);
                }
                at += 1;
            }
            places.capacity()
        };
        let taken = found.into_iter().filter_map(|at| self.take(at)).collect();
        (taken, (at < end).then_some(at))
    }
}

/// Puts a connection to sleep that the worker goes on counting.
pub(crate) fn put(asleep: Asleep, worker: &Rc<Worker>) {
    match worker.dozing.add(asleep) {
        Ok(()) => worker.metrics.plain.idle.up(),
        Err((error, asleep)) => {
            tracing::debug!(%error, peer = %asleep.peer, "an idle connection keeps its buffer");
            rt::spawn(connection::wake(asleep, worker.clone()));
        }
    }
}

/// Wakes those whose clients speak or leave, until `stop`.
pub(crate) async fn run(worker: Rc<Worker>, stop: StopToken) {
    while !stop.is_stopped() {
        let woken = match worker.dozing.take_woken() {
            Ok(woken) => woken,
            Err(error) => {
                tracing::error!(%error, "idle connections cannot be looked after");
                rt::sleep(AGAIN).await;
                continue;
            }
        };
        let more = woken.len() == Sleepers::AT_ONCE;
        for asleep in woken {
            worker.metrics.plain.idle.down();
            rt::spawn(connection::wake(asleep, worker.clone()));
        }
        if more {
            // Others of the core have their turn, however many speak at once.
            rt::yield_now().await;
            continue;
        }
        let mut some = std::pin::pin!(worker.dozing.sleepers.wait());
        if let rt::Either::Left(Err(error)) = select2(&mut some, &mut stop.stopped()).await {
            tracing::error!(%error, "idle connections cannot be waited for");
            rt::sleep(AGAIN).await;
        }
    }
}

/// Closes those that have waited too long for a request. What has arrived meanwhile is one, and is served.
pub(crate) async fn close_due(worker: &Worker) {
    let now_ms = worker.now_ms();
    let due = |asleep: &Asleep| now_ms >= asleep.due_ms && rt::is_quiet(&asleep.fd);
    close(worker, due, || worker.metrics.hit(Limit::KeepAliveIdle)).await;
}

/// Closes those to whom a closing process owes nothing: all, for they have had time to ask.
pub(crate) async fn close_spent(worker: &Worker) {
    close(worker, |asleep| rt::is_quiet(&asleep.fd), || {}).await;
}

async fn close(worker: &Worker, which: impl Fn(&Asleep) -> bool, closed: impl Fn()) {
    let mut at = Some(0);
    while let Some(from) = at {
        let (taken, next) = worker.dozing.take_where(from, &which);
        for asleep in taken {
            drop(asleep);
            worker.metrics.plain.idle.down();
            worker.closed();
            closed();
        }
        at = next;
        if at.is_some() {
            rt::yield_now().await;
        }
    }
}

/// Closes all at once, when the core ends.
pub(crate) fn close_all(worker: &Worker) {
    let mut at = Some(0);
    while let Some(from) = at {
        let (taken, next) = worker.dozing.take_where(from, |_| true);
        taken.iter().for_each(|_| worker.closed());
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn asleep() -> Asleep {
        let fd = UnixStream::pair().unwrap().0.into();
        Asleep { fd, peer: "[::1]:9".parse().unwrap(), waiting: Waiting::Request, due_ms: 0 }
    }

    #[test]
    fn an_empty_table_holds_nothing() {
        rt::run(rt::Driver::Epoll, || async {
            let dozing = Dozing::new().unwrap();
            (0..3).for_each(|_| dozing.add(asleep()).unwrap());
            assert!((0..3).all(|at| dozing.take(at).is_some()));
            assert_eq!(dozing.places.borrow().capacity(), 0);
        })
        .unwrap();
    }

    #[test]
    fn who_dozes_costs_a_line() {
        // As slab has it.
        #[allow(dead_code, reason = "it is only measured")]
        enum Entry {
            Vacant(usize),
            Occupied(Asleep),
        }
        assert!(size_of::<Entry>() <= 48, "{}", size_of::<Entry>());
    }
}
