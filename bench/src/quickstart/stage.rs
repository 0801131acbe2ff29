//! Starting it all: an engine for each endpoint of the snapshot, and the proxy in front of them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use api::snapshot::Snapshot;
use dataplane::config::{Config, Drain, Expose};
use dataplane::{process, snapshot_file};

use crate::engine::{self, Engine, ModelConfig, Pace};

const READY: Duration = Duration::from_secs(10);
/// An open stream of a client that does not leave is cut this long after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The routes and engines; an engine is simulated at each endpoint's address.
    pub snapshot: PathBuf,
    /// Where clients connect, on 127.0.0.1; 0 takes a free port.
    pub port: u16,
    /// Between two tokens of an answer.
    pub gap: Duration,
}

/// Engines and proxy, running.
#[derive(Debug)]
pub struct Stage {
    /// The model of the snapshot's first route.
    pub model: String,
    /// Where the engines listen.
    pub addresses: Vec<SocketAddr>,
    engines: Vec<engine::Running>,
    proxy: process::Running,
}

impl Stage {
    /// Starts the engines on the caller's tokio runtime and the proxy on threads of its own, and waits until it is ready.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let listen = free(SocketAddr::from((Ipv4Addr::LOCALHOST, options.port)))?;
        let snapshot = snapshot_file::load(&options.snapshot).map_err(|problems| anyhow!(problems.join("\n")))?;
        let model = snapshot.routes.iter().find_map(|route| route.model.as_ref());
        let model = model.context("the snapshot has no route with a model name")?.as_str().to_owned();
        let engines = engines(&snapshot, &model, options.gap).await?;
        let config = Config {
            listen,
            expose: Expose { endpoint: true, decision: true },
            drain: Drain { lead: Duration::ZERO, deadline: PATIENCE, ..Drain::default() },
            ..Config::loopback(options.snapshot.clone())
        };
        let proxy = process::start(config)?;
        let addresses = engines.iter().map(|engine| engine.addr).collect();
        let stage = Self { model, addresses, engines, proxy };
        let deadline = Instant::now() + READY;
        while !stage.proxy.shared().ready() {
            if Instant::now() > deadline {
                bail!("The proxy is not ready after {READY:?}.");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(stage)
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.proxy.listen()
    }

    /// Where `/debug` is.
    pub fn debug(&self) -> SocketAddr {
        self.proxy.debug()
    }

    /// The simulated engines, in the order of [`Self::addresses`].
    pub fn engines(&self) -> &[engine::Running] {
        &self.engines
    }

    /// Ends everything; `impatient` is asked often, and once it says yes what is left is cut.
    pub fn stop(self, impatient: impl Fn() -> bool) {
        self.proxy.shutdown(impatient);
        drop(self.engines);
    }
}

async fn engines(snapshot: &Snapshot, model: &str, gap: Duration) -> anyhow::Result<Vec<engine::Running>> {
    let mut running = Vec::new();
    for endpoint in snapshot.backends.iter().flat_map(|backend| &backend.endpoints) {
        let adapters = endpoint.adapters.iter().flatten();
        let config = engine::Config {
            listen: endpoint.address,
            model: model.to_owned(),
            loras: adapters.map(|name| name.as_str().to_owned()).collect(),
            engine: ModelConfig {
                pace: Pace::Batch(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX)),
                ..ModelConfig::default()
            },
            ..engine::Config::default()
        };
        let engine = Engine::start(config).await;
        running.push(engine.with_context(|| format!("A simulated engine cannot listen on {}", endpoint.address))?);
    }
    Ok(running)
}

/// The proxy shares its port with others that ask for that (SO_REUSEPORT), so a second quickstart would start and get half
/// of the first one's connections. A listener without that option finds out.
fn free(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(address),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("Port {} is taken: end what listens there, or choose another with `--port N`.", address.port())
        }
        Err(error) => bail!("Port {} cannot be listened on: {error}.", address.port()),
    }
}
