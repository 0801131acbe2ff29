//! The thread that starts the programs, owns them, and restarts the API server when a test says so.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

use super::Parts;
use super::flags::{self, Ports};
use super::identity::{self, Files};
use super::program::{Program, logs};

/// It takes 4 s on two idle cores.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// What a test wants of it, and where the answer goes.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) what: What,
    pub(super) done: oneshot::Sender<Result<()>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    KillApiServer,
    StartApiServer,
}

/// The controllers end first, etcd last: fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Keeper {
    controllers: Vec<Program>,
    api_server: Option<Program>,
    etcd: Program,
    binaries: PathBuf,
    folder: PathBuf,
    files: Files,
    ports: Ports,
    parts: Parts,
}

impl Keeper {
    /// Starts the programs from the calling thread, on whose life they depend, and waits until the API server is ready. The
    /// controllers begin then and are not waited for.
    pub(super) fn start(binaries: PathBuf, folder: PathBuf, files: Files, parts: Parts) -> Result<Self> {
        let (ports, begun) = (free_ports()?, Instant::now());
        let kubeconfig = identity::write_admin(&folder, &files, ports.api_server)?;
        fs::write(folder.join(flags::AUDIT_POLICY_FILE), flags::AUDIT_POLICY)?;
        let etcd = Program::spawn(&binaries, &folder, "etcd", &flags::etcd(&folder, ports))?;
        let mut keeper =
            Self { controllers: Vec::new(), api_server: None, etcd, binaries, folder, files, ports, parts };
        keeper.start_api_server()?;
        println!("an API server is ready after {:.1?}", begun.elapsed());
        if parts != Parts::ApiServer {
            let manager = flags::controller_manager(&kubeconfig, &keeper.files, parts);
            keeper.controllers = vec![
                keeper.spawn("kube-controller-manager", &manager)?,
                keeper.spawn("kube-scheduler", &flags::scheduler(&kubeconfig))?,
            ];
        }
        Ok(keeper)
    }

    /// Returns when nobody can give orders any more.
    pub(super) fn obey(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(Order { what, done }) = orders.recv() {
            let result = match what {
                What::KillApiServer => {
                    self.api_server = None;
                    Ok(())
                }
                What::StartApiServer => self.start_api_server(),
            };
            // A test that has gone needs no answer.
            let _ = done.send(result);
        }
    }

    fn start_api_server(&mut self) -> Result<()> {
        if self.api_server.is_some() {
            return Ok(());
        }
        let flags = flags::api_server(&self.folder, &self.files, self.ports, self.parts);
        self.api_server = Some(self.spawn("kube-apiserver", &flags)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.ready()).with_context(|| logs(&self.folder))
    }

    fn spawn(&self, name: &'static str, flags: &[String]) -> Result<Program> {
        Program::spawn(&self.binaries, &self.folder, name, flags)
    }

    async fn ready(&mut self) -> Result<()> {
        let client = kubelet::kubeconfig::client(&self.folder.join(identity::KUBECONFIG)).await?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            for program in self.api_server.iter_mut().chain([&mut self.etcd]) {
                if let Some(status) = program.ended()? {
                    bail!("{} ended before it was ready: {status}", program.name);
                }
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
            match answer {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if Instant::now() > deadline => bail!("not ready after {DEADLINE:?}: {error}"),
                Err(_) if Instant::now() > deadline => bail!("not ready after {DEADLINE:?}: no answer"),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// Free at this moment: the listeners are open together, so that the ports differ.
fn free_ports() -> Result<Ports> {
    let listen = || TcpListener::bind(("127.0.0.1", 0));
    let open = [listen()?, listen()?, listen()?];
    let port = |n: usize| open[n].local_addr().map(|address| address.port());
    Ok(Ports { etcd: port(0)?, etcd_peers: port(1)?, api_server: port(2)? })
}
