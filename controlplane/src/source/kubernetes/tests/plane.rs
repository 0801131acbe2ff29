//! A control plane as far as it deals with an API server: it follows objects, builds of them, is elected, and writes statuses.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Posts, Scope, Waiting, watch as follow};
use crate::api_server::testing::{Server, Write};
use crate::lease::{self, Leadership};
use crate::metrics::Watches;
use crate::peer::Others;
use crate::publish::serve::Progress;
use crate::publish::{Memory, Settings, build};
use crate::run::Round;
use crate::source::Reached;
use crate::status;

/// What data planes have been told, and when: the names of endpoints.
type Told = Arc<Mutex<Vec<(Instant, BTreeSet<String>)>>>;

/// A control plane whose two data planes acknowledge all that they are told.
pub(super) struct Plane {
    server: Server,
    told: Told,
    leadership: watch::Receiver<Leadership>,
    rounds: watch::Receiver<Option<Arc<Round>>>,
    _tasks: JoinSet<()>,
}

impl Plane {
    pub(super) fn start(server: &Server) -> Self {
        let (registry, mut tasks, told) = (Registry::new(), JoinSet::new(), Told::default());
        let ((tell, rounds), (acknowledge, progress)) = (watch::channel(None), watch::channel(Arc::default()));
        let (options, client) = (lease::Options::new("d", "kthena", "a"), server.client());
        let (leadership, standing) = lease::run(client.clone(), options, &registry, std::future::pending());
        // There is no other replica that has data planes.
        let (alone, others) = watch::channel(Arc::<Others>::default());
        let inputs = status::Inputs { rounds: rounds.clone(), progress, others, leadership: leadership.clone() };
        let options = status::Options { namespaces: Vec::new(), instance: "a".to_owned() };
        let writing = status::run(client.clone(), options, inputs, &registry, std::future::pending());
        let (counts, log) = (Arc::new(Watches::new(&registry)), told.clone());
        let posts = Posts { waiting: watch::channel(Waiting::new()).0, reached: watch::channel(Reached::default()).0 };
        tasks.spawn(standing);
        tasks.spawn(async move {
            let _alone = alone;
            writing.await;
        });
        tasks.spawn(async move {
            let (mut memory, mut version) = (Memory::default(), 0);
            let scope = Scope { namespaces: Vec::new(), home: "d".to_owned() };
            follow(client, &scope, counts, posts, |reading| {
                let mut built = build(&reading.world, &Settings::default(), &mut memory);
                version += 1;
                built.snapshot.version.version = version;
                let endpoints = built.snapshot.backends.iter().flat_map(|backend| &backend.endpoints);
                log.lock().unwrap().push((Instant::now(), endpoints.map(|at| at.key.uid.to_string()).collect()));
                let mut progress = Progress { connected: 2, applied: 2, ..Progress::default() };
                progress.source = built.snapshot.version;
                progress.reached = Some(progress.source);
                let (world, verdicts, snapshot) = (reading.world, built.verdicts, Arc::new(built.snapshot));
                acknowledge.send_replace(Arc::new(progress));
                tell.send_replace(Some(Arc::new(Round { world, verdicts, snapshot })));
            })
            .await;
        });
        Self { server: server.clone(), told, leadership, rounds, _tasks: tasks }
    }

    pub(super) fn told(&self) -> Vec<(Instant, BTreeSet<String>)> {
        self.told.lock().unwrap().clone()
    }

    pub(super) fn newest(&self) -> BTreeSet<String> {
        self.told().pop().map(|(_, endpoints)| endpoints).unwrap_or_default()
    }

    /// What was built, for whom it is published to.
    pub(super) fn rounds(&self) -> watch::Receiver<Option<Arc<Round>>> {
        self.rounds.clone()
    }

    pub(super) fn leads(&self) -> bool {
        self.leadership.borrow().term(Instant::now()).is_some()
    }

    /// How often since then.
    pub(super) fn asked(&self, what: &str, since: Instant) -> usize {
        self.server.asked(what).into_iter().filter(|at| *at >= since).count()
    }
}

pub(super) fn put(server: &Server, plural: &'static str, name: &str, mut object: Value) {
    (object["metadata"]["name"], object["metadata"]["namespace"]) = (name.into(), "d".into());
    server.write(Write { plural, name: name.to_owned(), object: Some(Arc::new(object)) });
}

/// How long until it holds; fails after so long.
pub(super) async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(within, waiting).await.is_ok(), "{what}: not within {within:?}");
    begin.elapsed()
}
