//! Any sequence of edits: every publish has exactly the endpoints that a plain reading of the rules gives, and so never
//! fewer than the old and the new state share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::id::EndpointKey;
use api::snapshot::Snapshot;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::{Memory, SETTINGS, assert_decodes, build, name};
use crate::world::{Held, Life, Pod, Seniority, World};

const PODS: u8 = 6;
const SERVERS: u8 = 3;
const LABELS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Edit {
    /// A pod as it is now; made anew where the last field says so.
    Pod(u8, BTreeSet<usize>, Life, bool),
    DeletePod(u8),
    /// A server that selects by these labels; no label is a mistake.
    Server(u8, BTreeSet<usize>),
    DeleteServer(u8),
    /// A reflector's re-list: the same objects in other allocations.
    Relist,
}

fn edit() -> impl Strategy<Value = Edit> {
    let labels = || proptest::collection::btree_set(0..LABELS.len(), 0..3);
    let life = prop_oneof![
        3 => Just(Life::Ready),
        1 => Just(Life::NotReady),
        1 => Just(Life::Pending),
        1 => Just(Life::Terminating)
    ];
    prop_oneof![
        6 => (0..PODS, labels(), life, any::<bool>()).prop_map(|(i, l, life, anew)| Edit::Pod(i, l, life, anew)),
        1 => (0..PODS).prop_map(Edit::DeletePod),
        3 => (0..SERVERS, labels()).prop_map(|(i, labels)| Edit::Server(i, labels)),
        1 => (0..SERVERS).prop_map(Edit::DeleteServer),
        1 => Just(Edit::Relist),
    ]
}

/// What the test holds to be true, beside the world that is built.
#[derive(Default)]
struct Truth {
    world: World,
    made: u32,
    /// The last selector of each server that was no mistake.
    selects: BTreeMap<u8, BTreeSet<usize>>,
}

impl Truth {
    fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Pod(i, labels, life, anew) => self.put_pod(i, &labels, life, anew),
            Edit::DeletePod(i) => drop(self.world.pods.remove(&name(&format!("d/p{i}")))),
            Edit::Server(i, labels) => self.put_server(i, labels),
            Edit::DeleteServer(i) => {
                self.world.servers.remove(&name(&format!("d/s{i}")));
                self.selects.remove(&i);
            }
            Edit::Relist => {
                for pod in self.world.pods.values_mut() {
                    *pod = Arc::new(Pod::clone(pod));
                }
                for held in self.world.servers.values_mut() {
                    held.spec = held.spec.as_ref().map(|spec| Arc::new((**spec).clone())).map_err(Arc::clone);
                }
            }
        }
    }

    fn put_pod(&mut self, i: u8, labels: &BTreeSet<usize>, life: Life, anew: bool) {
        let name = name(&format!("d/p{i}"));
        let held = self.world.pods.get(&name).filter(|_| !anew).map(|pod| Arc::clone(&pod.uid));
        let uid = held.unwrap_or_else(|| {
            self.made += 1;
            format!("{name}#{}", self.made).into()
        });
        let labels = labels.iter().map(|i| (LABELS[*i].to_owned(), "x".to_owned())).collect();
        let ips = vec![Ipv4Addr::new(10, 0, 0, i + 1).into()];
        self.world.pods.insert(name.clone(), Arc::new(Pod { name, uid, labels, node: None, ips, life, started: None }));
    }

    fn put_server(&mut self, i: u8, labels: BTreeSet<usize>) {
        let chosen: BTreeMap<&str, &str> = labels.iter().map(|i| (LABELS[*i], "x")).collect();
        let spec = json!({
            "inferenceEngine": "vLLM",
            "workloadSelector": {"matchLabels": chosen},
            "workloadPort": {"port": 8000 + u16::from(i)},
        });
        let spec = Ok(Arc::new(serde_json::from_value(spec).unwrap()));
        let held =
            Held { uid: "".into(), generation: 1, seniority: Seniority::Created(i.into()), spec, last_good: None };
        self.world.servers.insert(name(&format!("d/s{i}")), held);
        if !labels.is_empty() {
            self.selects.insert(i, labels);
        }
    }

    fn members(&self) -> Members {
        let selected = |labels: &BTreeSet<usize>, pod: &Pod| {
            pod.life == Life::Ready && labels.iter().all(|i| pod.labels.contains_key(LABELS[*i]))
        };
        let of = |(i, labels): (&u8, &BTreeSet<usize>)| {
            let pods = self.world.pods.values().filter(|pod| selected(labels, pod));
            (format!("d/s{i}"), pods.map(|pod| pod.uid.to_string()).collect())
        };
        self.selects.iter().map(of).collect()
    }
}

type Members = BTreeMap<String, BTreeSet<String>>;

fn published(snapshot: &Snapshot) -> Members {
    let of = |backend: &api::snapshot::Backend| {
        (backend.name.to_string(), backend.endpoints.iter().map(|e| e.key.uid.to_string()).collect())
    };
    snapshot.backends.iter().map(of).collect()
}

proptest! {
    #[test]
    fn c02_a_publish_never_has_fewer_endpoints_than_old_and_new_share(edits in vec(edit(), 1..40)) {
        let (mut truth, mut memory) = (Truth::default(), Memory::default());
        let mut handles: BTreeMap<u32, EndpointKey> = BTreeMap::new();
        let mut before = Members::new();
        for edit in edits {
            truth.apply(edit);
            let built = build(&truth.world, &SETTINGS, &mut memory);
            let (now, wanted) = (published(&built.snapshot), truth.members());
            prop_assert_eq!(&now, &wanted);
            for (server, old) in &before {
                let shared: BTreeSet<_> = wanted.get(server).into_iter().flatten().filter(|uid| old.contains(*uid)).collect();
                prop_assert!(shared.iter().all(|uid| now[server].contains(*uid)), "{}", server);
            }
            for endpoint in built.snapshot.backends.iter().flat_map(|backend| &backend.endpoints) {
                let first = handles.entry(endpoint.handle).or_insert_with(|| endpoint.key.clone());
                prop_assert_eq!(&*first, &endpoint.key, "a handle went to another endpoint");
            }
            assert_decodes(&built.snapshot);
            before = now;
        }
    }
}
