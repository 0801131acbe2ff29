//! Statuses and events as people see them, by one replica at a time, which has the rights that the chart gives it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use controlplane::crd::{ModelRoute, ModelServer};
use controlplane::lease::Leadership;
use controlplane::object::Kind;
use controlplane::publish::serve::Progress;
use controlplane::publish::{Memory, Settings, build};
use controlplane::run::Round;
use controlplane::world::{Held, ObjectName, Seniority, World};
use http::Request;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use perf_tests::cluster::Cluster;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::charted;
use crate::objects::Place;
use crate::replica::{Identity, Replica};

mod judged;
mod late;

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A namespace, its objects, and builds of them.
struct Site {
    cluster: &'static Cluster,
    admin: Client,
    namespace: String,
    routes: Place,
    memory: Memory,
    version: u64,
}

impl Site {
    async fn new(prefix: &str) -> Self {
        let cluster = Cluster::shared();
        let admin = cluster.admin().await.unwrap();
        cluster.install_definitions(&admin).await.unwrap();
        let namespace = cluster.namespace(&admin, prefix).await.unwrap();
        charted::grant(cluster, &admin, &namespace).await;
        let routes = Place::of(&admin, Kind::ModelRoute, &namespace);
        let server = json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer", "metadata": {"name": "s"},
            "spec": {"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "s"}}, "workloadPort": {"port": 8000}},
        });
        Place::of(&admin, Kind::ModelServer, &namespace).create(&server).await.unwrap();
        Self { cluster, admin, namespace, routes, memory: Memory::default(), version: 0 }
    }

    async fn replica(&self, name: &str, lease: u64) -> Replica {
        self.replica_at(name, lease, &self.cluster.url().unwrap()).await
    }

    /// One that reaches the API server at this URL.
    async fn replica_at(&self, name: &str, lease: u64, server: &str) -> Replica {
        let account = charted::pod(self.cluster, &self.admin, (&self.namespace, name), server).await;
        let (pod, namespace, lease) = (name.to_owned(), self.namespace.clone(), Duration::from_secs(lease));
        Replica::start(Identity { pod, namespace, lease, kubeconfig: account.kubeconfig })
    }

    /// What the Kubernetes source would say, built.
    async fn round(&mut self) -> Arc<Round> {
        let mut world = World::default();
        for (name, generation, created, spec) in list::<ModelRoute>(&self.admin, &self.namespace).await {
            let spec = Ok(Arc::new(serde_json::from_value(spec).unwrap()));
            world.routes.insert(name, Held { uid: "".into(), generation, seniority: created, spec, last_good: None });
        }
        for (name, generation, created, spec) in list::<ModelServer>(&self.admin, &self.namespace).await {
            let spec = Ok(Arc::new(serde_json::from_value(spec).unwrap()));
            world.servers.insert(name, Held { uid: "".into(), generation, seniority: created, spec, last_good: None });
        }
        let mut built = build(&world, &Settings::default(), &mut self.memory);
        self.version += 1;
        built.snapshot.version.version = self.version;
        Arc::new(Round { world, verdicts: built.verdicts, snapshot: Arc::new(built.snapshot) })
    }

    /// Builds, and two data planes acknowledge it at once.
    async fn publish(&mut self, replicas: &[&Replica]) {
        self.spread(replicas, 2, 2).await;
    }

    /// Builds, and so many of so many data planes acknowledge it.
    async fn spread(&mut self, replicas: &[&Replica], applied: usize, connected: usize) {
        let round = self.round().await;
        for replica in replicas {
            replica.rounds.send_replace(Some(round.clone()));
            let mut progress = Progress { connected, applied, ..Progress::default() };
            progress.source.version = self.version;
            progress.reached = (applied == connected).then_some(progress.source);
            replica.progress.send_replace(Arc::new(progress));
        }
    }

    async fn read(&self, route: &str) -> Value {
        let path =
            format!("/apis/networking.serving.volcano.sh/v1alpha1/namespaces/{}/modelroutes/{route}", self.namespace);
        self.admin.request(Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
    }

    async fn condition(&self, route: &str, kind: &str) -> Value {
        let object = self.read(route).await;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
    }

    /// The columns of `kubectl get modelroute NAME`, by their names.
    async fn columns(&self, route: &str) -> Value {
        let path =
            format!("/apis/networking.serving.volcano.sh/v1alpha1/namespaces/{}/modelroutes/{route}", self.namespace);
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let request = Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new()).unwrap();
        let table: Value = self.admin.request(request).await.unwrap();
        let names =
            table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap());
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        names.zip(cells).map(|(name, cell)| (name.to_owned(), cell.clone())).collect::<serde_json::Map<_, _>>().into()
    }

    async fn events(&self) -> Vec<Event> {
        Api::<Event>::namespaced(self.admin.clone(), &self.namespace).list(&ListParams::default()).await.unwrap().items
    }

    /// Waits until a status speaks of this generation.
    async fn observed(&self, route: &str, generation: i64) {
        wait(format!("{route} at {generation}"), async || {
            self.read(route).await["status"]["observedGeneration"] == generation
        })
        .await;
    }
}

