//! The control plane's client, on a thread of its own. It subscribes, applies what comes by the same way as a snapshot file
//! does, answers once that is in force on all cores, and reports what this process has outstanding at the engines. The
//! last good snapshot is kept on disk, so that the process starts without the control plane; while that is away it
//! serves on from what it holds and tries again, ever less often. Without a control plane nothing of this runs.

mod apply;
mod backoff;
mod credentials;
mod disk;
mod load;
mod marks;
mod peers;
mod session;
mod status;

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::proto::Welcome;
use api::snapshot::Snapshot;
use dataplane_core::scheduler::Rng;
use dataplane_core::table::Place;
use tokio::sync::watch;

use crate::config::ControlPlane;
use crate::shared::Shared;
use crate::tables::Tables;

pub use disk::Kept;
pub use status::{Look, Status};

use apply::Held;
use backoff::Backoff;
use disk::Disk;
use peers::Peers;
use session::{End, Session};

/// What the others have at the engines is not looked at once the stream has been gone for so long: a stale load is worse
/// than none.
const PEERS_LIVE: Duration = Duration::from_secs(2);
/// After a panic.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    disk: Option<Disk>,
}

/// What the agent starts with.
#[derive(Debug)]
pub struct Start {
    /// What all threads share; its status is the agent's to write.
    pub shared: Arc<Shared>,
    /// The status.
    pub status: Arc<Status>,
    /// The way to the tables.
    pub tables: Arc<Tables>,
    /// What is in force, from disk or nothing.
    pub held: Arc<Snapshot>,
    /// A random number, of which this process's name among the subscribers and the jitter are made.
    pub seed: u64,
}

/// Reads what was kept on disk. None where there is no folder for it, nothing in it, or nothing that can be trusted, of
/// which the log says why.
pub fn kept(config: &ControlPlane) -> io::Result<Option<Kept>> {
    let Some(folder) = &config.state_dir else {
        tracing::warn!("no --state-dir: while the control plane is away this process cannot start again");
        return Ok(None);
    };
    disk::prepare(folder)?;
    Ok(disk::read(folder).unwrap_or_else(|why| {
        tracing::error!(folder = %folder.display(), %why, "the snapshot on disk is not used; starting without one");
        None
    }))
}

/// Starts the thread.
pub fn start(config: &ControlPlane, start: Start) -> io::Result<Agent> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let disk = config.state_dir.clone().map(Disk::start).transpose()?;
    let (stop, stopped) = watch::channel(false);
    let config = config.clone();
    let keep = disk.as_ref().map(Disk::keeper);
    let thread = std::thread::Builder::new().name("agent".into()).spawn(move || {
        let mut rng = Rng::new(start.seed);
        let instance = rng.next_u64().max(1);
        let Start { shared, status, tables, held, .. } = start;
        let held = RefCell::new(Held::new(held));
        let place = config.place(&config.zone);
        let parts = Parts { config, shared, status, tables, keep, held, instance };
        let agent =
            Rc::new(Context { place: RefCell::new(place), parts, peers: RefCell::default(), rng: RefCell::new(rng) });
        // Serving does not need the agent, so a panic in it costs a stream, not the process.
        while catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(&agent, stopped.clone())))).is_err() {
            tracing::error!("the agent panicked and starts anew");
            agent.parts.status.failed("the agent panicked".into());
            // What the stream said is no longer kept true.
            agent.parts.tables.lost();
            std::thread::sleep(AFTER_PANIC);
        }
    })?;
    Ok(Agent { stop, thread, disk })
}

impl Agent {
    /// Ends the stream and the threads; what is to be kept is on disk afterwards.
    pub fn stop(self) {
        // An error means that the thread has ended.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the agent's thread panicked");
        }
        if let Some(disk) = self.disk {
            disk.stop();
        }
    }
}

