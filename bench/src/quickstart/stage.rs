//! Starting it all: the control plane, an engine at each address that it publishes, and the proxy, which it tells.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::snapshot::Snapshot;
use dataplane::config::{Config, ControlPlane, Drain, Expose};
use dataplane::process;

use super::control::Control;
use crate::engine::{self, Engine, ModelConfig, Pace};

const READY: Duration = Duration::from_secs(10);
/// An open stream of a client that does not leave is cut this long after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory of manifests. An engine is simulated at each address that it has at the start.
    pub manifests: PathBuf,
    /// Where clients connect, on 127.0.0.1; 0 takes a free port.
    pub port: u16,
    /// Between two tokens of an answer.
    pub gap: Duration,
}

/// Engines, control plane and proxy, running.
#[derive(Debug)]
pub struct Stage {
    /// The model of the first route.
    pub model: String,
    /// Where the engines listen.
    pub addresses: Vec<SocketAddr>,
    engines: Vec<engine::Running>,
    control: Control,
    proxy: process::Running,
}

impl Stage {
    /// Starts the engines on the caller's tokio runtime and both planes on threads of their own, and waits until the proxy
    /// has what the manifests say.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let listen = free(SocketAddr::from((Ipv4Addr::LOCALHOST, options.port)))?;
        let control = Control::start(&options.manifests).await?;
        let model = control.first.routes.iter().find_map(|route| route.model.as_ref());
        let model =
            model.with_context(|| format!("{} has no ModelRoute with a model name", options.manifests.display()))?;
        let model = model.as_str().to_owned();
        let engines = engines(&control.first, &model, options.gap).await?;
        let config = Config {
            listen,
            expose: Expose { endpoint: true, decision: true },
            drain: Drain { lead: Duration::ZERO, deadline: PATIENCE, ..Drain::default() },
            ..Config::loopback(ControlPlane::at(control.address))
        };
        let proxy = process::start(config)?;
        let addresses = engines.iter().map(|engine| engine.addr).collect();
        let stage = Self { model, addresses, engines, control, proxy };
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

    /// Ends everything; `impatient` is asked often, and once it says yes what is left is cut. An error is
    /// what ended the control plane before.
    pub fn stop(self, impatient: impl Fn() -> bool) -> anyhow::Result<()> {
        self.proxy.shutdown(impatient);
        drop(self.engines);
        self.control.stop()
    }
}

async fn engines(snapshot: &Snapshot, model: &str, gap: Duration) -> anyhow::Result<Vec<engine::Running>> {
    let endpoints = snapshot.backends.iter().flat_map(|backend| &backend.endpoints);
    // Of several servers that select one pod, each has its address.
    let addresses: BTreeSet<SocketAddr> = endpoints.map(|endpoint| endpoint.address).collect();
    let adapters = snapshot.routes.iter().flat_map(|route| &route.adapters);
    let loras: Vec<String> = adapters.map(|name| name.as_str().to_owned()).collect();
    let mut running = Vec::new();
    for listen in addresses {
        let config = engine::Config {
            listen,
            model: model.to_owned(),
            loras: loras.clone(),
            engine: ModelConfig {
                pace: Pace::Batch(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX)),
                ..ModelConfig::default()
            },
            ..engine::Config::default()
        };
        let engine = Engine::start(config).await;
        running.push(engine.with_context(|| format!("A simulated engine cannot listen on {listen}"))?);
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
