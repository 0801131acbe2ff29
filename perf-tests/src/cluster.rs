//! A real etcd and kube-apiserver on free loopback ports, for one test binary. No mock has server-side apply, CEL, defaults and
//! watches together.
//!
//! With [`Parts::Controllers`] kube-controller-manager and kube-scheduler run beside them, with [`Parts::Nodes`] pods reach the API
//! server by its Service, and it reaches their webhooks.
//!
//! A thread of its own, the keeper, starts the programs and owns them. Dropping the [`Cluster`] ends the thread, which kills and
//! reaps them. A cluster in a static is never dropped, so the kernel is told to kill the programs when the keeper dies, which is at
//! the latest with the process, however that ends.

mod account;
mod binaries;
mod definitions;
mod flags;
mod identity;
mod keeper;
mod manifests;
mod modules;
pub(crate) mod program;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, DynamicObject, ObjectMeta, PostParams};
use kube::config::Kubeconfig;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use kubelet::{Programs, folder, plan};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

pub use account::{Account, Wanted};
use keeper::{Keeper, Order, What};
pub use kubelet::kubeconfig::client;

/// For what the controllers do: they begin when the API server is ready and are then busy with themselves for some seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// How much of Kubernetes runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// etcd and the API server. Nothing collects garbage, makes pods of Deployments or ends a namespace.
    ApiServer,
    /// The controllers and the scheduler too.
    Controllers,
    /// Both, on a bed of nodes (`perf_tests::nodes`), where pods have addresses that Services take.
    Nodes,
}

