//! Two namespaces with routes, a server and its pods, the control plane that follows them through the fault proxy, a data plane that looks at
//! each of its tables, and what a plain reading of the API server makes of it all.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use perf_tests::cluster::Cluster;
use perf_tests::proxy::{Fault, Often, Verb, When};
use serde_json::{Value, json};

use crate::program::{Home, Program, get};
use crate::told::{Bounds, Table, Watcher, said};
use crate::wait::until;

const PORT: u16 = 8000;
/// These nobody touches: each table has them.
const STEADY: [&str; 2] = ["k0", "k1"];
/// This one is made anew where a table is waited for.
const MARK: &str = "mark";
/// Of one model in each namespace, which nobody touches either.
pub const KEPT: &str = "kept";

/// In which of the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Where {
    Here,
    There,
}

/// A pod as the test wrote it last.
#[derive(Clone, Debug)]
struct Engine {
    address: String,
    ready: bool,
}

pub struct Scene {
    pub home: Home,
    there: String,
    watcher: Watcher,
    control: Program,
    pods: BTreeMap<String, Engine>,
    routes: BTreeSet<(Where, String)>,
    only_steady: bool,
    made: u32,
}

impl Scene {
    /// With two pods and a route in each namespace that stay, two pods and two routes that need not, and a control plane that has read all.
    pub async fn new(prefix: &str) -> Self {
        let home = Home::new(Cluster::shared(), prefix).await;
        let there = home.cluster.namespace(&home.admin, prefix).await.unwrap();
        for namespace in [&home.namespace, &there] {
            let server = server(false, 0);
            home.cluster.apply(&home.admin, namespace, &server.to_string()).await.unwrap();
        }
        let control = home.control(&[&format!("--namespaces={there}")]);
        home.until_ready().await;
        let watcher = Watcher::of(&home, Bounds::default()).await;
        let (pods, routes) = (BTreeMap::new(), BTreeSet::new());
        let mut scene = Self { home, there, watcher, control, pods, routes, only_steady: false, made: 0 };
        for name in STEADY.into_iter().chain(["p0", "p1"]) {
            scene.make_pod(name).await;
        }
        for place in [Where::Here, Where::There] {
            scene.make_route(place, &format!("{KEPT}-{place:?}").to_lowercase(), 100).await;
        }
        for name in ["r0", "gone"] {
            scene.make_route(Where::Here, name, 100).await;
        }
        scene.rests().await;
        scene
    }

    pub fn namespace(&self, place: Where) -> &str {
        match place {
            Where::Here => &self.home.namespace,
            Where::There => &self.there,
        }
    }

    pub fn has_pod(&self, name: &str) -> bool {
        self.pods.contains_key(name)
    }

    pub fn has_route(&self, place: Where, name: &str) -> bool {
        self.routes.contains(&(place, name.to_owned()))
    }

    /// A pod that becomes ready, under an address that no other had.
    pub async fn make_pod(&mut self, name: &str) {
        self.made += 1;
        self.make_pod_at(name, &format!("10.1.{}.{}:{PORT}", self.made / 200, 1 + self.made % 200)).await;
    }

    pub async fn make_pod_at(&mut self, name: &str, address: &str) {
        let (ip, address) = (address.strip_suffix(&format!(":{PORT}")).unwrap(), address.to_owned());
        self.widen(&address);
        self.pods.insert(name.to_owned(), Engine { address, ready: true });
        self.home.pod(name, "s", ip).await;
        if STEADY.contains(&name) {
            self.merge_pod(name, json!({"metadata": {"labels": {"stays": "yes"}}})).await;
        }
    }

    pub async fn flip_pod(&mut self, name: &str) {
        let engine = self.pods.get_mut(name).unwrap();
        engine.ready = !engine.ready;
        let (address, ready) = (engine.address.clone(), engine.ready);
        self.watcher.widen(|bounds| match ready {
            true => bounds.may.insert(address),
            false => bounds.must.remove(&address),
        });
        self.home.pod_ready(name, ready).await;
    }

    /// Each table may have them or not from here on, however often they turn.
    pub fn let_flap(&self, pods: &[&str]) {
        let addresses: BTreeSet<_> = pods.iter().map(|pod| self.address(pod)).collect();
        self.watcher.widen(|bounds| bounds.must.retain(|one| !addresses.contains(one)));
    }

    /// Waits until a table is so.
    pub async fn told(&self, what: &str, holds: impl Fn(&Table) -> bool) {
        self.watcher.told(what, holds).await;
    }

    pub async fn delete_pod(&mut self, name: &str) {
        let engine = self.pods.remove(name).unwrap();
        self.watcher.widen(|bounds| {
            bounds.must.remove(&engine.address);
        });
        self.end_pod(name).await;
    }

    /// Of one that is no part of the scene.
    pub async fn end_pod(&self, name: &str) {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.pods().delete(name, &at_once).await.unwrap();
    }

