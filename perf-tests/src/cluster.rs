//! A real etcd and kube-apiserver on free loopback ports, for one test binary. No mock has server-side apply, CEL, defaults and
//! watches together.
//!
//! A thread of its own, the keeper, starts both programs and owns them. Dropping the [`Cluster`] ends the thread, which kills and
//! reaps them. A cluster in a static is never dropped, so the kernel is told to kill the programs when the keeper dies, which is at
//! the latest with the process, however that ends.

mod binaries;
mod definitions;
mod folder;
mod identity;
mod program;

use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt};

/// A running API server whose only user is an administrator.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    /// Closed to end the keeper.
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Starts one and returns when it is ready, or with the end of its logs when it does not become so.
    pub fn start() -> Result<Self> {
        let binaries = binaries::find_or_build()?;
        let folder = folder::make()?;
        let files = identity::write(folder.path())?;
        let (stop, stopped) = mpsc::channel();
        let (started, ready) = mpsc::channel();
        let here = folder.path().to_owned();
        let keeper = std::thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || match program::start(&binaries, &here, &files) {
                Ok(programs) => {
                    let _ = started.send(Ok(()));
                    // Only ever an error: the other end was dropped.
                    let _ = stopped.recv();
                    drop(programs);
                }
                Err(error) => drop(started.send(Err(error))),
            })
            .context("a thread for the cluster")?;
        let cluster = Self { folder, stop: Some(stop), keeper: Some(keeper) };
        ready.recv().context("the cluster's thread panicked")??;
        Ok(cluster)
    }

    /// The one of this test binary, started by whoever comes first.
    ///
    /// # Panics
    /// Where it does not start, with its logs: no test can go on.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("no cluster: {error:#}")))
    }

    /// For kubectl, and for programs under test that act as the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join(identity::KUBECONFIG)
    }

    /// One line of JSON for each request that the API server got.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join(program::AUDIT_LOG)
    }

    /// A client of its own for each call, because a client lives on the runtime that made it and each test has its own.
    pub async fn admin(&self) -> Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// Puts the definitions of `helm/crds` there by server-side apply and returns their names when all are established.
    pub async fn install_definitions(&self, client: &Client) -> Result<Vec<String>> {
        definitions::install(client).await
    }

    /// A namespace of its own for each test. Its name begins with `prefix`.
    pub async fn namespace(&self, client: &Client, prefix: &str) -> Result<String> {
        let meta = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let wanted = Namespace { metadata: meta, ..Namespace::default() };
        let made = Api::all(client.clone()).create(&PostParams::default(), &wanted).await?;
        Ok(made.name_any())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A keeper that panicked has nothing left to wait for.
        let _ = self.keeper.take().map(JoinHandle::join);
        if std::thread::panicking() {
            eprintln!("{}", program::logs(self.folder.path()));
        }
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)?)
}
