use serde_json::{Value, json};

use super::super::Scope;
use super::super::entry::entry;
use super::*;

/// The places of the lists, in the order in which they are watched.
const SERVERS: usize = 0;
const ROUTES: usize = 1;
const PODS: usize = 3;
const SECRETS: usize = 4;
const NODES: usize = 5;
const SCHEDULER: usize = 6;
/// The first of those that nothing that is published depends on.
const SERVINGS: usize = 7;

struct Cluster {
    watched: Vec<Watched>,
    state: State,
}

impl Cluster {
    fn new() -> Self {
        let watched = Watched::all(&Scope { namespaces: Vec::new(), home: "system".to_owned() });
        Self { state: State::new(watched.clone()), watched }
    }

    /// All lists have been read, and are empty.
    fn empty() -> Self {
        let mut cluster = Self::new();
        for place in 0..cluster.watched.len() {
            cluster.list(place, &[]);
        }
        cluster
    }

    fn entry(&self, place: usize, value: Value) -> Entry {
        entry(&self.watched[place], value).expect("it counts")
    }

    fn list(&mut self, place: usize, values: &[Value]) -> bool {
        let entries = values.iter().filter_map(|value| entry(&self.watched[place], value.clone())).collect();
        self.apply(Change::Listed(place, entries))
    }

    fn put(&mut self, place: usize, value: Value) -> bool {
        let entry = self.entry(place, value);
        self.apply(Change::Put(place, entry))
    }

    fn remove(&mut self, place: usize, value: Value) -> bool {
        let identity = self.entry(place, value).identity;
        self.apply(Change::Gone(place, identity))
    }

    /// Whether it is news.
    fn apply(&mut self, change: Change) -> bool {
        self.state.hear(Step { place: 0, change: Some(change), reach: Reach::Nowhere })
    }

    fn pods(&self) -> Vec<String> {
        self.state.reading().world.pods.keys().map(ToString::to_string).collect()
    }

    fn faults(&self) -> Vec<String> {
        self.state.reading().faults.iter().map(ToString::to_string).collect()
    }
}

fn pod(name: &str, ip: &str, labels: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn route(name: &str, generation: i64, server: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "d", "generation": generation, "creationTimestamp": "2026-01-01T00:00:07Z",
            "resourceVersion": "5", "managedFields": [],
        },
        "spec": {"modelName": "m", "rules": [{"targetModels": [{"modelServerName": server}]}]},
        "status": {"conditions": "of a form that nobody knows"},
    })
}

#[test]
fn nothing_is_complete_before_each_list_has_been_read_once_that_is_published() {
    let mut cluster = Cluster::new();
    // As when one object of them in etcd cannot be decoded.
    cluster.apply(Change::Failed(SERVINGS, "an error of the server".to_owned()));
    for place in 0..SERVINGS {
        assert!(!cluster.state.is_complete());
        assert_eq!(cluster.state.waiting().len(), SERVINGS - place);
        assert!(cluster.list(place, &[]), "an empty list is news the first time");
        assert!(!cluster.list(place, &[]), "and not the second time");
    }
    assert!(cluster.state.is_complete() && cluster.state.waiting().is_empty());
}

#[test]
fn a_list_that_cannot_be_read_is_named_with_the_reason_and_loses_nothing() {
    let mut cluster = Cluster::new();
    assert!(!cluster.apply(Change::Failed(PODS, "forbidden".to_owned())));
    assert!(cluster.state.waiting().contains(&"pods: forbidden".to_owned()), "{:?}", cluster.state.waiting());
    let mut cluster = Cluster::empty();
    cluster.put(PODS, pod("a", "10.0.0.1", json!({})));
    assert!(!cluster.apply(Change::Failed(PODS, "gone away".to_owned())));
    assert!(cluster.state.is_complete());
    assert_eq!(cluster.pods(), ["d/a"]);
}

