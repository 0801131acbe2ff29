//! Taking connections: on this core, or for a core that has less to do.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::connection;
use crate::metrics::Limit;
use crate::rt::{self, Accepted, Listener, StopToken};
use crate::worker::{ToCore, Worker};

/// Connections by which a core must be above the mean before it gives any away.
const HAND_OFF_FROM: u64 = 4;

/// Connections taken before the rest of the core gets a turn.
const AT_ONCE: u32 = 64;

/// Accepts until `stop`, then takes what waits in the queue, so that closing the listener resets nobody.
pub(crate) async fn run(mut listener: Listener, worker: Rc<Worker>, stop: StopToken) {
    let mut taken = 0;
    while let Accepted::Socket(fd, peer) = listener.accept(&stop).await {
        take(fd, peer, &worker);
        taken += 1;
        if taken % AT_ONCE == 0 {
            rt::yield_now().await;
        }
    }
    // Handshakes that were under way complete meanwhile.
    for _ in 0..3 {
        for (fd, peer) in listener.drain() {
            keep(fd, peer, &worker);
        }
        rt::yield_now().await;
    }
}

fn take(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    if !admit(worker) {
        return; // Dropping the socket closes it.
    }
    let Some(other) = less_loaded(worker) else { return adopt_here(fd, peer, worker) };
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
fn less_loaded(worker: &Worker) -> Option<usize> {
    let cores = &worker.shared.cores;
    if cores.len() == 1 {
        return None;
    }
    let loads = cores.iter().map(|c| c.load());
    let mine = cores[worker.id].load();
    let sum: u64 = loads.clone().sum();
    let n = cores.len() as u64;
    let above_by_quarter = mine * n * 4 > sum * 5;
    let above_by_four = mine * n >= sum + HAND_OFF_FROM * n;
    if !(above_by_quarter && above_by_four) {
        return None;
    }
    let (least, _) = loads.enumerate().min_by_key(|(_, load)| *load)?;
    (least != worker.id).then_some(least)
}
