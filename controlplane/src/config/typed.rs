//! As typed. Flags and the file have the same names, but that the file has `_` for `-`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Certificates, CertificatesIssuer, Cluster, Config, LogFormat, Source, Stream, Webhook};
use crate::crd::duration;
use crate::{admin, engine};

/// Engines are asked no more often, and no less, whatever was typed: what they say counts for 10 s.
const SCRAPE_INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Each value as far as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Typed {
    /// A directory of YAML or JSON files, or one such file. It takes the place of a cluster.
    pub manifests: Option<PathBuf>,
    /// A folder for the last good forms of manifests that cannot be taken as they are now, so that they stay in force over a
    /// restart; where it is left out they end with the process. In a cluster they are in the objects' statuses.
    #[arg(long, value_name = "FOLDER", env = "KTHENA_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Follows a cluster: the one that this runs in, or the one that kubectl would talk to.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub kubernetes: Option<bool>,
    /// How to reach the cluster, where neither is right.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces whose objects count; all where it is left out.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub namespaces: Option<Vec<String>>,
    /// Where this control plane lives. In a pod it knows that by itself.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where data planes connect [default: 127.0.0.1:15010]. Off loopback they connect by TLS, which takes a cluster.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Salts the prefix hashes: keep it secret, and the same for all control planes of a fleet. Where it is left out, it is
    /// kept in a Secret of the cluster, and without one made of this machine's id.
    #[arg(long, env = "KTHENA_FLEET_SEED", hide_env_values = true)]
    pub fleet_seed: Option<u64>,
    /// A folder of models' vocabularies (MODEL/tokenizer.json and the like), by which data planes are told what engines that
    /// publish KV events have cached. Without one that is predicted. Also of their chat templates, where a ModelServer has
    /// none (MODEL/chat_template.jinja, MODEL/tokenizer_config.json).
    #[arg(long, value_name = "FOLDER")]
    pub vocabularies: Option<PathBuf>,
    /// How often engines are asked for their metrics [default: 1s]. Below 100ms and above 5s it counts as those.
    #[arg(long, value_name = "DURATION", env = "METRICS_SCRAPE_INTERVAL")]
    pub metrics_scrape_interval: Option<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are [default: 127.0.0.1:9091].
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_address: Option<SocketAddr>,
    /// The same by the port alone, at all addresses, as Kthena's programs take it.
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
    /// The loopback port of `/debug`; 0 for none [default: 15000]. A data plane on the same machine has one, too.
    #[arg(long, value_name = "PORT")]
    pub debug_port: Option<u16>,
    /// Where the admission webhook listens; none is served where it is left out.
    #[arg(long, value_name = "ADDRESS")]
    pub webhook_address: Option<SocketAddr>,
    /// The same by the port alone, at all addresses, as Kthena's programs take it.
    #[arg(long, value_name = "PORT")]
    pub webhook_port: Option<u16>,
    /// Serves the admission webhook, at 0.0.0.0:8443 where no other place is named; with false none is served.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_webhook: Option<bool>,
    /// The Service of the webhook [default: kthena-controlplane-webhook].
    #[arg(long, value_name = "NAME", visible_alias = "webhook-service-name")]
    #[serde(alias = "webhook_service_name")]
    pub webhook_service: Option<String>,
    /// The ValidatingWebhookConfiguration that is given our CA [default: kthena-controlplane].
    #[arg(long, value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// The Secret that our certificates are kept in [default: kthena-controlplane-certificates].
    #[arg(long, value_name = "NAME", visible_alias = "cert-secret-name")]
    #[serde(alias = "cert_secret_name")]
    pub certificates_secret: Option<String>,
    /// Who makes our certificates [default: own]. Where it is not we, the Secret is followed and never written, and what it
    /// holds is served as soon as it changes.
    #[arg(long, value_name = "ISSUER")]
    pub certificates_issuer: Option<CertificatesIssuer>,
    /// Further names and addresses by which our certificate is known, besides those of our Services.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub certificate_hosts: Option<Vec<String>>,
    /// Data planes connect by TLS on loopback, too.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub always_tls: Option<bool>,
    /// The Service by which data planes reach us [default: kthena-controlplane].
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// The ConfigMap that is given our CA, for data planes [default: kthena-controlplane-ca].
    #[arg(long, value_name = "NAME")]
    pub ca_config_map: Option<String>,
    /// The service accounts that data planes run as, in the namespace of the control plane [default: kthena-dataplane].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub data_plane_accounts: Option<Vec<String>>,
    /// The file of this pod's projected service account token, of the audience kthena-controlplane: with it the replicas of
    /// this control plane share what they know of the fleet's load, and the asking of engines. Left out, this one is alone.
    #[arg(long, value_name = "FILE")]
    pub peer_token: Option<PathBuf>,
    /// How logs are written [default: text].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Typed {
    /// What a file says.
    pub fn of_yaml(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_norway::from_str(text).map_err(|error| error.to_string())
    }

    /// This, and what it leaves out from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            manifests: self.manifests.or(other.manifests),
            state_dir: self.state_dir.or(other.state_dir),
            kubernetes: self.kubernetes.or(other.kubernetes),
            kubeconfig: self.kubeconfig.or(other.kubeconfig),
            namespaces: self.namespaces.or(other.namespaces),
            namespace: self.namespace.or(other.namespace),
            listen: self.listen.or(other.listen),
            fleet_seed: self.fleet_seed.or(other.fleet_seed),
            vocabularies: self.vocabularies.or(other.vocabularies),
            metrics_scrape_interval: self.metrics_scrape_interval.or(other.metrics_scrape_interval),
            metrics_address: self.metrics_address.or(other.metrics_address),
            metrics_port: self.metrics_port.or(other.metrics_port),
            debug_port: self.debug_port.or(other.debug_port),
            webhook_address: self.webhook_address.or(other.webhook_address),
            webhook_port: self.webhook_port.or(other.webhook_port),
            enable_webhook: self.enable_webhook.or(other.enable_webhook),
            webhook_service: self.webhook_service.or(other.webhook_service),
            webhook_configuration: self.webhook_configuration.or(other.webhook_configuration),
            certificates_secret: self.certificates_secret.or(other.certificates_secret),
            certificates_issuer: self.certificates_issuer.or(other.certificates_issuer),
            certificate_hosts: self.certificate_hosts.or(other.certificate_hosts),
            always_tls: self.always_tls.or(other.always_tls),
            service: self.service.or(other.service),
            ca_config_map: self.ca_config_map.or(other.ca_config_map),
            data_plane_accounts: self.data_plane_accounts.or(other.data_plane_accounts),
            peer_token: self.peer_token.or(other.peer_token),
            log_format: self.log_format.or(other.log_format),
        }
    }
}