struct Parts {
    config: ControlPlane,
    shared: Arc<Shared>,
    status: Arc<Status>,
    tables: Arc<Tables>,
    keep: Option<disk::Keeper>,
    held: RefCell<Held>,
    /// This process's name among the subscribers.
    instance: u64,
}

/// What the agent's tasks share.
struct Context {
    parts: Parts,
    peers: RefCell<Peers>,
    /// Where this process runs, as far as was said.
    place: RefCell<Place>,
    rng: RefCell<Rng>,
}

impl Context {
    /// Where this process is, as far as was said: a control plane that has not read its nodes says the same again.
    fn zone(&self) -> String {
        self.place.borrow().zone.as_deref().unwrap_or_default().to_owned()
    }

    fn jitter(&self) -> f32 {
        self.rng.borrow_mut().unit()
    }
}

/// Keeps a stream until told to stop.
async fn run(agent: &Context, mut stopped: watch::Receiver<bool>) {
    let work = async {
        let mut backoff = Backoff::new();
        loop {
            let session = connect(agent, &mut backoff).await;
            let begun = Instant::now();
            let End(why) = hold(agent, session).await;
            agent.parts.tables.lost();
            tracing::warn!(%why, "the stream to the control plane ended; serving on");
            agent.parts.status.failed(why);
            tokio::time::sleep(backoff.after(begun.elapsed(), agent.jitter())).await;
        }
    };
    tokio::select! {
        () = work => {}
        // An error means that nobody can tell any more, so it is the end too.
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

/// Tries until there is a stream.
async fn connect(agent: &Context, backoff: &mut Backoff) -> Session {
    let failed = |why: String| {
        // The same for ever would fill the log.
        if agent.parts.status.failed(why.clone()) {
            tracing::warn!(%why, "no stream to the control plane; trying on");
        }
    };
    let mut attempts = std::pin::pin!(attempts(agent, backoff, failed));
    match tokio::time::timeout(PEERS_LIVE, &mut attempts).await {
        Ok(session) => session,
        Err(_) => {
            let shared = &agent.parts.shared;
            agent.peers.borrow_mut().forget(&shared.table.load(), shared.now_ms());
            attempts.await
        }
    }
}

async fn attempts(agent: &Context, backoff: &mut Backoff, failed: impl Fn(String)) -> Session {
    loop {
        match Session::open(agent).await {
            Ok(session) => return session,
            Err(why) => {
                tracing::debug!(%why, "a stream to the control plane could not be opened");
                failed(why);
                tokio::time::sleep(backoff.next(agent.jitter())).await;
            }
        }
    }
}

/// Takes note of a stream, and of where the control plane knows this process to be: what is in force is compiled anew by that.
fn welcomed(agent: &Context, welcome: &Welcome) {
    let Parts { config, tables, status, held, .. } = &agent.parts;
    status.connected(welcome);
    let place = config.place(&welcome.zone);
    // It may not have read its nodes yet: that we are nowhere it never says.
    if welcome.zone.is_empty() || agent.place.replace(place.clone()) == place {
        return;
    }
    tables.move_to(place);
    let held = held.borrow();
    if held.version().is_some() {
        tables.install_new(held.snapshot.clone());
    }
}

/// Serves a stream, and before it ends by age the next one, until one breaks.
async fn hold(agent: &Context, mut session: Session) -> End {
    welcomed(agent, session.welcome());
    tracing::info!(address = %agent.parts.config.address, zone = %session.welcome().zone, "subscribed to the control plane");
    loop {
        let due = session.renew_at(agent.jitter());
        let next = async {
            tokio::time::sleep_until(due.into()).await;
            // The old one serves on, so that this one cannot be had yet is nothing to tell.
            attempts(agent, &mut Backoff::new(), drop).await
        };
        tokio::select! {
            end = session.serve(agent) => return end,
            next = next => session = next,
        }
        welcomed(agent, session.welcome());
        tracing::debug!("the next stream has taken over");
    }
}
