//! One core: a thread with its own listener, connections, pool, table cache and metrics.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use dataplane_core::index::Reader;
use dataplane_core::load::Parking;
use dataplane_core::scheduler::Rng;
use dataplane_core::table::Table;

use crate::metrics::CoreMetrics;
use crate::rt::{self, Inbox, StopToken};
use crate::server::dozing::{self, Dozing};
use crate::server::listener::Door;
use crate::server::watch::Watches;
use crate::server::{listener, pulse, sweep};
use crate::shared::Shared;
use crate::upstream::Pool;

pub(crate) use crate::shared::ToCore;

/// Limits of clients in milliseconds, as the sweep counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitsMs {
    pub(crate) header_time: u64,
    pub(crate) body_idle: u64,
    pub(crate) write_idle: u64,
    pub(crate) keep_alive_idle: u64,
}

/// What the tasks of a core share.
pub(crate) struct Worker {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: CoreMetrics,
    pub(crate) watches: Watches,
    /// Connections that are not among these, for they idle.
    pub(crate) dozing: Dozing,
    pub(crate) pool: Pool,
    pub(crate) limits_ms: LimitsMs,
    pub(crate) index: RefCell<Reader>,
    pub(crate) rng: RefCell<Rng>,
    pub(crate) parking: RefCell<Parking>,
    /// The answer to `GET /v1/models`, and the table that it was made from.
    pub(crate) models: RefCell<Option<(Weak<Table>, Vec<u8>)>>,
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
}

/// What a core starts with.
pub(crate) struct Start {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: Reader,
    pub(crate) inbox: Inbox<ToCore>,
    pub(crate) seed: u64,
}

impl Worker {
    fn new(start: Start, dozing: Dozing) -> (Self, Inbox<ToCore>) {
        let Start { id, shared, index, inbox, seed } = start;
        let limits = &shared.config.limits;
        let ms = |d: Duration| d.as_millis() as u64;
        let limits_ms = LimitsMs {
            header_time: ms(limits.header_time),
            body_idle: ms(limits.body_idle),
            write_idle: ms(limits.write_idle),
            keep_alive_idle: ms(limits.keep_alive_idle),
        };
        let worker = Self {
            id,
            metrics: shared.metrics.of_core(id),
            watches: Watches::default(),
            dozing,
            pool: Pool::new(limits.pool_size, ms(limits.pool_idle)),
            limits_ms,
            index: RefCell::new(index),
            rng: RefCell::new(Rng::new(seed)),
            parking: RefCell::default(),
            models: RefCell::default(),
            table: RefCell::new(Cache::new(shared.table.clone())),
            shared,
        };
        (worker, inbox)
    }

    /// Milliseconds since the process's start.
    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    /// The table in force. A request takes it once.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.borrow_mut().load().clone()
    }

    /// A connection ended here.
    pub(crate) fn closed(&self) {
        self.metrics.plain.connections.down();
        self.shared.cores[self.id].connection(-1);
        self.shared.release_connection();
    }

    /// Once a second.
    pub(crate) fn sweep(&self) {
        let now_ms = self.now_ms();
        self.pool.sweep(now_ms);
        self.parking.borrow_mut().sweep(now_ms);
        // An idle core would otherwise keep the last table that it used alive.
        self.table.borrow_mut().load();
        self.index.borrow_mut().refresh();
        self.metrics.sweep();
    }
}

/// Runs a core on the calling thread until [`ToCore::Finish`] and the end of its connections.
pub(crate) async fn run(start: Start, door: Door, dozing: Dozing) {
    let (worker, mut inbox) = Worker::new(start, dozing);
    let worker = Rc::new(worker);
    let stop_accepting = StopToken::new();
    let stop_sweeping = StopToken::new();
    rt::spawn_vital(listener::run(door, worker.clone(), stop_accepting.clone()));
    rt::spawn_vital(sweep::run(worker.clone(), stop_sweeping.clone()));
    rt::spawn_vital(beat(worker.clone(), stop_sweeping.clone()));
    rt::spawn_vital(dozing::run(worker.clone(), stop_sweeping.clone()));
    loop {
        match inbox.recv().await {
            ToCore::Socket(fd, peer) => listener::adopt(fd, peer, &worker),
            ToCore::StopAccepting => {
                stop_accepting.stop();
                rt::spawn(kill_spent(worker.clone(), stop_sweeping.clone()));
            }
            ToCore::Finish => break,
        }
    }
    worker.watches.kill_all();
    dozing::close_all(&worker);
    worker.pool.close();
    stop_sweeping.stop();
    let end = Instant::now() + Duration::from_secs(1);
    while worker.watches.len() > 0 && Instant::now() < end {
        rt::yield_now().await;
    }
}

/// Observes how late this core is.
async fn beat(worker: Rc<Worker>, stop: StopToken) {
    pulse::run(&worker.metrics.plain.loop_lag, stop).await;
}

/// While closing, a connection that becomes idle has had its last answer.
async fn kill_spent(worker: Rc<Worker>, stop: StopToken) {
    while !stop.is_stopped() {
        worker.watches.kill_spent(worker.now_ms());
        dozing::close_spent(&worker).await;
        rt::sleep(Duration::from_millis(50)).await;
    }
}