async fn list<K>(admin: &Client, namespace: &str) -> Vec<(ObjectName, i64, Seniority, Value)>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
    K: serde::Serialize,
{
    let listed = Api::<K>::namespaced(admin.clone(), namespace).list(&ListParams::default()).await.unwrap();
    let of = |object: K| {
        let meta = object.meta().clone();
        let created = Seniority::Created(meta.creation_timestamp.unwrap().0.as_second());
        let spec = serde_json::to_value(&object).unwrap()["spec"].take();
        (ObjectName::new(namespace, meta.name.unwrap()), meta.generation.unwrap(), created, spec)
    };
    listed.items.into_iter().map(of).collect()
}

/// A route of `model` to a server; the path is there to be wrong in a way that only we see.
fn route(name: &str, to: &str, path: &str) -> Value {
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute", "metadata": {"name": name},
        "spec": {"modelName": "m", "rules": [
            {"modelMatch": {"uri": {"regex": path}}, "targetModels": [{"modelServerName": to}]},
        ]},
    })
}

/// Counts follow what is counted.
async fn counted(replica: &Replica, sample: &str, expected: f64) {
    wait(format!("{sample} {expected}"), async || replica.metric(sample) == expected).await;
}

async fn wait(what: String, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until it leads or follows.
async fn stands(replica: &Replica, how: &str, holds: impl Fn(&Leadership) -> bool) {
    let mut leadership = replica.leadership.clone();
    let in_time = tokio::time::timeout(DEADLINE, leadership.wait_for(|told| holds(told))).await;
    drop(in_time.unwrap_or_else(|_| panic!("{how}: not within {DEADLINE:?}")).unwrap());
}

#[tokio::test]
async fn statuses_and_mistakes_show_where_people_look() {
    let mut site = Site::new("status").await;
    for (name, to, path) in [("good", "s", "/v1/.*"), ("lost", "nowhere", "/v1/.*"), ("wrong", "s", "(")] {
        site.routes.create(&route(name, to, path)).await.unwrap();
    }
    let replica = site.replica("a", 15).await;
    site.publish(&[&replica]).await;
    for name in ["good", "lost", "wrong"] {
        site.observed(name, 1).await;
    }
    let columns = site.columns("good").await;
    let shown = ["Accepted", "Programmed", "Acknowledged", "Connected"].map(|name| columns[name].clone());
    assert_eq!(shown, [json!("True"), json!("True"), json!(2), json!(2)]);
    assert_eq!(site.condition("lost", "ResolvedRefs").await["reason"], "BackendNotFound");
    let wrong = site.columns("wrong").await;
    assert_eq!(["Accepted", "Programmed"].map(|name| wrong[name].clone()), ["False", "False"]);
    wait("three events".into(), async || site.events().await.len() >= 3).await;
    let mut said: Vec<_> = site
        .events()
        .await
        .into_iter()
        .map(|event| {
            let regarding = event.regarding.unwrap();
            assert_eq!((event.type_.as_deref(), regarding.uid.is_some()), (Some("Warning"), true));
            format!("{} {}", regarding.name.unwrap(), event.reason.unwrap())
        })
        .collect();
    said.sort();
    assert_eq!(said, ["lost BackendNotFound", "s NoPods", "wrong Invalid"]);

    // The same mistake in the next generation is the same event once more; what has not turned keeps its time.
    let before = site.condition("lost", "Accepted").await;
    site.routes.apply(&route("lost", "nowhere", "/v2/.*"), "people", true).await.unwrap();
    site.publish(&[&replica]).await;
    site.observed("lost", 2).await;
    let after = site.condition("lost", "Accepted").await;
    assert_eq!(
        (&after["lastTransitionTime"], &after["observedGeneration"]),
        (&before["lastTransitionTime"], &json!(2))
    );
    let twice = |event: &Event| event.series.as_ref().is_some_and(|series| series.count == 2);
    wait("the event counts".into(), async || site.events().await.iter().any(twice)).await;
    assert_eq!(site.events().await.len(), 3);
    counted(&replica, "kthena_controlplane_leader", 1.0).await;
    counted(&replica, "kthena_controlplane_status_writes_total{result=\"written\"}", 5.0).await;
    counted(&replica, "kthena_controlplane_events_total{result=\"repeated\"}", 1.0).await;
}

#[tokio::test]
async fn a_status_that_says_it_already_is_not_written_by_the_next_leader_either() {
    let mut site = Site::new("again").await;
    site.routes.create(&route("r", "s", "/v1/.*")).await.unwrap();
    let first = site.replica("a", 15).await;
    site.publish(&[&first]).await;
    counted(&first, "kthena_controlplane_status_writes_total{result=\"written\"}", 2.0).await;
    let version = site.read("r").await["metadata"]["resourceVersion"].clone();
    let stopped = Instant::now();
    drop(first);
    let second = site.replica("b", 15).await;
    stands(&second, "leads", |told| matches!(told, Leadership::Leads { .. })).await;
    // It was let go of, and so not waited for.
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    site.publish(&[&second]).await;
    site.routes.create(&route("later", "s", "/v1/.*")).await.unwrap();
    site.publish(&[&second]).await;
    site.observed("later", 1).await;
    assert_eq!(site.read("r").await["metadata"]["resourceVersion"], version);
    counted(&second, "kthena_controlplane_status_writes_total{result=\"written\"}", 1.0).await;
}

const ROUTES: usize = 8;

/// C7: no 2xx of the old leader on an object after the new one wrote it.
#[tokio::test]
async fn c07_a_leader_that_was_stopped_amid_edits_writes_nothing_when_it_wakes() {
    let mut site = Site::new("leaders").await;
    let names: Vec<_> = (0..ROUTES).map(|n| format!("r{n}")).collect();
    for name in &names {
        site.routes.create(&route(name, "s", "/v1/.*")).await.unwrap();
    }
    let a = site.replica("a", 4).await;
    stands(&a, "leads", |told| matches!(told, Leadership::Leads { .. })).await;
    let b = site.replica("b", 4).await;
    site.publish(&[&a, &b]).await;
    for name in &names {
        site.observed(name, 1).await;
    }
    // Amid its writes: some statuses are written and some are not, and so it is with the warnings that follow from them.
    edit(&mut site, &names, 2, &[&a, &b]).await;
    let written = || a.metric("kthena_controlplane_status_writes_total{result=\"written\"}");
    let before = written();
    wait("some statuses".into(), async || written() >= before + 3.0).await;
    let thaw = a.freeze();
    stands(&b, "leads", |told| matches!(told, Leadership::Leads { .. })).await;
    edit(&mut site, &names, 3, &[&a, &b]).await;
    for name in &names {
        site.observed(name, 3).await;
    }
    drop(thaw);
    edit(&mut site, &names, 4, &[&a, &b]).await;
    for name in &names {
        site.observed(name, 4).await;
    }
    stands(&a, "follows", |told| matches!(told, Leadership::Follows { leader: Some(_) })).await;
    assert!(matches!(*b.leadership.borrow(), Leadership::Leads { .. }));
    let dropped = "kthena_controlplane_events_total{result=\"dropped\"}";
    wait("warnings that it kept to itself".into(), async || a.metric(dropped) >= 1.0).await;
    drop((a, b));
    let late = late_writes(&site, "a", "b");
    assert!(late.is_empty(), "of whatever kind, after b led: {late:?}");
    let writes = writes(&site);
    for name in &names {
        let by: Vec<_> = writes.iter().filter(|(route, _)| route == name).map(|(_, by)| by.as_str()).collect();
        let turn = by.iter().position(|by| *by == "b").unwrap_or(by.len());
        assert!(by.len() >= 3 && by[..turn].contains(&"a") && by[turn..].len() >= 2, "{name}: {by:?}");
        assert!(!by[turn..].contains(&"a"), "{name}: {by:?}");
    }
}

async fn edit(site: &mut Site, names: &[String], generation: usize, replicas: &[&Replica]) {
    // The second form is one that is warned of.
    let to = if generation == 2 { "nowhere" } else { "s" };
    for name in names {
        site.routes.apply(&route(name, to, &format!("/v{generation}/.*")), "people", true).await.unwrap();
    }
    site.publish(replicas).await;
}

/// The writes of statuses that the API server took, in its order: of which route, and by whom.
fn writes(site: &Site) -> Vec<(String, String)> {
    let taken = attempts(site).into_iter().filter(|(_, _, code)| code / 100 == 2);
    taken.map(|(route, by, _)| (route, by)).collect()
}

/// What one wrote, of any kind, in requests that came after another one had taken the lease.
fn late_writes(site: &Site, by: &str, next: &str) -> Vec<String> {
    let log = std::fs::read_to_string(site.cluster.audit_log()).unwrap();
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let taken = entries.filter(|entry| {
        entry["stage"] == "ResponseComplete"
            && entry["objectRef"]["namespace"] == *site.namespace
            && !["get", "list", "watch"].iter().any(|verb| entry["verb"] == *verb)
            && entry["responseStatus"]["code"].as_u64().is_some_and(|code| code / 100 == 2)
    });
    let taken: Vec<_> = taken.collect();
    let is_by = |entry: &Value, name: &str| charted::who(entry) == Some(name);
    // All have as many digits.
    let time = |value: &Value| value.as_str().unwrap().to_owned();
    let leases = taken.iter().filter(|entry| is_by(entry, next) && entry["objectRef"]["resource"] == "leases");
    let led = leases.map(|entry| time(&entry["stageTimestamp"])).min().expect("it has taken the lease");
    let late = taken.iter().filter(|entry| is_by(entry, by) && time(&entry["requestReceivedTimestamp"]) > led);
    late.map(|entry| format!("{} {}", entry["verb"], entry["objectRef"])).collect()
}

/// The writes of statuses that came to the API server, in its order: of which route, by whom, and with which code it answered.
fn attempts(site: &Site) -> Vec<(String, String, u64)> {
    attempts_on(site, |object| object["subresource"] == "status")
}

fn attempts_on(site: &Site, counts: impl Fn(&Value) -> bool) -> Vec<(String, String, u64)> {
    let log = std::fs::read_to_string(site.cluster.audit_log()).unwrap();
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let patches = entries.filter(|entry| {
        let object = &entry["objectRef"];
        entry["stage"] == "ResponseComplete"
            && entry["verb"] == "patch"
            && object["namespace"] == *site.namespace
            && counts(object)
    });
    let mut came: Vec<_> = patches
        .map(|entry| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let by = charted::who(&entry).unwrap_or_default().to_owned();
            let code = entry["responseStatus"]["code"].as_u64().unwrap_or_default();
            (text(&entry["stageTimestamp"]), text(&entry["objectRef"]["name"]), by, code)
        })
        .collect();
    came.sort();
    came.into_iter().map(|(_, route, by, code)| (route, by, code)).collect()
}