/// All that is wrong with what was typed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// What it means.
pub fn resolve(typed: Typed) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = typed.listen.unwrap_or_else(|| loopback(15010));
    let (fleet_seed, log) = (typed.fleet_seed, typed.log_format.unwrap_or_default());
    let (vocabularies, state_dir) = (typed.vocabularies.clone(), typed.state_dir.clone());
    let scrape_interval = scrape_interval(typed.metrics_scrape_interval.as_deref(), &mut problems);
    let metrics =
        one_of(("--metrics-address", typed.metrics_address), ("--metrics-port", typed.metrics_port), &mut problems);
    let metrics = metrics.unwrap_or_else(|| loopback(9091));
    let admin = admin::Options::new(metrics, typed.debug_port.unwrap_or(15000));
    let source = source(typed, &mut problems);
    if let Some(Source::Directory(_)) = source
        && !listen.ip().is_loopback()
    {
        problems.push(format!(
            "--listen {listen}: a directory is served in plain text, so on loopback only; data planes of other machines take a \
             cluster, whose tokens tell who they are"
        ));
    }
    match source {
        Some(source) if problems.is_empty() => {
            Ok(Config { source, state_dir, listen, fleet_seed, vocabularies, scrape_interval, admin, log })
        }
        _ => Err(Problems(problems)),
    }
}

fn scrape_interval(typed: Option<&str>, problems: &mut Vec<String>) -> Duration {
    let Some(text) = typed else { return engine::PERIOD };
    let (least, most) = SCRAPE_INTERVALS;
    let Some(interval) = duration::parse(text).filter(|interval| !interval.is_zero()) else {
        problems.push(format!("--metrics-scrape-interval {text:?}: must be a duration above 0, such as 1s or 500ms"));
        return engine::PERIOD;
    };
    interval.clamp(least, most)
}

