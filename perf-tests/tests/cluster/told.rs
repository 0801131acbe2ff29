//! A data plane that only looks: it takes each table that its control plane publishes as data planes do, whole, says that it is in force, and
//! holds it against bounds that a test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::delta::Incoming;
use api::proto::config_ack::Result as Answer;
use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Says;
use api::proto::to_data_plane::Message as Told;
use api::proto::{Applied, ConfigAck, FromDataPlane, Subscribe, Version};
use api::snapshot::Snapshot;
use futures_util::stream::unfold;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use crate::program::Home;
use crate::wait::{until, within};

/// What of a table a plain reading of the API server can say, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By `namespace/name`: the model, and of each rule the backends with their weights.
    pub routes: BTreeMap<String, String>,
    /// By `namespace/name`: the model of its pods.
    pub backends: BTreeMap<String, String>,
    /// By address: the pod's UID.
    pub endpoints: BTreeMap<String, String>,
}

impl Table {
    fn of(snapshot: &Snapshot) -> Self {
        let endpoints = snapshot.backends.iter().flat_map(|backend| &backend.endpoints);
        let routes = snapshot.routes.iter().map(|route| {
            let targets = route.rules.iter().flat_map(|rule| &rule.targets);
            let targets = targets.map(|target| said(target.backend.as_str(), target.weight)).collect::<Vec<_>>();
            let model = route.model.as_ref().map(ToString::to_string).unwrap_or_default();
            (route.name.to_string(), format!("{model} {}", targets.join(" ")))
        });
        let backends = snapshot.backends.iter();
        Self {
            routes: routes.collect(),
            backends: backends
                .map(|one| (one.name.to_string(), one.model.as_ref().map(ToString::to_string).unwrap_or_default()))
                .collect(),
            endpoints: endpoints.map(|one| (one.address.to_string(), one.key.uid.to_string())).collect(),
        }
    }
}

/// A target of a route.
pub fn said(backend: &str, weight: impl std::fmt::Display) -> String {
    format!("{backend} {weight}")
}

/// Routes by their names, endpoints by their addresses: what each table has to have, and what it may have. Nothing has to where
/// there has been no table yet.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    pub must: BTreeSet<String>,
    pub may: BTreeSet<String>,
    /// Whether it may have anything else, too.
    pub strange: bool,
}

/// What has come so far.
#[derive(Debug, Default)]
struct Held {
    bounds: Bounds,
    tables: u64,
    /// The first that was out of bounds.
    wrong: Option<String>,
}

impl Held {
    fn take(&mut self, table: &Table) {
        self.tables += 1;
        let has: BTreeSet<String> = table.routes.keys().chain(table.endpoints.keys()).cloned().collect();
        let lost = &self.bounds.must - &has;
        let strange = if self.bounds.strange { BTreeSet::new() } else { &has - &self.bounds.may };
        if !(lost.is_empty() && strange.is_empty()) {
            let n = self.tables;
            let sentence = format!("table {n} has lost {lost:?}, and has {strange:?} which was gone or never there");
            self.wrong.get_or_insert(sentence);
        }
    }
}

/// One that is subscribed. Dropped, it is gone.
pub struct Watcher {
    newest: watch::Receiver<Table>,
    held: Arc<Mutex<Held>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Of a control plane that serves; it has a first table.
    pub async fn of(home: &Home, bounds: Bounds) -> Self {
        let held = Arc::new(Mutex::new(Held { bounds, ..Held::default() }));
        let (tell, newest) = watch::channel(Table::default());
        let (stream, of) = (home.stream, held.clone());
        let task = tokio::spawn(async move {
            let ended = follow(stream, &of, &tell).await;
            lock(&of).wrong.get_or_insert(format!("the stream has ended: {ended:?}"));
        });
        let watcher = Self { newest, held, task };
        within("a first table", async {
            let mut newest = watcher.newest.clone();
            // Where the stream has ended there is none, and why is said below.
            let _ = newest.changed().await;
        })
        .await;
        watcher.check();
        watcher
    }

    pub fn newest(&self) -> Table {
        self.newest.borrow().clone()
    }

    /// How many tables there were.
    pub fn tables(&self) -> u64 {
        lock(&self.held).tables
    }

    /// Before a change is written.
    pub fn widen<T>(&self, change: impl FnOnce(&mut Bounds) -> T) -> T {
        change(&mut lock(&self.held).bounds)
    }

    /// Nothing changes any more, and this is the newest table: whatever comes later is it.
    pub fn tighten(&self, table: &Table) {
        let has: BTreeSet<String> = table.routes.keys().chain(table.endpoints.keys()).cloned().collect();
        lock(&self.held).bounds = Bounds { must: has.clone(), may: has, strange: false };
    }

    /// Waits until the newest table is this one, which is asked for again and again.
    pub async fn until(&self, what: &str, mut expected: impl AsyncFnMut() -> Table) -> Table {
        let mut table = Table::default();
        until(&format!("table of {what}"), async || {
            self.check();
            table = expected().await;
            table == self.newest()
        })
        .await;
        table
    }

    /// Waits until a table is so.
    pub async fn told(&self, what: &str, holds: impl Fn(&Table) -> bool) {
        let mut newest = self.newest.clone();
        // It ends with the stream, and then that is what is wrong.
        within(what, async { drop(newest.wait_for(|table| holds(table)).await) }).await;
        self.check();
    }

    /// That none was out of bounds so far.
    #[track_caller]
    pub fn check(&self) {
        let wrong = lock(&self.held).wrong.clone();
        assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
        if std::thread::panicking() {
            println!("the newest of {} tables: {:?}", self.tables(), self.newest());
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the stream ends.
async fn follow(port: u16, held: &Mutex<Held>, tell: &watch::Sender<Table>) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.connect().await?;
    let (say, queue) = mpsc::channel(4);
    let hello = Subscribe { node: "looks".to_owned(), instance: 1, ..Subscribe::default() };
    say.send(FromDataPlane { message: Some(Says::Subscribe(hello)) }).await?;
    let says = unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
    let mut told = DataPlaneClient::new(channel).max_decoding_message_size(4 << 20).stream(says).await?.into_inner();
    let (mut snapshot, mut incoming) = (Snapshot::default(), Incoming::default());
    while let Some(message) = told.message().await? {
        let Some(Told::Config(update)) = message.message else { continue };
        anyhow::ensure!(incoming.add(update.delta.unwrap_or_default()), "a table that is too large");
        if update.more {
            continue;
        }
        snapshot = std::mem::take(&mut incoming).apply(&snapshot)?;
        let table = Table::of(&snapshot);
        lock(held).take(&table);
        tell.send_replace(table);
        let version = Version { epoch: snapshot.version.epoch, version: snapshot.version.version };
        let result = Some(Answer::Applied(Applied { version: Some(version), content_hash: 0 }));
        say.send(FromDataPlane { message: Some(Says::Config(ConfigAck { nonce: update.nonce, result })) }).await?;
    }
    anyhow::bail!("by the control plane")
}
