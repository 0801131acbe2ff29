//! Starting everything and ending it: the one place that knows all threads.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::snapshot::Snapshot;
use dataplane_core::load::LiveRegistry;
use dataplane_core::table::Table;

use crate::admin::{self, Admin};
use crate::agent::{self, Agent, Kept};
use crate::config::{Config, ControlPlane, Cores, Source};
use crate::offload::Offload;
use crate::rt::{self, Bound, StartError};
use crate::server::dozing::Dozing;
use crate::server::listener::{Door, HANDSHAKES};
use crate::shared::{CoreSlot, Parts, Phase, Shared, ToCore};
use crate::tables::Tables;
use crate::{snapshot_file, worker};

/// Connections that wait to be accepted, per core.
pub(crate) const BACKLOG: i32 = 4096;
/// Messages that wait for a core.
const INBOX: usize = 4096;

/// Within this the doors are closed on a machine that has a moment for us.
const CLOSED: Duration = HANDSHAKES.saturating_mul(5);

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] StartError),
    /// The snapshot file.
    #[error("the snapshot is refused:\n{}", .0.join("\n"))]
    Snapshot(Vec<String>),
    /// An address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// A path.
    #[error("cannot listen on {}: {}", .0.display(), .1)]
    Socket(PathBuf, #[source] io::Error),
    /// Anything else of the system.
    #[error("cannot start {0}: {1}")]
    System(&'static str, #[source] io::Error),
}

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    tables: Arc<Tables>,
    listen: SocketAddr,
    admin: Admin,
    agent: Option<Agent>,
    cores: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    others: Vec<JoinHandle<()>>,
}

/// Starts the proxy: reads the snapshot, listens on all cores, serves.
pub fn start(config: Config) -> Result<Running, StartFailure> {
    raise_descriptor_limit(config.limits.connections);
    let first = First::read(&config.source)?;
    let driver = rt::probe(config.driver)?;
    let cpus = rt::cores().map_err(|e| StartFailure::System("on the CPUs of this process", e))?;
    let (cpus, pinned) = match config.cores {
        Cores::All => (cpus.clone(), cpus.len() > 1),
        Cores::First(n) => (cpus.into_iter().cycle().take(n.max(1)).collect(), false),
    };
    let (slots, inboxes): (Vec<_>, Vec<_>) =
        cpus.iter().map(|_| rt::mailbox(INBOX)).map(|(post, inbox)| (CoreSlot::new(post), inbox)).unzip();
    let threads = (cpus.len() / 4).max(1);
    let (offload, _) = Offload::start(threads).map_err(|e| StartFailure::System("the helper threads", e))?;
    let mut registry = LiveRegistry::at(config.source.place());
    let table = Table::compile(&Snapshot::default(), &mut registry);
    let agent = first.status.clone();
    let shared = Arc::new(Shared::new(Parts { config, driver, table, agent, cores: slots.into(), offload }));
    let stop = Arc::new(AtomicBool::new(false));
    let (tables, readers, writer) = Tables::start(shared.clone(), registry, stop.clone())
        .map_err(|e| StartFailure::System("the tables thread", e))?;
    first.install(&shared, &tables);
    let recorder = shared.recorder.start(&shared.config.access_log);
    let recorder = recorder.map_err(|e| StartFailure::System("the access log", e))?;

    let mut listen = shared.config.listen;
    let mut cores = Vec::new();
    for (id, ((cpu, inbox), index)) in cpus.into_iter().zip(inboxes).zip(readers).enumerate() {
        let seed = random_seed().map_err(|e| StartFailure::System("without randomness", e))?;
        let start = worker::Start { id, shared: shared.clone(), index, inbox, seed };
        let (thread, bound) = start_core(start, listen, pinned.then_some(cpu))?;
        // The other cores share the port that the kernel chose for the first one.
        listen = bound;
        cores.push(thread);
    }
    let admin = admin::start(&shared, &tables)?;
    let mut others = vec![writer, recorder];
    let agent = match shared.config.source.clone() {
        Source::File(path) => {
            let watcher = snapshot_file::watch(path, tables.clone(), stop.clone());
            others.push(watcher.map_err(|e| StartFailure::System("the snapshot watch", e))?);
            None
        }
        Source::ControlPlane(config) => {
            let seed = random_seed().map_err(|e| StartFailure::System("without randomness", e))?;
            let agent = first.agent(&config, shared.clone(), tables.clone(), seed);
            agent.map_err(|e| StartFailure::System("the agent", e))?
        }
    };
    shared.advance(Phase::Serving);
    tracing::info!(%listen, driver = driver.as_str(), cores = cores.len(), "serving");
    Ok(Running { shared, tables, listen, admin, agent, cores, stop, others })
}

/// What is in force before anything else is heard.
struct First {
    /// None where the control plane has never said anything.
    snapshot: Option<Arc<Snapshot>>,
    /// How old it is.
    age: Duration,
    /// The agent's, where there is one.
    status: Option<Arc<agent::Status>>,
}

impl First {
    fn read(source: &Source) -> Result<Self, StartFailure> {
        match source {
            Source::File(path) => {
                let snapshot = snapshot_file::load(path).map_err(StartFailure::Snapshot)?;
                Ok(Self { snapshot: Some(Arc::new(snapshot)), age: Duration::ZERO, status: None })
            }
            Source::ControlPlane(config) => {
                let kept = agent::kept(config).map_err(|e| StartFailure::System("with this state directory", e))?;
                let status = agent::Status::new(config.address.to_string(), kept.is_some());
                let (snapshot, age) = kept.map(|Kept { snapshot, age }| (Arc::new(snapshot), age)).unzip();
                Ok(Self { snapshot, age: age.unwrap_or_default(), status: Some(Arc::new(status)) })
            }
        }
    }

