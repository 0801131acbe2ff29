//! A control plane's source in front of such a server, and how each of its readings is held against the server's history.
//!
//! Each object says in which revision it was written, so that a reading shows of which prefixes of the history it may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::api_server::testing::{Objects, Server, Weather, Write};
use crate::chance::testing::Rng;
use crate::metrics::Watches;
use crate::publish::{Memory, Settings, build};
use crate::source::Reading;
use crate::source::kubernetes::{Posts, Scope, Waiting, watch as follow};
use crate::world::World;

/// The lists that have a history here.
pub(super) const LISTS: [&str; 3] = ["pods", "modelroutes", "modelservers"];

/// How a reading was judged.
struct Judge {
    server: Server,
    memory: Memory,
    /// The shortest prefix of each list's history of which it may be. It never grows shorter.
    prefixes: BTreeMap<&'static str, u64>,
    readings: Vec<(Instant, BTreeMap<&'static str, u64>)>,
}

/// A source that runs until the runtime ends.
pub(super) struct Site {
    pub(super) server: Server,
    pub(super) waiting: watch::Receiver<Waiting>,
    pub(super) registry: Registry,
    judge: Arc<Mutex<Judge>>,
    newest: watch::Receiver<BTreeMap<&'static str, u64>>,
    pub(super) running: JoinHandle<()>,
}

impl Site {
    pub(super) fn start(rng: Rng) -> Self {
        let server = Server::new(rng);
        let (registry, scope) = (Registry::new(), Scope { namespaces: Vec::new(), home: "d".to_owned() });
        let counts = Arc::new(Watches::new(&registry));
        let (told, waiting) = watch::channel(Waiting::new());
        let posts = Posts { waiting: told, reached: watch::channel(Default::default()).0 };
        let (tell, newest) = watch::channel(BTreeMap::new());
        let (memory, prefixes, readings) = (Memory::default(), BTreeMap::new(), Vec::new());
        let judge = Arc::new(Mutex::new(Judge { server: server.clone(), memory, prefixes, readings }));
        let (client, judging) = (server.client(), judge.clone());
        let running = tokio::spawn(async move {
            follow(client, &scope, counts, posts, |reading| {
                drop(tell.send_replace(judging.lock().unwrap().take(&reading)));
            })
            .await;
        });
        Self { server, waiting, registry, judge, newest, running }
    }

    /// Waits until all that is written has been read; fails after so long.
    #[track_caller]
    pub(super) fn reads_all(&self, within: Duration) -> impl Future<Output = Duration> {
        let (mut newest, server, begin) = (self.newest.clone(), self.server.clone(), Instant::now());
        let caller = std::panic::Location::caller();
        async move {
            let all = |read: &BTreeMap<&'static str, u64>| {
                let same = |plural| server.objects(plural, read[plural]) == server.objects(plural, server.revision());
                !read.is_empty() && LISTS.into_iter().all(same)
            };
            let found = timeout(within, newest.wait_for(all)).await.map(|found| drop(found.expect("the source runs")));
            assert!(found.is_ok(), "{caller}: not all is read after {within:?}");
            begin.elapsed()
        }
    }

    pub(super) fn readings(&self) -> Vec<(Instant, BTreeMap<&'static str, u64>)> {
        self.judge.lock().unwrap().readings.clone()
    }

    /// A sample of a metric, 0 where there is none.
    pub(super) fn metric(&self, sample: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(super) fn put(&self, plural: &'static str, name: &str, object: impl FnOnce(u64) -> Value) -> u64 {
        let revision = self.server.revision() + 1;
        let mut object = object(revision);
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = "d".into();
        self.server.write(Write { plural, name: name.to_owned(), object: Some(Arc::new(object)) })
    }

    pub(super) fn pod(&self, name: &str, address: u64, ready: bool) -> u64 {
        self.put("pods", name, |revision| pod(address, ready, revision))
    }

    pub(super) fn route(&self, name: &str) -> u64 {
        self.put("modelroutes", name, |revision| {
            let rules = json!([{"targetModels": [{"modelServerName": "s"}]}]);
            json!({"metadata": {"uid": name}, "spec": {"modelName": format!("{name}-{revision}"), "rules": rules}})
        })
    }

    pub(super) fn server(&self, name: &str, app: &str) -> u64 {
        self.put("modelservers", name, |revision| {
            let spec = json!({
                "inferenceEngine": "vLLM", "model": revision.to_string(), "workloadPort": {"port": 8000},
                "workloadSelector": {"matchLabels": {"app": app}},
            });
            json!({"metadata": {"uid": name}, "spec": spec})
        })
    }

    pub(super) fn delete(&self, plural: &'static str, name: &str) -> u64 {
        self.server.write(Write { plural, name: name.to_owned(), object: None })
    }

    /// With something of each list.
    pub(super) async fn furnished(rng: Rng) -> Self {
        let site = Self::start(rng);
        site.server("s", "a");
        site.route("r0");
        for n in 0..5 {
            site.pod(&format!("p{n}"), n, true);
        }
        site.reads_all(Duration::from_secs(5)).await;
        site
    }

    pub(super) fn set(&self, weather: Weather) {
        self.server.set(weather);
    }

    /// The same, and what is watched is begun anew: else a watch runs on with the rights that it began with.
    pub(super) async fn breaks_off(&self, weather: Weather) {
        self.set(Weather::Away);
        sleep(Duration::from_millis(10)).await;
        self.set(weather);
    }
}

fn pod(address: u64, ready: bool, revision: u64) -> Value {
    let ip = format!("10.0.0.{}", address + 1);
    json!({
        "metadata": {"uid": format!("u{address}"), "labels": {"app": "a", "revision": revision.to_string()}},
        "spec": {"nodeName": "n", "containers": [{"name": "engine", "image": "engine"}]},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    })
}

impl Judge {
    /// Of which prefixes the reading is.
    ///
    /// # Panics
    /// Where it is of none, or of none that is as long as that of the reading before; and where what is published is not what
    /// these prefixes come to.
    fn take(&mut self, reading: &Reading) -> BTreeMap<&'static str, u64> {
        for plural in LISTS {
            let seen = marks(&reading.world, plural);
            let first = self.prefixes.get(plural).copied().unwrap_or_default();
            let Some(prefix) = self.prefix(plural, first, &seen) else {
                panic!("{plural}: {seen:?} is no state after revision {first} of {}", self.server.revision());
            };
            let revision = said(reading, plural);
            let then = written(&self.server.objects(plural, revision));
            assert_eq!(then, seen, "{plural} as it was at {revision}, which the reading says it is of");
            self.prefixes.insert(plural, prefix);
        }
        self.check_published(&reading.world);
        self.readings.push((Instant::now(), self.prefixes.clone()));
        self.prefixes.clone()
    }

