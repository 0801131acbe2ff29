//! The control plane over a directory of manifests, on a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use api::snapshot::Snapshot;
use controlplane::run::{Listen, Options, Plane, Source};
use tokio::sync::oneshot;

/// Any will do: there is one proxy, with nobody to agree with.
const FLEET_SEED: u64 = 1;

/// A control plane that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct Control {
    /// Where the proxy connects.
    pub address: SocketAddr,
    /// What the manifests came to at the start.
    pub first: Arc<Snapshot>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Control {
    /// Reads the manifests and listens on a free port.
    pub async fn start(manifests: &Path) -> anyhow::Result<Self> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            source: Source::Directory(manifests.to_owned()),
            listen: Listen::Plain(listen),
            fleet_seed: FLEET_SEED,
        };
        let (started, start) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        // Not on the engines' runtime: its end waits for the thread that watches the files.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let main = move || runtime.block_on(serve(options, started, stopped));
        let thread = std::thread::Builder::new().name("control plane".into()).spawn(main)?;
        let (address, first) = start.await.context("the control plane's thread panicked")??;
        Ok(Self { address, first, stop, thread })
    }

    /// Ends it and waits until it has ended; the error is what ended it before.
    pub fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        let served = self.thread.join().map_err(|_| anyhow!("the control plane's thread panicked"))?;
        served.context("the control plane ended by itself")
    }
}

type Started = anyhow::Result<(SocketAddr, Arc<Snapshot>)>;

async fn serve(options: Options, started: oneshot::Sender<Started>, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let plane = match Plane::start(options).await {
        Ok(plane) => plane,
        Err(error) => {
            // Nobody waits any longer if this fails.
            let _ = started.send(Err(error.into()));
            return Ok(());
        }
    };
    let first = plane.snapshots().borrow().clone().context("the manifests were not read");
    let _ = started.send(first.map(|first| (plane.address(), first)));
    // The sender says nothing; it goes.
    plane.serve(async { drop(stopped.await) }).await
}