    fn objects(&self, kind: &str, place: Where) -> Api<DynamicObject> {
        self.home.api_in(kind, &format!("{}s", kind.to_lowercase()), self.namespace(place))
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.home.admin.clone(), &self.home.namespace)
    }

    /// Routes of one name are of one model, wherever they are.
    pub async fn make_route(&mut self, place: Where, name: &str, weight: u32) {
        let namespace = self.namespace(place).to_owned();
        let route = json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute", "metadata": {"name": name},
            "spec": {"modelName": name, "rules": [{"targetModels": [{"modelServerName": "s", "weight": weight}]}]},
        });
        // A change takes a name from nobody.
        if self.routes.insert((place, name.to_owned())) {
            self.contest(&format!("/{name}"));
        }
        self.widen(&format!("{namespace}/{name}"));
        self.apply(place, &route).await;
    }

    pub async fn delete_route(&mut self, place: Where, name: &str) {
        self.routes.remove(&(place, name.to_owned()));
        self.contest(&format!("/{name}"));
        // The other one may have its turn now.
        let may = self.routes.iter().filter(|(_, other)| other == name);
        let may: Vec<_> = may.map(|(place, name)| format!("{}/{name}", self.namespace(*place))).collect();
        self.watcher.widen(|bounds| bounds.may.extend(may));
        self.objects("ModelRoute", place).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// From here on a table may have this.
    fn widen(&self, what: &str) {
        self.watcher.widen(|bounds| bounds.may.extend([what.to_owned()]));
    }

    /// Whose a model is can be seen in any order now.
    fn contest(&self, name: &str) {
        self.watcher.widen(|bounds| bounds.must.retain(|one| !one.ends_with(name)));
    }

    /// Turns the server to the pods that stay, or to all.
    pub async fn select(&mut self, only_steady: bool) {
        let steady = |address: &String| {
            STEADY.iter().any(|name| self.pods.get(*name).is_some_and(|engine| engine.address == *address))
        };
        let ready = self.pods.values().filter(|engine| engine.ready).map(|engine| engine.address.clone());
        self.watcher.widen(|bounds| {
            bounds.must.retain(|one| !one.starts_with("10.1.") || steady(one));
            bounds.may.extend(ready);
        });
        self.only_steady = only_steady;
        self.apply(Where::Here, &server(only_steady, self.made)).await;
    }

    async fn apply(&self, place: Where, object: &Value) {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let params = PatchParams::apply("tests").force();
        self.objects(kind, place).patch(name, &params, &Patch::Apply(object)).await.unwrap();
    }

    async fn merge(&self, kind: &str, place: Where, name: &str, change: Value) {
        self.objects(kind, place).patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    async fn merge_pod(&self, name: &str, change: Value) {
        self.pods().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// An event of this list in both namespaces that changes nothing.
    pub async fn touch(&mut self, plural: &str) {
        self.made += 1;
        let note = json!({"metadata": {"annotations": {"touched": self.made.to_string()}}});
        match plural {
            "pods" => self.merge_pod(STEADY[0], note).await,
            "modelservers" => self.merge("ModelServer", Where::Here, "s", note).await,
            _ => {
                for place in [Where::Here, Where::There] {
                    let name = format!("{KEPT}-{place:?}").to_lowercase();
                    self.merge("ModelRoute", place, &name, note.clone()).await;
                }
            }
        }
    }

    /// The places in which a list's objects change here.
    fn places(&self, plural: &str) -> Vec<String> {
        let places: &[Where] = if plural == "modelroutes" { &[Where::Here, Where::There] } else { &[Where::Here] };
        places.iter().map(|place| self.namespace(*place).to_owned()).collect()
    }

    /// Their watches are told that they have fallen behind.
    pub async fn expire(&mut self, plural: &str) {
        let expire = |namespace: String| {
            let when = When { namespace: Some(namespace), ..When::of(Verb::Watch, plural) };
            self.home.proxy.inject(when, Fault::Expire, Often::First(1))
        };
        let expired: Vec<_> = self.places(plural).into_iter().map(expire).collect();
        // Again and again: one that comes while a list is read anew is no event.
        until("watches that have fallen behind", async || {
            self.touch(plural).await;
            expired.iter().all(|fault| fault.hits() == 1)
        })
        .await;
    }

    /// What the API server says now, read plainly: the routes of the eldest owner of each model, and the ready pods that the server selects.
    pub async fn reading(&self) -> Table {
        let mut routes = Vec::new();
        for place in [Where::Here, Where::There] {
            for route in self.objects("ModelRoute", place).list(&ListParams::default()).await.unwrap() {
                let created = route.metadata.creation_timestamp.as_ref().unwrap().0;
                routes.push((created, self.namespace(place).to_owned(), route));
            }
        }
        routes.sort_by_key(|(created, namespace, route)| (*created, namespace.clone(), route.name_any()));
        let mut owners = BTreeMap::new();
        let mut table = Table::default();
        for (_, namespace, route) in routes {
            let model = route.data["spec"]["modelName"].as_str().unwrap().to_owned();
            if *owners.entry(model.clone()).or_insert_with(|| namespace.clone()) == namespace {
                let target = &route.data["spec"]["rules"][0]["targetModels"][0];
                let target = said(&format!("{namespace}/s"), &target["weight"]);
                table.routes.insert(format!("{namespace}/{}", route.name_any()), format!("{model} {target}"));
            }
        }
        for place in [Where::Here, Where::There] {
            for server in self.objects("ModelServer", place).list(&ListParams::default()).await.unwrap() {
                let model = server.data["spec"]["model"].as_str().unwrap_or_default().to_owned();
                table.backends.insert(format!("{}/{}", self.namespace(place), server.name_any()), model);
            }
        }
        table.endpoints = self.ready_pods().await;
        table
    }

    async fn ready_pods(&self) -> BTreeMap<String, String> {
        let server = self.objects("ModelServer", Where::Here).get("s").await.unwrap();
        let labels: BTreeMap<String, String> =
            serde_json::from_value(server.data["spec"]["workloadSelector"]["matchLabels"].clone()).unwrap();
        let counts = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
            ready && labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        };
        let ready = self.pods().list(&ListParams::default()).await.unwrap().items.into_iter().filter(counts);
        let address = |pod: &Pod| format!("{}:{PORT}", pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap());
        ready.map(|pod| (address(&pod), pod.uid().unwrap())).collect()
    }

    /// Something in each list that was never there before. A table that has it was made of all that was written before, and is no older one
    /// that happens to be alike.
    async fn mark(&mut self) {
        self.made += 1;
        for place in [Where::Here, Where::There] {
            let weight = 1 + self.made % 100;
            self.make_route(place, &format!("{KEPT}-{place:?}").to_lowercase(), weight).await;
        }
        if self.has_pod(MARK) {
            self.delete_pod(MARK).await;
        }
        self.make_pod(MARK).await;
        self.merge_pod(MARK, json!({"metadata": {"labels": {"stays": "yes"}}})).await;
        self.apply(Where::Here, &server(self.only_steady, self.made)).await;
    }

    /// Waits until the newest table is what the API server says; from there on it is what every table has to be, until something is changed.
    pub async fn rests(&mut self) {
        self.mark().await;
        let table = self.watcher.until("what the API server says", async || self.reading().await).await;
        assert_eq!(table.routes.keys().filter(|name| name.contains(KEPT)).count(), 2, "{table:?}");
        self.watcher.tighten(&table);
        // Lists are followed one by one: what is there and in no table may come into one, by what is written to another list, after its end.
        let ready = self.pods.values().filter(|engine| engine.ready).map(|engine| engine.address.clone());
        let routes = self.routes.iter().map(|(place, name)| format!("{}/{name}", self.namespace(*place)));
        self.watcher.widen(|bounds| bounds.may.extend(ready.chain(routes)));
        self.watcher.check();
    }

    /// Whether all routes say what is so: whose the model is, of the generation that is there.
    pub async fn statuses_are_right(&self) -> bool {
        let published = self.reading().await.routes;
        for place in [Where::Here, Where::There] {
            for route in self.objects("ModelRoute", place).list(&ListParams::default()).await.unwrap() {
                let name = format!("{}/{}", self.namespace(place), route.name_any());
                let reason = if published.contains_key(&name) { "Accepted" } else { "Conflicted" };
                let status = &route.data["status"];
                let accepted = status["conditions"].as_array().into_iter().flatten();
                let accepted = accepted.into_iter().find(|one| one["type"] == "Accepted");
                if status["observedGeneration"] != json!(route.metadata.generation)
                    || accepted.is_none_or(|one| one["reason"] != reason)
                {
                    return false;
                }
            }
        }
        true
    }

    pub fn newest(&self) -> Table {
        self.watcher.newest()
    }

    /// What else there is is no matter from here on; what has been there has to stay.
    pub fn let_any(&self) {
        self.watcher.widen(|bounds| bounds.strange = true);
    }

    /// How many tables there were.
    pub fn tables(&self) -> u64 {
        self.watcher.tables()
    }

    pub fn check(&self) {
        self.watcher.check();
    }

    /// The address of a pod, as in a table.
    pub fn address(&self, pod: &str) -> String {
        self.pods[pod].address.clone()
    }

    pub async fn metric(&self, sample: &str) -> f64 {
        let text = get(self.home.metrics, "/metrics").await.unwrap_or_default().1;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// It is the program that was started, and it runs.
    pub fn runs(&mut self) -> bool {
        self.control.runs()
    }
}

/// Its model says which writing of it this is.
fn server(only_steady: bool, n: u32) -> Value {
    let mut labels = json!({"app": "s"});
    if only_steady {
        labels["stays"] = "yes".into();
    }
    json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer", "metadata": {"name": "s"},
        "spec": {"inferenceEngine": "vLLM", "model": format!("m{n}"), "workloadPort": {"port": PORT}, "workloadSelector": {"matchLabels": labels}},
    })
}
