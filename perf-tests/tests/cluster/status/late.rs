//! C7 to the letter: what a leader sent before another one led arrives after that, or what it was about to send is asked of it after that.

use controlplane::world::{LastGood, Scheduler};
use k8s_openapi::api::core::v1::ConfigMap;
use perf_tests::proxy::{Fault, Often, Proxy, Verb, When};

use super::*;
use crate::wait::until;

/// A site whose first leader is behind a proxy.
struct Late {
    site: Site,
    proxy: Proxy,
}

impl Late {
    async fn start(prefix: &str) -> Self {
        let site = Site::new(prefix).await;
        site.routes.create(&route("r", "s", "/v1/.*")).await.unwrap();
        let proxy = Proxy::start(site.cluster).unwrap();
        Self { site, proxy }
    }

    /// The one behind the proxy.
    async fn first(&self, lease: u64) -> Replica {
        self.site.replica_at("a", lease, &self.proxy.url()).await
    }

    /// The next form of the route.
    async fn edit(&self) {
        self.site.routes.apply(&route("r", "s", "/v2/.*"), "people", true).await.unwrap();
    }
}

/// The guard is the resourceVersion in the patch.
#[tokio::test]
async fn c07_a_write_that_comes_after_the_next_leader_s_is_refused() {
    let mut late = Late::start("late").await;
    let a = late.first(15).await;
    late.site.publish(&[&a]).await;
    late.site.observed("r", 1).await;
    let write = late.proxy.inject(When::of(Verb::Patch, "modelroutes/status"), Fault::Hold, Often::First(1));
    late.edit().await;
    late.site.publish(&[&a]).await;
    until("write on its way", async || write.hits() == 1).await;
    // It ends, and the network delivers what it was given all the same.
    drop(a);
    let b = late.site.replica("b", 15).await;
    late.site.publish(&[&b]).await;
    late.site.observed("r", 2).await;
    late.proxy.let_go();
    let is_late = |attempts: &[(String, String, u64)]| {
        let of_route = attempts.iter().filter(|(name, ..)| name == "r");
        of_route.map(|(_, by, code)| (by.clone(), *code)).skip_while(|(by, _)| by == "a").find(|(by, _)| by == "a")
    };
    until("late write", async || is_late(&attempts(&late.site)).is_some()).await;
    assert_eq!(is_late(&attempts(&late.site)), Some(("a".to_owned(), 409)), "{:?}", attempts(&late.site));
}

const CONFIGURATION: &str = "kthena-router-config";
const KEPT: &str = "networking.serving.volcano.sh/last-good-router-configuration";

impl Late {
    async fn configure(&self, text: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIGURATION}, "data": {"routerConfiguration": text},
        });
        // JSON is YAML.
        self.site.cluster.apply(&self.site.admin, &self.site.namespace, &object.to_string()).await.unwrap();
    }

    /// The text that the ConfigMap keeps, and the resourceVersion that had it; and its own.
    async fn kept(&self) -> (Option<(i64, String)>, ConfigMap) {
        let maps = Api::<ConfigMap>::namespaced(self.site.admin.clone(), &self.site.namespace);
        let map = maps.get(CONFIGURATION).await.unwrap();
        let kept = map.metadata.annotations.as_ref().and_then(|all| all.get(KEPT));
        let kept = kept.map(|kept| serde_json::from_str::<Value>(kept).unwrap());
        let form = |kept: Value| {
            let version = kept["resourceVersion"].as_str().unwrap().parse().unwrap();
            (version, kept["text"].as_str().unwrap().to_owned())
        };
        (kept.map(form), map)
    }

    /// What a replica with this memory builds of the ConfigMap, as the Kubernetes source would say it.
    async fn round(&self, memory: &mut Memory) -> Arc<Round> {
        let (kept, ConfigMap { metadata, data, .. }) = self.kept().await;
        let last_good = kept.map(|(generation, text)| Arc::new(LastGood { generation, spec: Arc::new(text) }));
        let held = Held {
            uid: metadata.uid.unwrap().into(),
            generation: metadata.resource_version.unwrap().parse().unwrap(),
            seniority: Seniority::Created(1),
            spec: Ok(Arc::new(data.unwrap().remove("routerConfiguration").unwrap())),
            last_good,
        };
        let scheduler = Some(Scheduler { name: ObjectName::new(&*self.site.namespace, CONFIGURATION), held });
        let world = World { scheduler, ..World::default() };
        let built = build(&world, &Settings::default(), memory);
        Arc::new(Round { world, verdicts: built.verdicts, snapshot: Arc::new(built.snapshot) })
    }
}

