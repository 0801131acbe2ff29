//! What the process does as a member of a cluster besides following it.

use std::net::SocketAddr;
use std::sync::Arc;

use kube::{Client, Config};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::parts::Parts;
use crate::admin::View;
use crate::api_server;
use crate::certificates::{self, Certificates, Issuer, Times};
use crate::config::{self, CertificatesIssuer};
use crate::identity;
use crate::peer::{self, Members, Peering, Way};
use crate::run::{Listen, Plane, Source};
use crate::source::kubernetes::Scope;

/// Why that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster.
    #[error("no cluster: {0}; give --kubeconfig")]
    Config(String),
    /// The webhook's address.
    #[error("the webhook: {0}")]
    Webhook(#[source] std::io::Error),
    /// Our own token.
    #[error("--peer-token {0}: {1}")]
    PeerToken(String, String),
}

/// A member of a cluster: it knows where that is, and where it lives in it.
pub(super) struct Member {
    pub(super) client: Client,
    /// The namespace that it lives in.
    pub(super) home: String,
    pub(super) typed: config::Cluster,
    config: Config,
    /// What runs until the end of the process.
    pub(super) tasks: JoinSet<()>,
    certificates: Option<Certificates>,
}

impl Member {
    /// Where the cluster is, by what was typed or by what is around us. Whether it answers is another question.
    pub(super) async fn find(typed: config::Cluster) -> Result<Self, Failure> {
        let config = api_server::config(typed.kubeconfig.as_deref()).await.map_err(Failure::Config)?;
        let client = api_server::client(config.clone()).map_err(|error| Failure::Config(error.to_string()))?;
        let home = typed.home.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client, home, typed, config, tasks: JoinSet::new(), certificates: None })
    }

    pub(super) fn source(&self) -> Source {
        let scope = Scope { namespaces: self.typed.namespaces.clone(), home: self.home.clone() };
        Source::Cluster(Box::new(self.config.clone()), scope)
    }

    /// How data planes connect to this address: those of this machine in plain text unless TLS is asked for, those of others by TLS
    /// and with the tokens of their pods. Whatever is served by TLS has the certificates that are kept from here on.
    pub(super) fn listen(&mut self, address: SocketAddr) -> Listen {
        let by_tls = self.typed.stream.always_tls || !address.ip().is_loopback();
        let stream = by_tls.then(|| self.typed.stream.clone());
        let services = self.typed.webhook.iter().flat_map(|webhook| webhook.services());
        let services: Vec<_> = services.chain(stream.iter().map(|stream| stream.service.clone())).collect();
        if services.is_empty() {
            return Listen::Plain(address);
        }
        let names = services.iter().flat_map(|service| certificates::service_names(service, &self.home));
        let by = self.typed.certificates.issuer;
        // cert-manager brings its CA there itself.
        let told = self.typed.webhook.iter().filter(|_| by != CertificatesIssuer::CertManager);
        let options = certificates::Options {
            namespace: self.home.clone(),
            secret: self.typed.certificates.secret.clone(),
            webhooks: told.map(|webhook| webhook.configuration.clone()).collect(),
            config_map: stream.as_ref().map(|stream| stream.ca.clone()),
            hosts: names.chain(self.typed.certificates.hosts.iter().cloned()).collect(),
            issuer: if by == CertificatesIssuer::Own { Issuer::Own(Times::DEFAULT) } else { Issuer::Other },
        };
        let (certificates, keeping) = certificates::keep(self.client.clone(), options);
        self.tasks.spawn(keeping);
        let certificates = self.certificates.insert(certificates);
        let Some(stream) = stream else { return Listen::Plain(address) };
        let options = identity::Options::new(&self.home, stream.accounts.iter().map(String::as_str));
        let (proofs, keeping) = identity::keep(self.client.clone(), options);
        self.tasks.spawn(keeping);
        Listen::Tls(address, certificates.server_config(&["h2"]), proofs)
    }

    /// How this replica is with the others, which listen on the same port; none where it is to be alone, or serves in plain text.
    pub(super) fn peering(&mut self, plane: &Plane) -> Result<Option<Peering>, Failure> {
        let Some(token) = self.typed.stream.peer_token.clone() else { return Ok(None) };
        let address = plane.address();
        let Some(certificates) = self.certificates.as_ref().filter(|_| !address.ip().is_loopback()) else {
            tracing::warn!(%address, "--peer-token means nothing on loopback: no other replica is told the load of this one's data planes");
            return Ok(None);
        };
        let failed = |why: String| Failure::PeerToken(token.display().to_string(), why);
        let text = std::fs::read_to_string(&token).map_err(|error| failed(error.to_string()))?;
        let own = peer::Own::of_token(&text);
        let own = own.ok_or_else(|| failed("it is not a projected service account token of a pod".to_owned()))?;
        let options = identity::Options::new(&own.namespace, [own.account.as_str()]);
        let (identify, keeping) = identity::keep(self.client.clone(), options);
        self.tasks.spawn(keeping);
        let (service, me) = (self.typed.stream.service.clone(), Arc::<str>::from(own.pod_uid));
        let domain = format!("{service}.{}.svc", self.home);
        let (told, members) = watch::channel(Members { me: me.clone(), all: Vec::new() });
        let place = peer::Place { namespace: self.home.clone(), service, me, port: address.port() };
        self.tasks.spawn(peer::follow(self.client.clone(), place, plane.watches(), told));
        let way = Way::Tls { bundle: certificates.bundle(), domain, token };
        Ok(Some(Peering { members, way, identify }))
    }

    /// Starts what belongs to a cluster, and puts into `view` what it shows.
    pub(super) async fn join(mut self, plane: &Plane, view: &mut View) -> Result<Parts, Failure> {
        if let Some(certificates) = &self.certificates {
            let newest = certificates.newest();
            let waiting = move || newest.borrow().is_none().then(|| "certificates".to_owned()).into_iter().collect();
            view.waiting.push(Box::new(waiting));
        }
        let webhook = match (&self.typed.webhook, &self.certificates) {
            (Some(typed), Some(certificates)) => Some(
                super::parts::webhook(typed.address, certificates, &self.client, &self.home, &mut self.tasks, view)
                    .await?,
            ),
            _ => None,
        };
        Ok(Parts::new(self, webhook, plane, &view.registry))
    }
}

/// Resolves once the sender is gone.
pub(super) async fn stopped(mut ended: watch::Receiver<()>) {
    while ended.changed().await.is_ok() {}
}
