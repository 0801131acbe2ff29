//! Data planes, and replicas, that prove who they are by their pods' tokens, on the test's clock. What their tokens are verified by is asked
//! at the test's API server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tonic::Status;

use super::plane::{put, until};
use crate::api_server::testing::Server;
use crate::identity::testing::{ISSUER, Signer, claims, options};
use crate::identity::{Clock, Options, keep};
use crate::publish::serve::Options as Stream;
use crate::publish::serve::testing::{Guest, InProcess};
use crate::run::Round;

/// Longer than any test: here streams end because of their tokens.
const STREAM_LIFE: Duration = Duration::from_secs(100 * 3_600);
/// The first look is a matter of milliseconds.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Fleet {
    serve: Arc<InProcess>,
    signer: Signer,
    clock: Clock,
    tasks: JoinSet<()>,
}

impl Fleet {
    pub(super) async fn start(server: &Server) -> Self {
        let signer = Signer::es256("a");
        server.show("/.well-known/openid-configuration", json!({"issuer": ISSUER}));
        server.show("/openid/v1/jwks", json!({"keys": [signer.jwk()]}));
        put(server, "serviceaccounts", "dataplane", json!({"metadata": {"uid": "sa-1"}}));
        let (start, begin) = (Timestamp::from_second(1_800_000_000).unwrap(), Instant::now());
        let clock = Clock::new(move || start + begin.elapsed());
        let (proofs, keeping) = keep(server.client(), Options { clock: clock.clone(), ..options() });
        let mut tasks = JoinSet::new();
        tasks.spawn(keeping);
        let stream = Stream { stream_life: STREAM_LIFE, ..Stream::default() };
        let serve = Arc::new(InProcess::start(proofs, stream).await);
        let fleet = Self { serve, signer, clock, tasks };
        let token = fleet.token(LOOK * 60);
        // The first one waits for the first look.
        fleet.join(&token).await.unwrap();
        fleet
    }

    /// Publishes what is built.
    pub(super) fn follow(&mut self, mut rounds: watch::Receiver<Option<Arc<Round>>>) {
        let serve = self.serve.clone();
        self.tasks.spawn(async move {
            while rounds.changed().await.is_ok() {
                let round = rounds.borrow_and_update().clone();
                round.into_iter().for_each(|round| serve.publish(round.snapshot.clone()));
            }
        });
    }

    /// One that ends so long from now on.
    pub(super) fn token(&self, lasts: Duration) -> String {
        let now = self.clock.now().clock;
        let mut claims: Value = claims(now);
        claims["exp"] = (now + lasts).as_second().into();
        self.signer.token(&claims)
    }

    /// One that is signed by a key of which the API server knows nothing.
    pub(super) fn strangers_token(&self) -> String {
        Signer::es256("z").token(&claims(self.clock.now().clock))
    }

    pub(super) async fn join(&self, token: &str) -> Result<Guest, Status> {
        self.serve.join(token).await
    }

    pub(super) fn peer(&self, token: &str) -> JoinHandle<Status> {
        self.serve.peer(token, "pod-1")
    }

    pub(super) fn excused(&self) -> u64 {
        self.serve.excused()
    }
}

/// Waits until a data plane has these endpoints.
pub(super) async fn holds(guest: &Guest, endpoints: &BTreeSet<String>) {
    let held = || {
        let held = guest.held.borrow();
        let endpoints = held.backends.iter().flat_map(|backend| &backend.endpoints);
        endpoints.map(|endpoint| endpoint.key.uid.to_string()).collect::<BTreeSet<_>>()
    };
    until("a data plane has the state", LOOK, || held() == *endpoints).await;
}
