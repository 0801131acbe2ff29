//! What was typed for `serve` (flags, environment, YAML) and what it means. A flag beats a variable, a variable beats the file.
//! All problems are said at once; unknown keys are refused.

mod typed;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin;

pub use typed::{Problems, Typed, resolve};

/// The meaning: every value is there, and they fit each other.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the objects come from.
    pub source: Source,
    /// Where last good forms of a directory's objects outlive the process; none where they end with it.
    pub state_dir: Option<PathBuf>,
    /// Where data planes connect.
    pub listen: SocketAddr,
    /// See [`crate::publish::Settings::fleet_seed`]; none where it is to be found out.
    pub fleet_seed: Option<u64>,
    /// Where models' vocabularies are; none where engines' caches are not heard.
    pub vocabularies: Option<PathBuf>,
    /// How often engines are asked for their metrics.
    pub scrape_interval: Duration,
    /// Where operators and probes look.
    pub admin: admin::Options,
    /// How logs are written.
    pub log: LogFormat,
}

/// Where the objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory of manifests, or one file of them.
    Directory(PathBuf),
    /// A cluster.
    Cluster(Box<Cluster>),
}

/// A cluster and our place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How to reach it; none inside of one, or where `kubectl` would find it.
    pub kubeconfig: Option<PathBuf>,
    /// Whose objects count; all where it is empty.
    pub namespaces: Vec<String>,
    /// Where this control plane lives, with its Secrets and ConfigMaps; none where the cluster's configuration tells.
    pub home: Option<String>,
    /// The admission webhook; none where it is not served.
    pub webhook: Option<Webhook>,
    /// Our certificates.
    pub certificates: Certificates,
    /// How data planes connect.
    pub stream: Stream,
}

/// How data planes connect from other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// By TLS on loopback, too.
    pub always_tls: bool,
    /// The Service by which they reach us.
    pub service: String,
    /// The ConfigMap that gets our CA, for them.
    pub ca: String,
    /// The service accounts of our namespace that they run as.
    pub accounts: Vec<String>,
    /// Our own pod's token, for the other replicas; without it this one is alone.
    pub peer_token: Option<PathBuf>,
}

/// Our certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The Secret that they are kept in.
    pub secret: String,
    /// Names and addresses that they are for, besides those of our Services.
    pub hosts: Vec<String>,
    /// Who makes them.
    pub issuer: CertificatesIssuer,
}

/// Who makes our certificates, and who tells API servers of their CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificatesIssuer {
    /// We make them, rotate them, and write the CA into the ValidatingWebhookConfiguration.
    #[default]
    Own,
    /// cert-manager fills the Secret, and writes the CA into the ValidatingWebhookConfiguration.
    CertManager,
    /// Somebody fills the Secret (tls.crt, tls.key, ca.crt); we write the CA into the ValidatingWebhookConfiguration.
    Secret,
}

/// The admission webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where it listens.
    pub address: SocketAddr,
    /// The Service by which API servers reach it.
    pub service: String,
    /// The ValidatingWebhookConfiguration that gets our CA.
    pub configuration: String,
}

impl Webhook {
    /// By which it is reached: by the second also before it is ready, for until an API server has reached one it is not.
    pub fn services(&self) -> [String; 2] {
        [self.service.clone(), format!("{}-starting", self.service)]
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests;