    fn install(&self, shared: &Shared, tables: &Tables) {
        if let Some(snapshot) = &self.snapshot {
            tables.install(snapshot.clone());
            shared.date(self.age);
        }
    }

    fn agent(
        self,
        config: &ControlPlane,
        shared: Arc<Shared>,
        tables: Arc<Tables>,
        seed: u64,
    ) -> io::Result<Option<Agent>> {
        let Some(status) = self.status else { return Ok(None) };
        let held = self.snapshot.unwrap_or_default();
        agent::start(config, agent::Start { shared, status, tables, held, seed }).map(Some)
    }
}

fn start_core(
    start: worker::Start,
    address: SocketAddr,
    cpu: Option<usize>,
) -> Result<(JoinHandle<()>, SocketAddr), StartFailure> {
    let (tell, told) = mpsc::sync_channel::<Result<SocketAddr, StartFailure>>(1);
    let driver = start.shared.driver;
    let name = format!("core-{}", start.id);
    let main = move || {
        if let Some(cpu) = cpu
            && let Err(error) = rt::pin_to(cpu)
        {
            tracing::warn!(%error, cpu, "a core's thread cannot be pinned");
        }
        let failed = tell.clone();
        let ran = rt::run(driver, move || async move {
            let door = |bound: Bound| Ok((bound.local_addr(), Door::of(bound, &start.shared)?, Dozing::new()?));
            match Bound::to(address).and_then(door) {
                Ok((bound, door, dozing)) => {
                    // Nobody listens any more only if the start was given up.
                    let _ = tell.send(Ok(bound));
                    worker::run(start, door, dozing).await;
                }
                Err(error) => drop(tell.send(Err(StartFailure::Listen(address, error)))),
            }
        });
        if let Err(error) = ran {
            drop(failed.send(Err(error.into())));
        }
    };
    let thread = vital(name, main).map_err(|e| StartFailure::System("a core's thread", e))?;
    let bound = told.recv().map_err(|_| StartFailure::System("a core", io::Error::other("its thread ended")))??;
    Ok((thread, bound))
}

/// Descriptors are limited to 1,024 by default, for programs that use select; the hard limit is what is meant.
fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    // A connection may need a descriptor on either side.
    if hard.is_some_and(|hard| hard < 2 * connections as u64) {
        tracing::warn!(open_files = hard, connections, "fewer files may be open than limits.connections needs");
    }
}

/// A thread that the process cannot do without: a panic in it ends the process.
pub(crate) fn vital(name: String, main: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(main)).is_err() {
            tracing::error!("a thread that the process needs panicked");
            std::process::abort();
        }
    })
}

fn random_seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}

impl Running {
    /// Where clients connect, with the port that the kernel chose for port 0.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where `/metrics` and `/debug` are, with the ports that the kernel chose.
    pub fn admin(&self) -> admin::Bound {
        self.admin.bound
    }

    /// Where `/metrics` and `/readyz` are.
    ///
    /// # Panics
    /// Where they were given no port, which [`Config::loopback`] does.
    pub fn metrics(&self) -> SocketAddr {
        self.admin.bound.metrics.expect("a port for metrics")
    }

    /// Where `/debug` is.
    ///
    /// # Panics
    /// As [`Running::metrics`].
    pub fn debug(&self) -> SocketAddr {
        self.admin.bound.debug.expect("a port for debug")
    }

    /// What all threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The way to put another table in force.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Drains and ends everything. Returns how many connections had to be cut at the deadline.
    ///
    /// `impatient` is asked often; once it says yes, what is left is cut at once.
    pub fn shutdown(self, impatient: impl Fn() -> bool) -> u64 {
        let drain = self.shared.config.drain;
        let start = Instant::now();
        self.shared.advance(Phase::Draining);
        tracing::info!(lead = ?drain.lead, deadline = ?drain.deadline, "draining");
        wait_until(start + drain.lead, &impatient);
        self.shared.advance(Phase::Closing);
        self.tell(|| ToCore::StopAccepting);
        // Then connections can be counted.
        wait_until(Instant::now() + CLOSED, || impatient() || self.shared.open_doors() == 0);
        let deadline = start + drain.lead + drain.deadline;
        wait_until(deadline, || impatient() || self.connections() == 0);
        let cut = self.connections();
        self.tell(|| ToCore::Finish);
        for core in self.cores {
            if core.join().is_err() {
                tracing::error!("a core's thread panicked");
            }
        }
        if let Some(agent) = self.agent {
            agent.stop();
        }
        self.stop.store(true, Release);
        self.shared.recorder.stop();
        self.admin.stop();
        for other in self.others {
            if other.join().is_err() {
                tracing::error!("a thread panicked");
            }
        }
        tracing::info!(cut, "ended");
        cut
    }

    fn connections(&self) -> u64 {
        self.shared.open_connections() as u64
    }

    fn tell(&self, message: impl Fn() -> ToCore) {
        for core in &self.shared.cores {
            let mut message = message();
            // A full queue empties within a turn of the core's loop.
            while let Err(back) = core.post.post(message) {
                message = back;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn wait_until(deadline: Instant, done: impl Fn() -> bool) {
    while Instant::now() < deadline && !done() {
        std::thread::sleep(Duration::from_millis(5).min(deadline.saturating_duration_since(Instant::now())));
    }
}
