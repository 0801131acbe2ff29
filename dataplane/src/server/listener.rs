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

/// Accepts until `stop`, then takes what waits in the queue, so that closing the listener resets nobody.
pub(crate) async fn run(mut listener: Listener, worker: Rc<Worker>, stop: StopToken) {
    while let Accepted::Socket(fd, peer) = listener.accept(&stop).await {
        take(fd, peer, &worker);
    }
    for (fd, peer) in listener.drain() {
        keep(fd, peer, &worker);
    }
}

fn take(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    worker.metrics.plain.accepted.add(1);
    if !worker.shared.admit_connection() {
        worker.metrics.hit(Limit::Connections);
        return; // Dropping the socket closes it.
    }
    let Some(other) = less_loaded(worker) else { return keep_counted(fd, peer, worker) };
    match worker.shared.cores[other].post.post(ToCore::Socket(fd, peer)) {
        Ok(()) => worker.metrics.plain.handed_off.add(1),
        Err(ToCore::Socket(fd, peer)) => keep_counted(fd, peer, worker),
        Err(_) => unreachable!("the queue gives back what it was given"),
    }
}

/// Serves a socket here that no limit was asked for yet.
fn keep(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    if worker.shared.admit_connection() {
        keep_counted(fd, peer, worker);
    } else {
        worker.metrics.hit(Limit::Connections);
    }
}

/// Serves a socket here.
pub(crate) fn keep_counted(fd: OwnedFd, peer: SocketAddr, worker: &Rc<Worker>) {
    worker.opened();
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