/// The same guard. The leader that is late has missed an edit, so that its form is the older one.
#[tokio::test]
async fn c07_a_last_good_configuration_that_comes_after_the_next_leader_s_is_refused() {
    const OLDER: &str = "scheduler: {plugins: {Score: {enabled: [{name: gpu-usage, weight: 1}]}}}";
    const NEWER: &str = "scheduler: {plugins: {Score: {enabled: [{name: gpu-usage, weight: 2}]}}}";
    let late = Late::start("kept").await;
    let (mut of_a, mut of_b) = (Memory::default(), Memory::default());
    late.configure(OLDER).await;
    late.round(&mut of_a).await;
    late.configure(NEWER).await;
    late.round(&mut of_b).await;
    late.configure("scheduler: 7").await;
    let write = late.proxy.inject(When::of(Verb::Patch, "configmaps"), Fault::Hold, Often::First(1));
    let a = late.first(15).await;
    a.rounds.send_replace(Some(late.round(&mut of_a).await));
    until("write on its way", async || write.hits() == 1).await;
    drop(a);
    let b = late.site.replica("b", 15).await;
    b.rounds.send_replace(Some(late.round(&mut of_b).await));
    let text = async || late.kept().await.0.map(|(_, text)| text);
    until("the newer form", async || text().await.as_deref() == Some(NEWER)).await;
    late.proxy.let_go();
    let attempts =
        || attempts_on(&late.site, |object| object["resource"] == "configmaps" && object["name"] == CONFIGURATION);
    let late_one = || attempts().into_iter().find(|(_, by, _)| by == "a").map(|(.., code)| code);
    until("late write", async || late_one().is_some()).await;
    assert_eq!((late_one(), text().await.as_deref()), (Some(409), Some(NEWER)), "{:?}", attempts());
}

/// So often the machine may be too busy to show it.
const TRIES: usize = 4;
const SOON: Duration = Duration::from_secs(20);

/// The guard is that the lease is looked at right before the patch.
#[tokio::test]
async fn c07_a_leader_that_waited_for_an_answer_until_another_leads_writes_nothing_then() {
    for _ in 0..TRIES {
        if shown().await {
            return;
        }
    }
    panic!("in none of {TRIES} tries another led within the time of a write");
}

/// What is counted of an attempt once it has ended, and of those the ones that were given up.
fn ended(replica: &Replica) -> (f64, f64) {
    let of = |result| replica.metric(&format!("kthena_controlplane_status_writes_total{{result=\"{result}\"}}"));
    (["written", "conflict", "failed", "stale", "unchanged", "not_leading"].map(of).iter().sum(), of("failed"))
}