    /// The first revision from this one on in which the list was so.
    fn prefix(&self, plural: &str, first: u64, seen: &Marks) -> Option<u64> {
        let mut marks = written(&self.server.objects(plural, first));
        let mut writes = (first + 1..).zip(self.server.after(first)).filter(|(_, write)| write.plural == plural);
        let mut at = first;
        while marks != *seen {
            let (revision, write) = writes.next()?;
            at = revision;
            match &write.object {
                Some(object) => _ = marks.insert(write.name, mark(object)),
                None => _ = marks.remove(&write.name),
            }
        }
        Some(at)
    }

    fn check_published(&mut self, world: &World) {
        let snapshot = build(world, &Settings::default(), &mut self.memory).snapshot;
        let objects = |plural| self.server.objects(plural, self.prefixes[plural]);
        let routes: BTreeSet<_> =
            snapshot.routes.iter().map(|route| route.model.as_ref().unwrap().to_string()).collect();
        let wanted: BTreeSet<_> =
            objects("modelroutes").values().map(|route| text(&route["spec"]["modelName"])).collect();
        assert_eq!(routes, wanted);
        let pods = objects("pods");
        for (name, server) in objects("modelservers") {
            let backend = snapshot.backends.iter().find(|backend| backend.name.as_str() == format!("d/{name}"));
            let endpoints: BTreeSet<_> = backend.unwrap().endpoints.iter().map(|e| e.key.uid.to_string()).collect();
            let app = &server["spec"]["workloadSelector"]["matchLabels"]["app"];
            let selected = pods.values().filter(|pod| pod["metadata"]["labels"]["app"] == *app && is_ready(pod));
            let wanted: BTreeSet<_> = selected.map(|pod| text(&pod["metadata"]["uid"])).collect();
            assert_eq!(endpoints, wanted, "{name}");
        }
    }
}

/// Of which revision of a list the reading says it is.
fn said(reading: &Reading, plural: &str) -> u64 {
    let list = match plural {
        "pods" => "Pod",
        "modelroutes" => "ModelRoute",
        _ => "ModelServer",
    };
    reading.seen.of(list).map_or(0, |version| version.parse().unwrap())
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Each object's name and the revision in which it was written.
type Marks = BTreeMap<String, String>;

fn marks(world: &World, plural: &str) -> Marks {
    match plural {
        "pods" => {
            world.pods.iter().map(|(name, pod)| (name.name.to_string(), pod.labels["revision"].clone())).collect()
        }
        "modelroutes" => {
            let routes = world.routes.iter();
            routes
                .map(|(name, held)| (name.name.to_string(), held.spec.as_ref().unwrap().model_name.clone().unwrap()))
                .collect()
        }
        _ => {
            let servers = world.servers.iter();
            servers
                .map(|(name, held)| (name.name.to_string(), held.spec.as_ref().unwrap().model.clone().unwrap()))
                .collect()
        }
    }
}

fn written(objects: &Objects) -> Marks {
    objects.iter().map(|(name, object)| (name.clone(), mark(object))).collect()
}

fn mark(object: &Value) -> String {
    let (labels, spec) = (&object["metadata"]["labels"], &object["spec"]);
    let mark = [&labels["revision"], &spec["modelName"], &spec["model"]].into_iter().find_map(Value::as_str);
    mark.unwrap().to_owned()
}