#[test]
fn nodes_that_may_not_be_read_are_done_without() {
    let mut cluster = Cluster::new();
    for place in (0..cluster.watched.len()).filter(|place| *place != NODES) {
        cluster.list(place, &[]);
    }
    assert!(!cluster.state.is_complete());
    assert!(cluster.apply(Change::Denied(NODES)));
    assert!(cluster.state.is_complete());
    cluster.put(NODES, json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}));
    assert!(!cluster.apply(Change::Denied(NODES)), "what was read stays");
    assert_eq!(cluster.state.reading().world.nodes.len(), 1);
}

#[test]
fn a_new_list_takes_the_place_of_the_old_one_as_a_whole() {
    let mut cluster = Cluster::empty();
    let of = |names: &[&str]| names.iter().map(|name| pod(name, "10.0.0.1", json!({}))).collect::<Vec<_>>();
    assert!(cluster.list(PODS, &of(&["a", "b", "c"])));
    cluster.put(ROUTES, route("r", 1, "s"));
    assert!(!cluster.list(PODS, &of(&["c", "b", "a"])), "the order is no news");
    assert!(cluster.list(PODS, &of(&["b", "d"])));
    assert_eq!(cluster.pods(), ["d/b", "d/d"]);
    assert_eq!(cluster.state.reading().world.routes.len(), 1, "another list's objects stay");
}

#[test]
fn what_nobody_reads_is_no_news() {
    let mut cluster = Cluster::empty();
    let mut value = pod("a", "10.0.0.1", json!({"app": "x"}));
    assert!(cluster.put(PODS, value.clone()));
    value["metadata"]["annotations"] = json!({"seen": "now"});
    value["status"]["containerStatuses"] = json!([{"name": "engine", "restartCount": 3}]);
    assert!(!cluster.put(PODS, value.clone()));
    value["status"]["conditions"][0]["status"] = json!("False");
    assert!(cluster.put(PODS, value.clone()));
    assert!(cluster.remove(PODS, value.clone()));
    assert!(!cluster.remove(PODS, value.clone()), "it is gone already");
    value["status"] = json!({"phase": "Pending"});
    assert!(cluster.put(PODS, value.clone()));
    value["status"]["startTime"] = json!("2026-01-02T03:04:05Z");
    assert!(!cluster.put(PODS, value), "its address is news, and comes after that");

    assert!(cluster.put(ROUTES, route("r", 1, "s")));
    assert!(!cluster.put(ROUTES, route("r", 1, "s")));
    assert!(cluster.put(ROUTES, route("r", 1, "t")), "made anew within one moment, the generation is 1 again");
}

#[test]
fn an_object_that_cannot_be_read_says_so_until_it_can() {
    let mut cluster = Cluster::empty();
    cluster.put(ROUTES, route("r", 1, "s"));
    let mut bad = route("r", 2, "s");
    bad["spec"]["rules"] = json!("none");
    assert!(cluster.put(ROUTES, bad));
    let held = cluster.state.reading().world.routes.into_values().next().unwrap();
    assert_eq!((held.generation, held.seniority), (2, Seniority::Created(1_767_225_607)));
    assert!(held.spec.unwrap_err()[0].starts_with("spec.rules"));
    assert!(cluster.faults()[0].starts_with("ModelRoute d/r: spec.rules"), "{:?}", cluster.faults());
    assert!(cluster.put(ROUTES, route("r", 3, "s")));
    assert_eq!(cluster.faults(), Vec::<String>::new());
}