/// Whether it holds before long; where the one that led has lost the lease, it never will.
async fn soon(holds: impl Fn() -> bool) -> bool {
    let start = tokio::time::Instant::now();
    while !holds() {
        if start.elapsed() > SOON {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

/// False where the answer came so late that the write had been given up for that alone, or the lease was lost before.
async fn shown() -> bool {
    let mut late = Late::start("slow").await;
    let a = late.first(2).await;
    stands(&a, "leads", |told| matches!(told, Leadership::Leads { .. })).await;
    let b = late.site.replica("b", 2).await;
    // What is left to be written has a minute's time, in which the writer waits for nothing but answers.
    late.site.spread(&[&a], 1, 3).await;
    if !soon(|| a.metric("kthena_controlplane_status_writes_total{result=\"written\"}") >= 2.0).await {
        return false;
    }
    late.site.spread(&[&a], 2, 3).await;
    let before = ended(&a).0;

    // It asks for the route while it leads. Neither that is answered nor what it asks about the lease.
    let look = When { name: Some("r".to_owned()), ..When::of(Verb::Get, "modelroutes") };
    let look = late.proxy.inject(look, Fault::Hold, Often::First(1));
    late.edit().await;
    late.site.spread(&[&a], 0, 3).await;
    if !soon(|| look.hits() == 1).await {
        return false;
    }
    late.proxy.inject(When::of(Verb::Get, "leases"), Fault::Delay(Duration::from_secs(30)), Often::Always);
    stands(&b, "leads", |told| matches!(told, Leadership::Leads { .. })).await;
    // Of whatever kind: events, too.
    let writes = When::writes();
    let sent = late.proxy.count(&writes);
    late.proxy.let_go();
    until("end of the attempt", async || ended(&a).0 > before).await;
    if ended(&a).1 > 0.0 {
        return false;
    }
    assert_eq!(late.proxy.count(&writes), sent, "another led, and it wrote: {:?}", attempts(&late.site));
    assert_eq!(a.metric("kthena_controlplane_status_writes_total{result=\"not_leading\"}"), 1.0);
    late.site.publish(&[&b]).await;
    late.site.observed("r", 2).await;
    true
}

/// The same guard, of a warning that is there already, which is read and counted once more.
#[tokio::test]
async fn c07_a_leader_that_waited_for_an_event_until_another_leads_does_not_count_it_once_more() {
    for _ in 0..TRIES {
        if event_shown().await {
            return;
        }
    }
    panic!("in none of {TRIES} tries another led within the time of a write");
}

impl Late {
    /// The same mistake, in another form of the route.
    async fn mistake(&mut self, by: &Replica, path: &str) {
        self.site.routes.apply(&route("r", "nowhere", path), "people", true).await.unwrap();
        self.site.publish(&[by]).await;
    }
}

/// False as in `shown`.
async fn event_shown() -> bool {
    let mut late = Late::start("event").await;
    let a = late.first(2).await;
    stands(&a, "leads", |told| matches!(told, Leadership::Leads { .. })).await;
    let b = late.site.replica("b", 2).await;
    let warned = |event: &Event| event.reason.as_deref() == Some("BackendNotFound");
    let events = |result: &str| a.metric(&format!("kthena_controlplane_events_total{{result=\"{result}\"}}"));
    late.mistake(&a, "/v2/.*").await;
    // That of the server is the other one.
    if !soon(|| events("created") >= 2.0).await {
        return false;
    }

    // It reads the event while it leads. Neither that is answered nor what it asks about the lease.
    let look = late.proxy.inject(When::of(Verb::Get, "events"), Fault::Hold, Often::First(1));
    late.mistake(&a, "/v3/.*").await;
    if !soon(|| look.hits() == 1).await {
        return false;
    }
    late.proxy.inject(When::of(Verb::Get, "leases"), Fault::Delay(Duration::from_secs(30)), Often::Always);
    stands(&b, "leads", |told| matches!(told, Leadership::Leads { .. })).await;
    let (writes, before) = (When::writes(), ["dropped", "failed", "repeated"].map(events));
    let sent = late.proxy.count(&writes);
    late.proxy.let_go();
    until("end of the attempt", async || ["dropped", "failed", "repeated"].map(events) != before).await;
    if events("failed") > before[1] {
        return false;
    }
    assert_eq!(late.proxy.count(&writes), sent, "another led, and it wrote: {:?}", late_writes(&late.site, "a", "b"));
    assert_eq!(events("dropped"), before[0] + 1.0);
    let told: Vec<_> = late.site.events().await.into_iter().filter(warned).collect();
    assert!(told.len() == 1 && told[0].series.is_none(), "{told:?}");
    true
}
