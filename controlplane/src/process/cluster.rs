//! What the process does in a cluster besides following it.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::task::JoinSet;

use crate::admin::View;
use crate::certificates::{self, Issuer};
use crate::config;
use crate::run::Source;
use crate::source::kubernetes::Scope;
use crate::webhook::{self, Reach, Webhook};

/// Why that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster.
    #[error("no cluster: {0}; give --kubeconfig")]
    Config(String),
    /// The webhook's address.
    #[error("the webhook: {0}")]
    Webhook(#[source] std::io::Error),
}

/// A cluster that we know how to reach.
pub(super) struct Found {
    pub(super) client: Client,
    /// Where we live in it.
    pub(super) home: String,
    config: Config,
    namespaces: Vec<String>,
}

/// Where the cluster is, by what was typed or by what is around us. Whether it answers is another question.
pub(super) async fn find(typed: &config::Cluster) -> Result<Found, Failure> {
    let config = match &typed.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|error| Failure::Config(error.to_string()))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(read, &options).await.map_err(|error| Failure::Config(error.to_string()))?
        }
        None => Config::infer().await.map_err(|error| Failure::Config(error.to_string()))?,
    };
    let client = Client::try_from(config.clone()).map_err(|error| Failure::Config(error.to_string()))?;
    let home = typed.home.clone().unwrap_or_else(|| config.default_namespace.clone());
    Ok(Found { client, home, config, namespaces: typed.namespaces.clone() })
}

impl Found {
    pub(super) fn source(&self) -> Source {
        let scope = Scope { namespaces: self.namespaces.clone(), home: self.home.clone() };
        Source::Cluster(Box::new(self.config.clone()), scope)
    }
}

/// All of it, started.
pub(super) struct Parts {
    /// These end with the process.
    tasks: JoinSet<()>,
    webhook: Option<Webhook>,
}

impl Parts {
    /// Starts what was asked for, and puts into `view` what it shows.
    pub(super) async fn start(typed: &config::Cluster, found: &Found, view: &mut View) -> Result<Self, Failure> {
        let mut tasks = JoinSet::new();
        let Some(served) = &typed.webhook else { return Ok(Self { tasks, webhook: None }) };
        let names = certificates::service_names(&served.service, &found.home);
        let options = certificates::Options {
            namespace: found.home.clone(),
            secret: typed.certificates.secret.clone(),
            webhooks: vec![served.configuration.clone()],
            config_map: None,
            hosts: names.into_iter().chain(typed.certificates.hosts.iter().cloned()).collect(),
            issuer: Issuer::Own,
        };
        let (certificates, keeping) = certificates::keep(found.client.clone(), options);
        tasks.spawn(keeping);
        let tls = certificates.server_config(&["http/1.1"]);
        let webhook = Webhook::bind(served.address, tls).await.map_err(Failure::Webhook)?;
        let (reached, trying) = webhook::reach(found.client.clone(), found.home.clone());
        tasks.spawn(trying);
        view.reviews = Some(webhook.counts());
        view.waiting.push(Box::new(move || match &*reached.borrow() {
            Reach::Reached => Vec::new(),
            Reach::Not(why) => vec![format!("the webhook: {why}")],
        }));
        tracing::info!(address = %webhook.address(), "the webhook listens");
        Ok(Self { tasks, webhook: Some(webhook) })
    }

    /// Until `stop`, and until what was begun is done.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        // Dropped at the end, which ends them.
        let _tasks = self.tasks;
        match self.webhook {
            Some(webhook) => webhook.serve(stop).await,
            None => stop.await,
        }
    }
}
