//! C1 for all that a control plane does at an API server, on a paused clock: it follows objects, builds of them, is elected, and writes
//! statuses. Whatever of that holds a time comes back by itself, and data planes are told nothing meanwhile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Posts, Scope, Waiting, watch as follow};
use super::server::{Server, Weather, Write};
use crate::chance::testing::{Rng, fix};
use crate::lease::{self, Leadership};
use crate::metrics::Watches;
use crate::peer::Others;
use crate::publish::serve::Progress;
use crate::publish::{Memory, Settings, build};
use crate::run::Round;
use crate::source::Reached;
use crate::status;

const SECOND: Duration = Duration::from_secs(1);
/// The longest pause of whoever follows a list.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause between two looks at the lease.
const LOOK: Duration = Duration::from_millis(2400);

/// What data planes have been told, and when: the names of endpoints.
type Told = Arc<Mutex<Vec<(Instant, BTreeSet<String>)>>>;

/// A control plane whose two data planes acknowledge all that they are told.
struct Plane {
    server: Server,
    told: Told,
    leadership: watch::Receiver<Leadership>,
    _tasks: JoinSet<()>,
}

impl Plane {
    fn start(server: &Server) -> Self {
        let (registry, mut tasks, told) = (Registry::new(), JoinSet::new(), Told::default());
        let ((tell, rounds), (acknowledge, progress)) = (watch::channel(None), watch::channel(Arc::default()));
        let (options, client) = (lease::Options::new("d", "kthena", "a"), server.client());
        let (leadership, standing) = lease::run(client.clone(), options, &registry, std::future::pending());
        // There is no other replica that has data planes.
        let (alone, others) = watch::channel(Arc::<Others>::default());
        let inputs = status::Inputs { rounds, progress, others, leadership: leadership.clone() };
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
        Self { server: server.clone(), told, leadership, _tasks: tasks }
    }

    fn told(&self) -> Vec<(Instant, BTreeSet<String>)> {
        self.told.lock().unwrap().clone()
    }

    fn newest(&self) -> BTreeSet<String> {
        self.told().pop().map(|(_, endpoints)| endpoints).unwrap_or_default()
    }

    fn leads(&self) -> bool {
        self.leadership.borrow().term(Instant::now()).is_some()
    }

    /// How often since then.
    fn asked(&self, what: &str, since: Instant) -> usize {
        self.server.asked(what).into_iter().filter(|at| *at >= since).count()
    }

    /// Whether the route's status says of this generation that it is programmed.
    fn programmed(&self, generation: i64) -> bool {
        let route = self.server.held("modelroutes", "r").unwrap();
        let conditions = route["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let holds = |found: &Value| found["type"] == "Programmed" && found["status"] == "True";
        route["status"]["observedGeneration"] == generation && conditions.iter().any(holds)
    }
}

fn put(server: &Server, plural: &'static str, name: &str, mut object: Value) {
    (object["metadata"]["name"], object["metadata"]["namespace"]) = (name.into(), "d".into());
    server.write(Write { plural, name: name.to_owned(), object: Some(Arc::new(object)) });
}

fn route(server: &Server, generation: i64) {
    let rules = json!([{"targetModels": [{"modelServerName": "s"}]}]);
    let spec = json!({"modelName": format!("m{generation}"), "rules": rules});
    let status = server.held("modelroutes", "r").map(|held| held["status"].clone()).unwrap_or_default();
    let metadata = json!({"uid": "r", "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"});
    put(server, "modelroutes", "r", json!({"metadata": metadata, "spec": spec, "status": status}));
}

fn pod(server: &Server, n: u8) {
    let (ip, ready) = (format!("10.0.0.{}", n + 1), json!([{"type": "Ready", "status": "True"}]));
    let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready});
    let metadata = json!({"uid": format!("p{n}"), "labels": {"app": "a"}});
    put(server, "pods", &format!("p{n}"), json!({"metadata": metadata, "status": status}));
}

fn furnish(server: &Server) {
    let spec = json!({
        "inferenceEngine": "vLLM", "workloadPort": {"port": 8000}, "workloadSelector": {"matchLabels": {"app": "a"}},
    });
    put(server, "modelservers", "s", json!({"metadata": {"uid": "s", "generation": 1}, "spec": spec}));
    (0..5).for_each(|n| pod(server, n));
    route(server, 1);
}

/// How long until it holds; fails after so long.
async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(within, waiting).await.is_ok(), "{what}: not within {within:?}");
    begin.elapsed()
}

fn named(endpoints: &[u8]) -> BTreeSet<String> {
    endpoints.iter().map(|n| format!("p{n}")).collect()
}

async fn away_for(away: Duration) {
    fix(7);
    let server = Server::new(Rng::new(7));
    furnish(&server);
    let plane = Plane::start(&server);
    until("a status", SECOND * 10, || plane.programmed(1)).await;
    let told = plane.told().len();

    server.set(Weather::Away);
    let begin = Instant::now();
    sleep(SECOND).await;
    server.write(Write { plural: "pods", name: "p1".to_owned(), object: None });
    pod(&server, 9);
    route(&server, 2);
    server.compact();
    sleep(away).await;
    assert_eq!((plane.told().len(), plane.newest()), (told, named(&[0, 1, 2, 3, 4])), "data planes are told nothing");
    assert!(!plane.leads(), "who cannot renew does not lead");
    let since = begin + SECOND * 20;
    assert_eq!(plane.asked("one of modelroutes", since), 0, "nor does it write");
    let looks = plane.asked("one of leases", begin) as u64;
    assert!(looks <= away.as_secs() * 10 / 16 + 2, "{looks} looks at the lease in {away:?}");

    server.set(Weather::Fair);
    let back = Instant::now();
    let force = until("the new state", LONGEST_PAUSE + SECOND, || plane.newest() == named(&[0, 2, 3, 4, 9])).await;
    until("leadership", LOOK + SECOND, || plane.leads()).await;
    until("the new status", LONGEST_PAUSE, || plane.programmed(2)).await;
    println!("away for {away:?}: in force {force:?} after it was back, status written after {:?}", back.elapsed());
    // What both states share was there all the time.
    let shared = named(&[0, 2, 3, 4]);
    assert!(plane.told()[told - 1..].iter().all(|(_, endpoints)| endpoints.is_superset(&shared)), "{:?}", plane.told());
}

#[tokio::test(start_paused = true)]
async fn c01_an_api_server_that_is_away_for_ten_minutes_costs_no_endpoint_and_no_leader_stays_or_is_missed() {
    away_for(SECOND * 600).await;
}

#[tokio::test(start_paused = true)]
async fn c01_an_api_server_that_is_away_for_a_day_costs_no_endpoint_and_no_leader_stays_or_is_missed() {
    away_for(SECOND * 86_400).await;
}
