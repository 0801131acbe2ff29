//! The faults of the proxy as a watcher of kube-rs sees them: it recovers from each.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use perf_tests::cluster::{Cluster, Parts, Wanted, client};
use perf_tests::proxy::{Fault, Often, Proxy, Verb, When};

use crate::wait::within;

/// A watcher behind the proxy, under an identity of its own, and an administrator before it.
struct Scene {
    proxy: Proxy,
    direct: Api<ConfigMap>,
    behind: Client,
    namespace: String,
    events: Pin<Box<dyn Stream<Item = watcher::Result<Event<ConfigMap>>>>>,
    /// What the watcher believes, and what it has been told in between.
    seen: BTreeMap<String, String>,
    listing: BTreeMap<String, String>,
    lists: usize,
}

impl Scene {
    async fn new(cluster: &Cluster, prefix: &str) -> Self {
        let admin = cluster.admin().await.unwrap();
        let namespace = cluster.namespace(&admin, prefix).await.unwrap();
        let rules = format!(
            "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: watcher}}
rules: [{{apiGroups: [''], resources: [configmaps], verbs: [list, watch, create, patch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: watcher}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: watcher}}
subjects: [{{kind: ServiceAccount, name: watcher, namespace: {namespace}}}]
"
        );
        cluster.apply(&admin, &namespace, &rules).await.unwrap();
        let proxy = Proxy::start(cluster).unwrap();
        let wanted = Wanted { namespace: &namespace, name: "watcher", server: &proxy.url() };
        let account = cluster.account(&admin, wanted).await.unwrap();
        let behind = client(&account.kubeconfig).await.unwrap();
        let api = Api::<ConfigMap>::namespaced(behind.clone(), &namespace);
        let config = watcher::Config::default().labels("watched=yes");
        let events = Box::pin(watcher(api, config).default_backoff());
        let direct = Api::namespaced(admin, &namespace);
        let (seen, listing) = (BTreeMap::new(), BTreeMap::new());
        let mut scene = Self { proxy, direct, behind, namespace, events, seen, listing, lists: 0 };
        scene.until(|scene| scene.lists == 1).await;
        scene
    }

    async fn write(&self, name: &str, value: &str) {
        let map = map(name, value);
        self.direct.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&map)).await.unwrap();
    }

    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        within("the watcher's recovery", async {
            while !holds(self) {
                let event = self.events.next().await.unwrap();
                self.see(event);
            }
        })
        .await;
    }

    fn see(&mut self, event: watcher::Result<Event<ConfigMap>>) {
        let pair = |map: &ConfigMap| (map.name_any(), map.data.clone().unwrap_or_default()["value"].clone());
        match event {
            Ok(Event::Init) => self.listing.clear(),
            Ok(Event::InitApply(map)) => self.listing.extend([pair(&map)]),
            Ok(Event::InitDone) => {
                self.seen = std::mem::take(&mut self.listing);
                self.lists += 1;
            }
            Ok(Event::Apply(map)) => self.seen.extend([pair(&map)]),
            Ok(Event::Delete(map)) => drop(self.seen.remove(&map.name_any())),
            // It goes on by itself.
            Err(_) => {}
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.seen.get(name).map(String::as_str)
    }

    async fn sees(&mut self, name: &str, value: &str) {
        self.write(name, value).await;
        self.until(|scene| scene.value(name) == Some(value)).await;
    }
}

fn map(name: &str, value: &str) -> ConfigMap {
    let labels = BTreeMap::from([("watched".to_owned(), "yes".to_owned())]);
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let data = BTreeMap::from([("value".to_owned(), value.to_owned())]);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

fn lists() -> When {
    When::of(Verb::List, "configmaps")
}

fn watches() -> When {
    When::of(Verb::Watch, "configmaps")
}

#[tokio::test]
async fn a_watcher_whose_connection_is_cut_goes_on_where_it_was() {
    let mut scene = Scene::new(Cluster::shared(), "cut").await;
    scene.sees("a", "1").await;
    let cuts = scene.proxy.inject(watches(), Fault::Cut, Often::First(2));
    scene.proxy.cut_all();
    // Before the write: its event might else come by the old connection, which is cut only in a moment.
    scene.until(|_| cuts.hits() == 2).await;
    scene.sees("a", "2").await;
    assert_eq!((cuts.hits(), scene.lists), (2, 1));
}

#[tokio::test]
async fn an_event_that_is_lost_is_made_good_by_the_list_after_a_410() {
    let mut scene = Scene::new(Cluster::shared(), "lost").await;
    scene.sees("a", "1").await;
    let lost = scene.proxy.inject(watches(), Fault::LoseEvent, Often::First(1));
    scene.direct.delete("a", &DeleteParams::default()).await.unwrap();
    scene.sees("b", "1").await;
    assert_eq!((lost.hits(), scene.value("a")), (1, Some("1")));

    let expired = scene.proxy.inject(watches(), Fault::Expire, Often::First(1));
    scene.write("c", "1").await;
    scene.until(|scene| scene.lists == 2).await;
    assert_eq!((expired.hits(), scene.value("a"), scene.value("c")), (1, None, Some("1")));
}

#[tokio::test]
async fn an_older_list_takes_the_watcher_back_and_the_watch_brings_it_forward() {
    let mut scene = Scene::new(Cluster::shared(), "older").await;
    scene.sees("a", "1").await;
    let older = scene.proxy.inject(lists(), Fault::OlderList, Often::First(1));
    scene.proxy.inject(watches(), Fault::Expire, Often::First(1));
    scene.write("b", "1").await;
    scene.until(|scene| scene.lists == 2).await;
    // The first list was of an empty namespace.
    assert_eq!((older.hits(), scene.seen.len()), (1, 0));
    scene.until(|scene| scene.value("a") == Some("1") && scene.value("b") == Some("1")).await;
}

#[tokio::test]
async fn writes_meet_refusals_delays_and_answers_that_are_lost() {
    let scene = Scene::new(Cluster::shared(), "writes").await;
    let maps = Api::<ConfigMap>::namespaced(scene.behind.clone(), &scene.namespace);
    let patches = || When::of(Verb::Patch, "configmaps");
    let write = async |name: &str| {
        maps.patch(name, &PatchParams::apply("test"), &Patch::Apply(&map(name, "1"))).await.map(drop)
    };
    for code in [409, 410] {
        scene.proxy.inject(patches(), Fault::Refuse { code, retry_after_s: None }, Often::First(1));
        let Err(kube::Error::Api(refusal)) = write("refused").await else { panic!("no refusal by {code}") };
        assert_eq!(refusal.code, code);
    }
    assert!(scene.direct.get_opt("refused").await.unwrap().is_none());

    scene.proxy.inject(patches(), Fault::Delay(Duration::from_millis(200)), Often::First(1));
    let began = Instant::now();
    write("late").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));

    scene.proxy.inject(patches(), Fault::CutAnswer, Often::First(1));
    write("unsaid").await.unwrap_err();
    assert!(scene.direct.get_opt("unsaid").await.unwrap().is_some());
    assert_eq!(scene.proxy.count(&patches()), 4);
}

#[tokio::test]
async fn a_watcher_outlives_an_api_server_that_is_away() {
    let cluster = Cluster::start(Parts::ApiServer).unwrap();
    let mut scene = Scene::new(&cluster, "away").await;
    scene.sees("a", "1").await;
    cluster.kill_api_server().await.unwrap();
    scene.proxy.set_away(true);
    cluster.start_api_server().await.unwrap();
    scene.write("a", "2").await;
    scene.proxy.set_away(false);
    scene.until(|scene| scene.value("a") == Some("2")).await;
}