#[test]
fn what_a_status_keeps_comes_with_the_object_and_is_news_once() {
    let mut cluster = Cluster::empty();
    let mut bad = route("r", 2, "s");
    bad["metadata"]["uid"] = json!("u");
    bad["spec"]["rules"] = json!("none");
    assert!(cluster.put(ROUTES, bad.clone()));
    let held = |cluster: &Cluster| cluster.state.reading().world.routes.into_values().next().unwrap();
    assert_eq!(held(&cluster).last_good, None);
    // Conditions alone are no news, a form is: a replica that never saw it has it from here.
    bad["status"] = json!({"observedGeneration": 2});
    assert!(!cluster.put(ROUTES, bad.clone()));
    bad["status"]["lastGood"] = json!({"generation": 1, "uid": "u", "spec": route("r", 1, "s")["spec"]});
    assert!(cluster.put(ROUTES, bad.clone()));
    assert!(!cluster.put(ROUTES, bad.clone()));
    let kept = held(&cluster).last_good.unwrap();
    assert_eq!((kept.generation, kept.spec.model_name.as_deref()), (1, Some("m")));
    assert!(held(&cluster).spec.is_err(), "what it says now is not that");
    let mut mended = route("r", 3, "s");
    mended["metadata"]["uid"] = json!("u");
    assert!(cluster.put(ROUTES, mended));
    assert_eq!(held(&cluster).last_good, None);
}

#[test]
fn fields_of_a_newer_release_are_passed_over() {
    let mut cluster = Cluster::empty();
    let mut newer = json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {
        "workloadSelector": {"matchLabels": {"app": "x"}}, "workloadPort": {"port": 8000}, "inferenceEngine": "vLLM",
    }});
    newer["spec"]["fromTheFuture"] = json!(true);
    assert!(cluster.put(SERVERS, newer));
    assert_eq!(cluster.faults(), Vec::<String>::new());
    assert!(cluster.state.reading().world.servers.into_values().next().unwrap().spec.is_ok());
}

fn serving(generation: i64, image: &str) -> Value {
    let container = json!({"name": "engine", "image": image});
    let role = json!({"name": "server", "entryTemplate": {"spec": {"containers": [container]}}, "workerReplicas": 0});
    json!({
        "metadata": {"name": "s", "namespace": "d", "uid": "u", "generation": generation, "creationTimestamp": "2026-01-01T00:00:07Z"},
        "spec": {"template": {"roles": [role]}},
    })
}

