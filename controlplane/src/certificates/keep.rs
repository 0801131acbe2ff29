//! The loop: looks at the Secret, serves what it holds, does what is due.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::held::Held;
use super::issue::{IssueError, issue};
use super::plan::{Step, Stood, Wanted, due};
use super::publish::{MANAGER, Places};
use super::tls::{certified, server_config};
use super::trust::verified;
use super::{Contents, Issuer, Options};
use crate::refusal::sentence;

/// Between two looks at what somebody else fills; at our own see [`super::Times`]. Who replaces a CA there does it at once, and API servers may be told of it at once, too: until
/// we have looked, they trust nothing that we serve.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(5);
/// The first after something changed or failed; it doubles until all is settled.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// For all that one look asks of the API server.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// The certificate that is served, as it changes.
#[derive(Debug, Clone)]
pub struct Certificates {
    newest: watch::Receiver<Option<Arc<CertifiedKey>>>,
    bundle: watch::Receiver<Arc<str>>,
}

impl Certificates {
    /// A configuration that serves the newest certificate in every handshake, see [`server_config`].
    pub fn server_config(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        server_config(self.newest.clone(), protocols)
    }

    /// The newest one; none until one was read or made.
    pub fn newest(&self) -> watch::Receiver<Option<Arc<CertifiedKey>>> {
        self.newest.clone()
    }

    /// What clients are to trust, as PEM; empty until it was read or made.
    pub fn bundle(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.clone()
    }
}

/// Keeps certificates for as long as the future is run; it does not end.
pub fn keep(client: Client, mut options: Options) -> (Certificates, impl Future<Output = ()> + Send) {
    options.hosts = options.hosts.iter().map(|host| canonical(host)).collect();
    let (served, newest) = watch::channel(None);
    let (trusted, bundle) = watch::channel("".into());
    let keeper = Keeper {
        secrets: Api::namespaced(client.clone(), &options.namespace),
        places: Places::new(&client, &options),
        options,
        served,
        trusted,
        bundle: String::new(),
        published: None,
        leaf: (String::new(), Instant::now()),
    };
    (Certificates { newest, bundle }, keeper.run())
}

/// An address as it comes back from a certificate.
fn canonical(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |address| address.to_string())
}

/// What went wrong in one look; the next one may do better.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("Secret {0} is not there: create it, empty, as the chart does")]
    NoSecret(String),
    #[error(
        "Secret {0} is not there: whoever makes its certificates has not done so yet; look at the Certificate, where it is cert-manager"
    )]
    NotMade(String),
    #[error("Secret {0} has no ca.crt: it is served, but nobody is told whom to trust")]
    NoAuthority(String),
    #[error("Secret {0}: {1}")]
    Secret(String, String),
    #[error("Secret {0} cannot be served: {1}")]
    Unusable(String, String),
    #[error("{0} cannot be given the CA bundle: {1}")]
    Publish(String, String),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("the API server did not answer within {ANSWER_TIME:?}")]
    Late,
}

#[derive(Debug)]
struct Keeper {
    secrets: Api<Secret>,
    places: Places,
    options: Options,
    served: watch::Sender<Option<Arc<CertifiedKey>>>,
    trusted: watch::Sender<Arc<str>>,
    /// What the Secret had as the bundle at the last look.
    bundle: String,
    /// Since when all places have had it, as far as was seen.
    published: Option<Instant>,
    /// The chain that the Secret had at the last look, and since when, as far as was seen.
    leaf: (String, Instant),
}