/// A running API server whose first user is an administrator.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    parts: Parts,
    /// Closed to end the keeper.
    orders: Option<mpsc::Sender<Order>>,
    keeper: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Builds its programs where that was not done before, for which the internet is needed.
    pub fn prepare(parts: Parts) -> Result<()> {
        if parts == Parts::Nodes {
            binaries::service_proxy()?;
        }
        binaries::find_or_build().map(drop)
    }

    /// kubectl's path; it is built where that was not done before.
    pub fn kubectl() -> Result<PathBuf> {
        binaries::kubectl()
    }

    /// kube-proxy's path.
    pub(crate) fn service_proxy() -> Result<PathBuf> {
        binaries::service_proxy()
    }

    /// Where a program of a node of the bed finds the API server, as the administrator, and where it may leave files.
    pub(crate) fn node_kubeconfig(&self) -> Result<(PathBuf, &Path)> {
        let path = self.folder.path().join("nodes.kubeconfig");
        let config = std::fs::read_to_string(self.kubeconfig())?;
        let here = self.url()?;
        let there = here.replace("127.0.0.1", &plan::BED.to_string());
        std::fs::write(&path, config.replace(&here, &there))?;
        Ok((path, self.folder.path()))
    }

    /// Starts one and returns when the API server is ready, or with the end of the logs when it does not become so.
    pub fn start(parts: Parts) -> Result<Self> {
        let binaries = binaries::find_or_build()?;
        let folder = folder::make()?;
        let files = identity::write(folder.path())?;
        let (orders, given) = mpsc::channel();
        let (started, ready) = mpsc::channel();
        let here = folder.path().to_owned();
        let keeper = std::thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || match Keeper::start(binaries, here, files, parts) {
                Ok(keeper) => {
                    let _ = started.send(Ok(()));
                    keeper.obey(&given);
                }
                Err(error) => drop(started.send(Err(error))),
            })
            .context("a thread for the cluster")?;
        let cluster = Self { folder, parts, orders: Some(orders), keeper: Some(keeper) };
        ready.recv().context("the cluster's thread panicked")??;
        Ok(cluster)
    }

    /// The Kubernetes release that `$KTHENA_KUBERNETES` asks for instead of the bed's own, as `1.34`.
    pub fn release() -> Option<String> {
        binaries::release()
    }

    /// The one of this test binary, with controllers, started by whoever comes first. Of another release than the bed's own there are none.
    ///
    /// # Panics
    /// Where it does not start, with its logs: no test can go on.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        let parts = if Self::release().is_some() { Parts::ApiServer } else { Parts::Controllers };
        SHARED.get_or_init(|| Self::start(parts).unwrap_or_else(|error| panic!("no cluster: {error:#}")))
    }

    /// Kills the API server, by SIGKILL. Not for the shared cluster.
    pub async fn kill_api_server(&self) -> Result<()> {
        self.order(What::KillApiServer).await
    }

    /// Starts it again on the same port with the same data and returns when it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.order(What::StartApiServer).await
    }

    async fn order(&self, what: What) -> Result<()> {
        let (done, answer) = oneshot::channel();
        let orders = self.orders.as_ref().context("the cluster has ended")?;
        orders.send(Order { what, done }).context("the cluster's thread has ended")?;
        answer.await.context("the cluster's thread has ended")?
    }

    /// Where the API server listens.
    pub fn url(&self) -> Result<String> {
        let config = Kubeconfig::read_from(self.kubeconfig())?;
        let server = config.clusters.into_iter().next().and_then(|named| named.cluster?.server);
        server.context("a kubeconfig without a server")
    }

    /// The certificate of the authority that signed the API server's, in PEM.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join(identity::AUTHORITY)
    }

    /// TLS with the API server's certificate, for who stands in front of it, or is asked by it.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor> {
        let name = self.folder.path().join(identity::SERVER);
        let chain = CertificateDer::pem_file_iter(name.with_extension("crt"))?.collect::<Result<Vec<_>, _>>()?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(name.with_extension("key"))?)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// The identity of a service account, which is made where it is missing.
    pub async fn account(&self, client: &Client, wanted: Wanted<'_>) -> Result<Account> {
        account::make(client, self.folder.path(), wanted, None).await
    }

    /// The same as a pod of that account that is there, by which the audit log tells it from others.
    pub async fn account_of_pod(&self, client: &Client, wanted: Wanted<'_>, pod: &str) -> Result<Account> {
        account::make(client, self.folder.path(), wanted, Some(pod)).await
    }

    /// What a kubelet of this cluster is started with, where nothing else is said.
    pub fn kubelet(&self, programs: Programs) -> Result<kubelet::Config> {
        Ok(kubelet::Config::new(self.kubeconfig(), self.url()?, self.authority(), programs))
    }

    /// Applies every document, strictly and by force. An object without a namespace goes into `namespace`.
    pub async fn apply(&self, client: &Client, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
        manifests::apply(client, namespace, yaml).await
    }

    /// For kubectl, and for programs under test that act as the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join(identity::KUBECONFIG)
    }

    /// One line of JSON for each request that the API server got.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join(flags::AUDIT_LOG)
    }

    /// A client of its own for each call, because a client lives on the runtime that made it and each test has its own.
    pub async fn admin(&self) -> Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// Puts the definitions of `helm/crds` there by server-side apply and returns their names when all are established.
    pub async fn install_definitions(&self, client: &Client) -> Result<Vec<String>> {
        definitions::install(client).await
    }

    /// Fetches what [`Self::install_definitions_of_others`] installs, for a test in a network that reaches nobody: before it enters that.
    pub fn fetch_definitions_of_others() -> Result<()> {
        modules::definitions().map(|_| ())
    }

    /// Puts the definitions of Prometheus Operator and cert-manager there, and returns their names when helm sees them all.
    pub async fn install_definitions_of_others(&self, client: &Client) -> Result<Vec<String>> {
        definitions::install_of_others(client).await
    }

    /// A namespace of its own for each test, in which pods can be made. Its name begins with `prefix`.
    pub async fn namespace(&self, client: &Client, prefix: &str) -> Result<String> {
        let meta = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let wanted = Namespace { metadata: meta, ..Namespace::default() };
        let made = Api::all(client.clone()).create(&PostParams::default(), &wanted).await?;
        if self.parts != Parts::ApiServer {
            let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &made.name_any());
            let exists = await_condition(accounts, "default", |account: Option<&ServiceAccount>| account.is_some());
            tokio::time::timeout(DEADLINE, exists).await.context("no default service account")??;
        }
        Ok(made.name_any())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.orders.take());
        // A keeper that panicked has nothing left to wait for.
        let _ = self.keeper.take().map(JoinHandle::join);
        if std::thread::panicking() {
            eprintln!("{}", program::logs(self.folder.path()));
        }
    }
}
