//! The loop: asks the API server for what tokens are verified by, and keeps the last answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::Api;
use kube::{Client, Error};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::asked::{Asked, Look};
use super::keys::KeysError;
use super::known::{Accounts, Known};
use super::verify::Proofs;
use super::{Keys, Options};
use crate::refusal::sentence;

/// For all that one look asks.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Between two looks, whoever asks for them: keys that nobody has ever heard of must not cost the API server much.
const LEAST: Duration = Duration::from_secs(5);
/// After the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Not longer: what counts past its end does so until it is known that the API server is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Verifies tokens by what the API server says, for as long as the future is run; it does not end. Reading the keys takes the role
/// `system:service-account-issuer-discovery`, which every service account has unless that was taken away, and the accounts take `get` by name.
pub fn keep(client: Client, options: Options) -> (Arc<Proofs>, impl Future<Output = ()> + Send) {
    let asked = watch::Sender::new(Asked::default());
    let again = Arc::new(Notify::new());
    let proofs = Arc::new(Proofs::new(options.clone(), asked.subscribe(), again.clone()));
    (proofs, run(Keeper { client, options, asked, again }))
}

/// What went wrong in one look; the last answer holds on.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("{} of the API server cannot be read: {}", .0, sentence(.1))]
    Path(&'static str, Error),
    #[error("{ISSUER} of the API server: {0}")]
    Issuer(#[from] serde_json::Error),
    #[error("{KEYS} of the API server: {0}")]
    Keys(#[from] KeysError),
    #[error("ServiceAccount {}: {}", .0, sentence(.1))]
    Account(String, Error),
    #[error("the API server did not answer within {ANSWER_TIME:?}")]
    Late,
}

impl LookError {
    /// What it says of the API server, after a look of our own or one that somebody asked for.
    fn look(&self, is_ours: bool) -> Look {
        match self.nobody() {
            true if is_ours => Look::Nobody,
            true => Look::Unsure,
            false => Look::Useless,
        }
    }

    /// Whoever refuses is there. A server that fails cannot make tokens either, and a gateway that says so has nobody behind it.
    fn nobody(&self) -> bool {
        match self {
            Self::Path(_, Error::Api(status)) | Self::Account(_, Error::Api(status)) => status.code >= 500,
            Self::Path(_, error) | Self::Account(_, error) => matches!(error, Error::Service(_) | Error::HyperError(_)),
            Self::Late => true,
            Self::Issuer(_) | Self::Keys(_) => false,
        }
    }
}

const ISSUER: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

struct Keeper {
    client: Client,
    options: Options,
    asked: watch::Sender<Asked>,
    again: Arc<Notify>,
}

async fn run(keeper: Keeper) {
    let refresh = keeper.options.refresh;
    let (mut pause, mut told, mut due) = (FIRST_PAUSE, String::new(), Instant::now());
    loop {
        // Before that it is only made because somebody asked for it.
        let is_ours = Instant::now() >= due;
        let looked = timeout(ANSWER_TIME, look(&keeper.client, &keeper.options)).await;
        let now = Instant::now();
        match looked.unwrap_or(Err(LookError::Late)) {
            Ok(known) => {
                (pause, told, due) = (FIRST_PAUSE, String::new(), now + refresh);
                keeper.learn(Look::Told(known));
            }
            Err(error) => {
                let sentence = error.to_string();
                if told != sentence {
                    tracing::warn!(%error, "what data planes' tokens are verified by cannot be brought up to date");
                    told = sentence;
                }
                let rest = pause.min(refresh);
                due = if is_ours { now + rest } else { due.min(now + rest) };
                if is_ours {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                keeper.learn(error.look(is_ours));
            }
        }
        sleep_until(due.min(now + LEAST)).await;
        // An error means that nobody asked meanwhile.
        let _ = timeout_at(due, keeper.again.notified()).await;
    }
}

impl Keeper {
    fn learn(&self, look: Look) {
        if let Look::Told(told) = &look
            && self.asked.borrow().answer().is_none_or(|answer| *answer.known != *told)
        {
            tracing::info!(issuer = told.issuer, "verifying data planes' tokens by what the API server says now");
        }
        self.asked.send_modify(|asked| asked.learn(look, self.options.clock.now()));
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

async fn look(client: &Client, options: &Options) -> Result<Known, LookError> {
    let discovery: Discovery = serde_json::from_str(&read(client, ISSUER).await?)?;
    let keys = Keys::read(read(client, KEYS).await?.as_bytes())?;
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), &options.namespace);
    let mut accounts = BTreeMap::new();
    for name in &options.service_accounts {
        let found = api.get_opt(name).await.map_err(|error| LookError::Account(name.clone(), error))?;
        if let Some(uid) = found.and_then(|account| account.metadata.uid) {
            accounts.insert(name.clone(), uid);
        }
    }
    Ok(Known { issuer: discovery.issuer, keys, accounts: Accounts(accounts) })
}

async fn read(client: &Client, path: &'static str) -> Result<String, LookError> {
    let request = Request::get(path).body(Vec::new()).expect("a path without anything special");
    client.request_text(request).await.map_err(|error| LookError::Path(path, error))
}