/// What a look came to.
enum Looked {
    Settled,
    /// We wrote the Secret, or another replica did at the same time.
    Changed,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        loop {
            let looked = timeout(ANSWER_TIME, self.look()).await.unwrap_or(Err(LookError::Late));
            match looked {
                Ok(Looked::Settled) => {
                    (pause, told) = (FIRST_PAUSE, String::new());
                    sleep(self.rest()).await;
                    continue;
                }
                // What was written shows at the next look, and so does what another wrote.
                Ok(Looked::Changed) => {}
                Err(error) => {
                    let sentence = error.to_string();
                    if told != sentence {
                        tracing::warn!(%error, "certificates cannot be kept up to date");
                        told = sentence;
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.rest());
        }
    }

    /// Between two looks where nothing is to be done.
    fn rest(&self) -> Duration {
        match self.options.issuer {
            Issuer::Own(times) => times.look(),
            Issuer::Other => LOOK_AT_OTHERS,
        }
    }

    async fn look(&mut self) -> Result<Looked, LookError> {
        let name = self.options.secret.clone();
        let found =
            self.secrets.get_opt(&name).await.map_err(|error| LookError::Secret(name.clone(), sentence(&error)))?;
        let Some(secret) = found else {
            return Err(match self.options.issuer {
                Issuer::Own(_) => LookError::NoSecret(name),
                Issuer::Other => LookError::NotMade(name),
            });
        };
        let contents = Contents::of(&secret);
        if self.options.issuer == Issuer::Other && !contents.bundle.trim().is_empty() {
            // Before it is served or told to anybody: what was good before goes on.
            verified(&contents).map_err(|sentence| LookError::Unusable(name.clone(), sentence))?;
        }
        if self.bundle != contents.bundle {
            (self.bundle, self.published) = (contents.bundle.clone(), None);
            self.trusted.send_replace(contents.bundle.as_str().into());
        }
        if self.leaf.0 != contents.chain {
            self.leaf = (contents.chain.clone(), Instant::now());
        }
        let served = self.serve(&contents);
        let Issuer::Own(times) = self.options.issuer else {
            served.map_err(|sentence| LookError::Unusable(name.clone(), sentence))?;
            if contents.bundle.trim().is_empty() {
                return Err(LookError::NoAuthority(name));
            }
            return self.publish(&contents).await;
        };
        let held = Held::read(&contents);
        let now = Timestamp::now();
        let stood = Stood { bundle: self.published.map(|since| since.elapsed()), leaf: self.leaf.1.elapsed() };
        let wanted = Wanted { hosts: &self.options.hosts, times };
        if let Some(step) = due(&held, stood, wanted, now) {
            let next = issue(step, &contents, &held, wanted, now)?;
            return self.write(&secret, step, next).await;
        }
        self.publish(&contents).await
    }

    /// Everyone else gets to know of a bundle only once it is in the Secret.
    async fn publish(&mut self, contents: &Contents) -> Result<Looked, LookError> {
        let lacked = self.places.bring(&contents.bundle).await;
        if lacked.map_err(|(place, error)| LookError::Publish(place, sentence(&error)))? || self.published.is_none() {
            self.published = Some(Instant::now());
        }
        Ok(Looked::Settled)
    }

    /// A Secret that cannot be served leaves the last certificate in place.
    fn serve(&self, contents: &Contents) -> Result<(), String> {
        let key = certified(contents)?;
        let same = |old: &Option<Arc<CertifiedKey>>| old.as_ref().is_some_and(|old| old.cert == key.cert);
        if !same(&self.served.borrow()) {
            tracing::info!("serving another certificate");
            self.served.send_replace(Some(Arc::new(key)));
        }
        Ok(())
    }

    async fn write(&self, read: &Secret, step: Step, next: Contents) -> Result<Looked, LookError> {
        let name = &self.options.secret;
        // Of two replicas that do this at once, one has an old resourceVersion by the time it is served.
        let body = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "resourceVersion": read.metadata.resource_version},
            "data": next.data(),
        });
        let parameters = PatchParams::apply(MANAGER).force();
        match self.secrets.patch(name, &parameters, &Patch::Apply(body)).await {
            Ok(_) => {
                tracing::info!(secret = name, ?step, "wrote certificates");
                Ok(Looked::Changed)
            }
            Err(Error::Api(status)) if status.code == 409 => {
                tracing::info!(secret = name, ?step, "another replica wrote certificates first");
                Ok(Looked::Changed)
            }
            Err(error) => Err(LookError::Secret(name.clone(), sentence(&error))),
        }
    }
}

impl Contents {
    fn of(secret: &Secret) -> Self {
        let text = |key: &str| {
            let value = secret.data.as_ref().and_then(|data| data.get(key));
            value.and_then(|value| String::from_utf8(value.0.clone()).ok()).unwrap_or_default()
        };
        Self { bundle: text("ca.crt"), ca_key: text("ca.key"), chain: text("tls.crt"), key: text("tls.key") }
    }

    fn data(self) -> serde_json::Value {
        let Self { bundle, ca_key, chain, key } = self;
        let bytes = |text: String| ByteString(text.into_bytes());
        json!({"ca.crt": bytes(bundle), "ca.key": bytes(ca_key), "tls.crt": bytes(chain), "tls.key": bytes(key)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_as_certificates_say_them() {
        assert_eq!(canonical("0:0:0:0:0:0:0:1"), "::1");
        assert_eq!(canonical("webhook.kthena-system.svc"), "webhook.kthena-system.svc");
    }
}