#[test]
fn of_what_nothing_published_depends_on_it_is_known_whether_it_is_valid() {
    let mut cluster = Cluster::empty();
    let key = (object::Kind::ModelServing, ObjectName::new("d", "s"));
    let held = |cluster: &Cluster| cluster.state.reading().world.judged.get(&key).cloned();
    assert!(cluster.put(SERVINGS, serving(1, "nginx")));
    let first = held(&cluster).unwrap();
    assert_eq!((&*first.uid, first.generation, first.spec), ("u", 1, Ok(Arc::new(()))));
    let mut progressed = serving(1, "nginx");
    progressed["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    assert!(!cluster.put(SERVINGS, progressed), "what its controller says of it is no news");
    assert!(cluster.put(SERVINGS, serving(2, "n ginx")));
    let sentences = held(&cluster).unwrap().spec.unwrap_err();
    assert!(sentences[0].contains("white space"), "{sentences:?}");
    assert!(cluster.faults()[0].starts_with("ModelServing d/s: spec.template"), "{:?}", cluster.faults());
    assert!(cluster.remove(SERVINGS, serving(2, "n ginx")));
    assert_eq!((held(&cluster), cluster.faults()), (None, Vec::new()));
}

#[test]
fn nobody_who_is_told_what_is_published_waits_for_the_rest() {
    let mut cluster = Cluster::new();
    for place in 0..cluster.watched.len() {
        let change = if place <= SERVINGS { Change::Listed(place, Vec::new()) } else { Change::Denied(place) };
        cluster.state.hear(Step { place, change: Some(change), reach: Reach::Whole(90) });
    }
    assert!(cluster.state.is_complete());
    let change = Some(Change::Put(SERVINGS, cluster.entry(SERVINGS, serving(1, "nginx"))));
    assert!(cluster.state.hear(Step { place: SERVINGS, change, reach: Reach::Up(95) }));
    let seen = cluster.state.reading().seen;
    let lists: Vec<_> = seen.lists().collect();
    assert!(lists.len() == SERVINGS && lists.iter().all(|(_, version)| *version == "90"), "{lists:?}");
}

#[test]
fn metadata_alone_makes_a_node() {
    let mut cluster = Cluster::empty();
    let of = |metadata: Value| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
    assert!(cluster.put(NODES, of(json!({"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}))));
    assert_eq!(cluster.state.reading().world.nodes["n"]["topology.kubernetes.io/zone"], "z");
}

#[test]
fn a_credential_is_news_when_its_keys_change_and_not_when_what_they_hold_does() {
    let mut cluster = Cluster::empty();
    let labels = json!({"networking.serving.volcano.sh/external-model-provider-credential": "true"});
    let of = |data: Value| json!({"metadata": {"name": "key", "namespace": "d", "labels": labels}, "data": data});
    assert!(cluster.put(SECRETS, of(json!({"token": "aHVzaA=="}))));
    assert!(!cluster.put(SECRETS, of(json!({"token": "aHVzaGVk"}))));
    let keys = |cluster: &Cluster| {
        cluster.state.reading().world.secrets[&ObjectName::new("d", "key")]
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&cluster), ["token"]);
    assert!(cluster.put(SECRETS, of(json!({"other": "aHVzaA=="}))));
    assert_eq!(keys(&cluster), ["other"]);
}

#[test]
fn a_scheduler_that_cannot_be_read_says_why_and_goes_when_it_is_deleted() {
    let mut cluster = Cluster::empty();
    let metadata = json!({"name": "kthena-router-config", "namespace": "system", "resourceVersion": "41"});
    let of = |data: Value| json!({"metadata": metadata, "data": data});
    cluster.put(SCHEDULER, of(json!({"routerConfiguration": "scheduler: {}"})));
    let held = cluster.state.reading().world.scheduler.unwrap().held;
    assert_eq!(
        (held.generation, held.spec.as_ref().unwrap().as_str()),
        (41, "scheduler: {}"),
        "by its resourceVersion"
    );
    assert!(cluster.put(SCHEDULER, of(json!({}))), "the fault is news");
    let spec = cluster.state.reading().world.scheduler.unwrap().held.spec;
    assert_eq!(*spec.unwrap_err(), ["data.routerConfiguration: is missing".to_owned()]);
    assert_eq!(cluster.faults(), ["ConfigMap system/kthena-router-config: data.routerConfiguration: is missing"]);
    assert!(cluster.list(SCHEDULER, &[]));
    assert_eq!((cluster.state.reading().world.scheduler, cluster.faults()), (None, Vec::new()));
}

/// Whatever comes in whatever order, what counts is what was said last: as if the last state had been listed alone.
#[test]
fn any_history_comes_to_its_last_state() {
    use proptest::prelude::*;
    let step = (0..5_u8, 0..4_u8, 0..3_u8);
    proptest!(|(steps in proptest::collection::vec(step, 0..40))| {
        let (mut cluster, mut last) = (Cluster::empty(), BTreeMap::new());
        for (name, ip, what) in steps {
            let value = pod(&format!("p{name}"), &format!("10.0.0.{ip}"), json!({}));
            match what {
                0 => { last.remove(&name); cluster.remove(PODS, value); }
                1 => { last.insert(name, value.clone()); cluster.put(PODS, value); }
                _ => {
                    last.retain(|held, _| held % 2 == ip % 2);
                    last.insert(name, value);
                    cluster.list(PODS, &last.values().cloned().collect::<Vec<_>>());
                }
            }
        }
        let mut straight = Cluster::empty();
        straight.list(PODS, &last.values().cloned().collect::<Vec<_>>());
        prop_assert_eq!(cluster.state.reading().world.pods, straight.state.reading().world.pods);
    });
}
