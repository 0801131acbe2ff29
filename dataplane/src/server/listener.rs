//! Taking connections: on this core, or for a core that has less to do.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection;
use super::elders::Elders;
use crate::config::ListenWhen;
use crate::metrics::Limit;
use crate::process::BACKLOG;
use crate::rt::{self, Accepted, Bound, Listener, StopToken};
use crate::shared::Shared;
use crate::worker::{ToCore, Worker};

/// Connections by which a core must be above the mean before it gives any away.
const HAND_OFF_FROM: u64 = 4;

/// How often the kernel is told to give each core its part, where connections come: what a process passed on that has ended since
/// may name one of us for ever.
const SHARED_MS: u64 = 10_000;

/// How long handshakes are awaited that are under way when new connections are passed on, and how often what they came to is taken.
pub(crate) const HANDSHAKES: Duration = Duration::from_millis(200);
const EACH: Duration = Duration::from_millis(5);

/// Between two looks for a first table, and after a failure to listen.
const LOOK: Duration = Duration::from_millis(10);
const AGAIN: Duration = Duration::from_secs(1);

/// Where connections come in.
pub(crate) enum Door {
    Open(Listener),
    /// Who comes waits until there is a table, but no longer than until then.
    Held(Listener, Instant),
    /// Until there is a table.
    Shut(Bound),
}

impl Door {
    /// As the configuration says.
    pub(crate) fn of(bound: Bound, shared: &Shared) -> io::Result<Self> {
        match shared.config.listen_when {
            _ if shared.loaded() => listen(bound, shared).map(Self::Open),
            ListenWhen::Loaded => Ok(Self::Shut(bound)),
            ListenWhen::Started => Ok(Self::Held(listen(bound, shared)?, Instant::now() + shared.config.hold)),
        }
    }

    /// Waits until it may open. None where it is to close before.
    async fn opened(self, shared: &Shared, stop: &StopToken) -> Option<Listener> {
        let bound = match self {
            Self::Open(listener) => return Some(listener),
            Self::Held(listener, until) => {
                while !shared.loaded() && !stop.is_stopped() && Instant::now() < until {
                    rt::sleep(LOOK).await;
                }
                return Some(listener);
            }
            Self::Shut(bound) => bound,
        };
        while !shared.loaded() {
            if stop.is_stopped() {
                return None;
            }
            rt::sleep(LOOK).await;
        }
        let address = bound.local_addr();
        let mut opened = listen(bound, shared);
        loop {
            match opened {
                Ok(listener) => return Some(listener),
                Err(_) if stop.is_stopped() => return None,
                // As with errors of accept, it may be well in a moment.
                Err(error) => tracing::error!(%error, %address, "cannot listen"),
            }
            rt::sleep(AGAIN).await;
            opened = Bound::to(address).and_then(|bound| listen(bound, shared));
        }
    }
}

/// The first core to listen looks who does already.
fn listen(bound: Bound, shared: &Shared) -> io::Result<Listener> {
    shared.elders.get_or_init(|| Elders::now(bound.local_addr()));
    bound.listen(BACKLOG)
}

/// Accepts until `stop`, and then so that closing the listener resets nobody.
pub(crate) async fn run(door: Door, worker: Rc<Worker>, stop: StopToken) {
    if let Some(mut listener) = door.opened(&worker.shared, &stop).await {
        let mut share_ms = 0;
        while let Accepted::Socket(fd, peer) = listener.accept(&stop).await {
            take(fd, peer, &worker);
            if worker.now_ms() >= share_ms {
                listener.pass_on_no_more();
                share_ms = worker.now_ms() + SHARED_MS;
            }
        }
        close(listener, &worker).await;
    }
    worker.shared.close_door();
}

/// Where another process listens at our port, as a pod does that takes over from this one on its node, it gets what is new from now on. Then
/// only handshakes are under way here, and once they have ended nothing is left to be reset. The first listener of the address is the elder
/// process's where that stays, as it does when an update is rolled back; else ours are the first, and our successor's come after them. (Where a
/// third process has gone meanwhile, whose places the kernel gave to the last ones, they may stand otherwise.)
async fn close(mut listener: Listener, worker: &Rc<Worker>) {
    let end = Instant::now() + HANDSHAKES;
    while Instant::now() < end {
        // Each time: the other process tells the kernel now and then that all have their part.
        let elder_stays = worker.shared.elders.get().is_some_and(Elders::stay);
        listener.pass_on(heir(elder_stays, worker.shared.cores.len()));
        keep_all(listener.drain(), worker);
        rt::sleep(EACH).await;
    }
    keep_all(listener.end(), worker);
}