/// Where to listen: at an address, or at a port of all addresses.
fn one_of(
    address: (&str, Option<SocketAddr>),
    port: (&str, Option<u16>),
    problems: &mut Vec<String>,
) -> Option<SocketAddr> {
    if address.1.is_some() && port.1.is_some() {
        problems.push(format!("{} and {} say the same: leave out one of them", address.0, port.0));
    }
    address.1.or_else(|| port.1.map(everywhere))
}

fn everywhere(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// None where no webhook is served.
fn webhook(typed: &Typed, problems: &mut Vec<String>) -> Option<Webhook> {
    let (address, port) = (("--webhook-address", typed.webhook_address), ("--webhook-port", typed.webhook_port));
    let named = one_of(address, port, problems);
    let address = match typed.enable_webhook {
        Some(false) => None,
        Some(true) => named.or_else(|| Some(everywhere(8443))),
        None => named,
    };
    let or = |name: &Option<String>, otherwise: &str| name.clone().unwrap_or_else(|| otherwise.to_owned());
    address.map(|address| Webhook {
        address,
        service: or(&typed.webhook_service, "kthena-controlplane-webhook"),
        configuration: or(&typed.webhook_configuration, "kthena-controlplane"),
    })
}

fn source(typed: Typed, problems: &mut Vec<String>) -> Option<Source> {
    let of_cluster = typed.kubernetes == Some(true) || typed.kubeconfig.is_some();
    let for_clusters = [
        ("--namespaces", typed.namespaces.is_some()),
        ("--webhook-address", typed.webhook_address.is_some()),
        ("--webhook-port", typed.webhook_port.is_some()),
        ("--enable-webhook", typed.enable_webhook == Some(true)),
        ("--webhook-service", typed.webhook_service.is_some()),
        ("--webhook-configuration", typed.webhook_configuration.is_some()),
        ("--certificates-secret", typed.certificates_secret.is_some()),
        ("--certificates-issuer", typed.certificates_issuer.is_some()),
        ("--certificate-hosts", typed.certificate_hosts.is_some()),
        ("--always-tls", typed.always_tls == Some(true)),
        ("--service", typed.service.is_some()),
        ("--ca-config-map", typed.ca_config_map.is_some()),
        ("--data-plane-accounts", typed.data_plane_accounts.is_some()),
        ("--peer-token", typed.peer_token.is_some()),
    ];
    let webhook = webhook(&typed, problems);
    match (typed.manifests, of_cluster) {
        (Some(manifests), false) => {
            let unused = for_clusters.iter().filter(|(_, given)| *given);
            problems.extend(unused.map(|(flag, _)| format!("{flag}: means nothing for a directory of manifests")));
            return Some(Source::Directory(manifests));
        }
        (Some(manifests), true) => {
            problems.push(format!("objects come from {} or from a cluster: leave out one of them", manifests.display()))
        }
        (None, false) => {
            problems
                .push("no objects: name a directory of manifests, or give --kubernetes to follow a cluster".to_owned());
        }
        (None, true) => {}
    }
    if typed.state_dir.is_some() {
        problems
            .push("--state-dir: means nothing for a cluster, whose objects' statuses keep what it would".to_owned());
    }
    let namespaces = typed.namespaces.unwrap_or_default();
    if namespaces.iter().any(String::is_empty) {
        problems.push("--namespaces: names a namespace without a name; leave the flag out for all".to_owned());
    }
    let secret = typed.certificates_secret.unwrap_or_else(|| "kthena-controlplane-certificates".to_owned());
    let issuer = typed.certificates_issuer.unwrap_or_default();
    if issuer != CertificatesIssuer::Own && typed.certificate_hosts.is_some() {
        problems.push(
            "--certificate-hosts: means nothing where somebody else makes the certificates (--certificates-issuer)"
                .to_owned(),
        );
    }
    let certificates = Certificates { secret, hosts: typed.certificate_hosts.unwrap_or_default(), issuer };
    let stream = Stream {
        always_tls: typed.always_tls == Some(true),
        service: typed.service.unwrap_or_else(|| "kthena-controlplane".to_owned()),
        ca: typed.ca_config_map.unwrap_or_else(|| "kthena-controlplane-ca".to_owned()),
        accounts: typed.data_plane_accounts.unwrap_or_else(|| vec!["kthena-dataplane".to_owned()]),
        peer_token: typed.peer_token,
    };
    let (kubeconfig, home) = (typed.kubeconfig, typed.namespace);
    Some(Source::Cluster(Box::new(Cluster { kubeconfig, namespaces, home, webhook, certificates, stream })))
}