/// The place of the first listener of the process that goes on, where each has one for each of so many cores.
fn heir(elder_stays: bool, cores: usize) -> usize {
    if elder_stays { 0 } else { cores }
}

fn keep_all(taken: Vec<(OwnedFd, SocketAddr)>, worker: &Rc<Worker>) {
    for (fd, peer) in taken {
        keep(fd, peer, worker);
    }
}

fn take(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    if !admit(worker) {
        return; // Dropping the socket closes it.
    }
    let loads = worker.shared.cores.iter().map(|core| core.load());
    let Some(other) = less_loaded(worker.id, loads) else { return adopt_here(fd, peer, worker) };
    // Counted there at once, or a burst would all go to the same core.
    let slot = &worker.shared.cores[other];
    slot.connection(1);
    match slot.post.post(ToCore::Socket(fd, peer)) {
        Ok(()) => worker.metrics.plain.handed_off.add(1),
        Err(back) => {
            slot.connection(-1);
            if let ToCore::Socket(fd, peer) = back {
                adopt_here(fd, peer, worker);
            }
        }
    }
}

fn admit(worker: &Worker) -> bool {
    worker.metrics.plain.accepted.add(1);
    let admitted = worker.shared.admit_connection();
    if !admitted {
        worker.metrics.hit(Limit::Connections);
    }
    admitted
}

/// Serves a socket here, whatever the other cores have to do.
fn keep(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    if admit(worker) {
        adopt_here(fd, peer, worker);
    }
}

fn adopt_here(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    worker.shared.cores[worker.id].connection(1);
    adopt(fd, peer, worker);
}

/// Serves a socket that is counted as this core's.
pub(crate) fn adopt(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    worker.metrics.plain.connections.up();
    rt::spawn(connection::serve(fd, peer, worker.clone()));
}

/// The least loaded core, if this one is a quarter and at least four above the mean.
fn less_loaded(here: usize, loads: impl ExactSizeIterator<Item = u64> + Clone) -> Option<usize> {
    let (n, sum) = (loads.len() as u64, loads.clone().sum::<u64>());
    let mine = loads.clone().nth(here)?;
    let above_by_quarter = mine * n * 4 > sum * 5;
    let above_by_four = mine * n >= sum + HAND_OFF_FROM * n;
    if !(above_by_quarter && above_by_four) {
        return None;
    }
    let (least, _) = loads.enumerate().min_by_key(|(_, load)| *load)?;
    (least != here).then_some(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_connections_go_to_the_elder_that_stays_and_else_to_who_came_after_us() {
        const CORES: usize = 2;
        let check = |elder_stays: bool| async move {
            // In the order in which they began, those of one process after those of the other.
            let first = Listener::bind(([127, 0, 0, 1], 0).into(), 64).unwrap();
            let address = first.local_addr();
            let mut all = vec![first];
            all.extend((1..2 * CORES).map(|_| Listener::bind(address, 64).unwrap()));
            let ours = if elder_stays { CORES } else { 0 };
            all[ours].pass_on(heir(elder_stays, CORES));
            let _clients: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            let came: Vec<usize> = all.iter_mut().map(|listener| listener.drain().len()).collect();
            let theirs = CORES - ours;
            assert_eq!((came[theirs], came.iter().sum::<usize>()), (20, 20), "{elder_stays}: {came:?}");
        };
        rt::run(rt::Driver::Epoll, move || async move {
            check(true).await;
            check(false).await;
        })
        .unwrap();
    }

    #[test]
    fn a_core_that_has_a_quarter_more_than_the_mean_hands_on_to_the_one_that_has_least() {
        let check = |here, loads: &[u64], expected| {
            assert_eq!(less_loaded(here, loads.iter().copied()), expected, "{here} of {loads:?}");
        };
        check(0, &[100], None);
        check(0, &[100, 60], None);
        check(0, &[100, 59], Some(1));
        check(1, &[100, 59], None);
        check(0, &[100, 70, 40, 50], Some(2));
        check(0, &[7, 0], None);
        check(0, &[8, 0], Some(1));
    }
}
