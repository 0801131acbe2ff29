//! Builds that panic.

use prometheus::{Registry, TextEncoder};
use tokio::time::timeout;

use super::*;
use crate::object::Kind;
use crate::publish::{Fallback, ObjectVerdict, Reason};
use crate::source::directory::reading_of;
use crate::world::{Held, LastGood, ObjectName, Seniority};

/// Panics where there is a route of this model.
const BAD: &str = "x";

fn make(world: &World, settings: &Settings, memory: &mut Memory) -> Built {
    let built = build(world, settings, memory);
    let models = world.routes.values().filter_map(|held| held.spec.as_ref().ok()?.model_name.as_deref());
    assert!(!models.into_iter().any(|model| model == BAD), "of the test");
    built
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

/// Of routes as `name=model`.
fn reading(words: &str) -> Arc<Reading> {
    let route = |word: &str| {
        let (name, model) = word.split_once('=').unwrap();
        format!(
            "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\n\
             spec: {{modelName: {model}, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n"
        )
    };
    Arc::new(reading_of(&[("all.yaml", &words.split_whitespace().map(route).collect::<String>())]))
}

/// A feed and all that it says.
struct Site {
    readings: watch::Sender<Option<Arc<Reading>>>,
    inputs: Inputs,
    rounds: watch::Receiver<Option<Arc<Round>>>,
    panicked: watch::Receiver<Option<Arc<str>>>,
    registry: Registry,
}

impl Site {
    async fn start(words: &str) -> Self {
        Self::begin(reading(words)).await
    }

    async fn begin(reading: Arc<Reading>) -> Self {
        let registry = Registry::new();
        let reached = watch::channel(Reached::default()).1;
        let (feed, inputs) = Feed::new(Settings::default(), Builds::new(&registry), reached).unwrap();
        let feed = Feed { make, ..feed };
        let (rounds, panicked) = (feed.rounds.subscribe(), feed.panicked.subscribe());
        let (readings, read) = watch::channel(Some(reading));
        let said = Said {
            readings: read,
            engines: watch::channel(Engines::default()).1,
            differing: watch::channel(Differing::default()).1,
            files: watch::channel(None).1,
        };
        drop(feed.follow(said).await.unwrap());
        Self { readings, inputs, rounds, panicked, registry }
    }

    /// Another reading, after which it is like this.
    async fn read(&mut self, words: &str, panics: bool) {
        self.say(reading(words), panics).await;
    }

    async fn say(&mut self, reading: Arc<Reading>, panics: bool) {
        self.rounds.mark_unchanged();
        self.readings.send_replace(Some(reading));
        let known = timeout(std::time::Duration::from_secs(10), self.rounds.changed()).await;
        known.expect("it is built, or not").expect("the thread goes on");
        assert_eq!(self.panicked.borrow().as_deref(), panics.then_some("of the test"));
    }

    /// Models of the snapshot that is published.
    fn published(&self) -> String {
        let Some(snapshot) = self.inputs.snapshots.borrow().clone() else { return "nothing".to_owned() };
        let models: Vec<_> = snapshot.routes.iter().map(|route| route.model.as_ref().unwrap().as_str()).collect();
        models.join(" ")
    }

    /// The generation and the model of what is in force of a route in the place of what it says.
    fn fallback(&self, route: &str) -> Option<(i64, String)> {
        let round = self.rounds.borrow().clone().unwrap();
        match &round.verdicts.routes[&name(route)].fallback {
            Fallback::Kept(good) => Some((good.generation, good.spec["modelName"].as_str().unwrap().to_owned())),
            Fallback::Unneeded | Fallback::Missing | Fallback::TooLarge(_) => None,
        }
    }

    /// What is said of a route: whether it is accepted, why, and whether it is published.
    fn verdict(&self, route: &str) -> (bool, Reason, bool) {
        let round = self.rounds.borrow().clone().unwrap();
        let verdict = &round.verdicts.routes[&name(route)];
        (verdict.accepted.holds, verdict.accepted.reason, verdict.published)
    }

    fn has(&self, sample: &str) -> bool {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines().any(|line| line == sample)
    }
}

#[tokio::test]
async fn a_world_that_makes_a_build_panic_is_built_without_what_has_changed_and_that_says_so() {
    let mut site = Site::start("a=m same=n").await;
    assert_eq!(site.published(), "m n");
    for _ in 0..2 {
        site.read("a=other same=n bad=x", true).await;
        assert_eq!(site.published(), "m n");
        assert_eq!(site.verdict("a"), (false, Reason::NotBuilt, true));
        assert_eq!(site.verdict("bad"), (false, Reason::NotBuilt, false));
        assert_eq!(site.verdict("same"), (true, Reason::Accepted, true));
        assert_eq!(site.fallback("a"), Some((0, "m".to_owned())), "to be kept over a restart");
        assert_eq!((site.fallback("bad"), site.fallback("same")), (None, None));
    }
    // The metric counts what was read, however often that was tried.
    assert!(site.has("kthena_controlplane_build_panics_total 2") && site.has("kthena_controlplane_build_panicking 1"));
    let round = site.rounds.borrow().clone().unwrap();
    let said = &round.verdicts.routes[&name("a")].accepted.message;
    assert!(
        said.contains("of the test")
            && said.contains("it goes on without what has changed since: undo the last change"),
        "{said}"
    );

    // What is as it was built is good, whatever it was meanwhile.
    site.read("a=m same=n bad=x", true).await;
    assert_eq!(site.verdict("a"), (true, Reason::Accepted, true));
    site.read("a=other same=n", false).await;
    assert_eq!(site.published(), "other n");
    assert_eq!(
        (site.verdict("a"), site.verdict("same")),
        ((true, Reason::Accepted, true), (true, Reason::Accepted, true))
    );
    assert!(site.has("kthena_controlplane_build_panics_total 3") && site.has("kthena_controlplane_build_panicking 0"));
}

/// A server, and its pod where it has one; and a route of this model.
fn serving(pod: &str, model: &str) -> Arc<Reading> {
    let group = "apiVersion: networking.serving.volcano.sh/v1alpha1\n";
    let server = "kind: ModelServer\nmetadata: {name: s}\nspec: {inferenceEngine: vLLM, workloadPort: {port: 1}, \
                  workloadSelector: {matchLabels: {app: s}}}\n---\n";
    let route = format!(
        "kind: ModelRoute\nmetadata: {{name: a}}\nspec: {{modelName: {model}, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n"
    );
    let pod = format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p, uid: u, labels: {{app: {pod}}}}}, spec: {{nodeName: n}}, \
         status: {{phase: Running, podIP: 10.0.0.1, conditions: [{{type: Ready, status: 'True'}}]}}}}"
    );
    Arc::new(reading_of(&[("all.yaml", &[group, server, group, &route, &pod].concat())]))
}

#[tokio::test]
async fn endpoints_go_on_while_a_world_makes_builds_panic() {
    let mut site = Site::begin(serving("another", "m")).await;
    let endpoints = |site: &Site| site.inputs.snapshots.borrow().as_ref().unwrap().backends[0].endpoints.len();
    assert_eq!((site.published(), endpoints(&site)), ("m".to_owned(), 0));
    site.say(serving("s", BAD), true).await;
    assert_eq!((site.published(), endpoints(&site)), ("m".to_owned(), 1));
}

/// One whose route `a` is kept by its source in an earlier form.
fn kept(words: &str, before: &str) -> Arc<Reading> {
    let (mut now, before) = ((*reading(words)).clone(), reading(before));
    let spec = before.world.routes[&name("a")].spec.clone().unwrap();
    let held = now.world.routes.get_mut(&name("a")).unwrap();
    (held.generation, held.last_good) = (5, Some(Arc::new(LastGood { generation: 4, spec })));
    Arc::new(now)
}

#[tokio::test]
async fn one_that_panics_from_the_start_is_built_of_the_forms_that_are_kept() {
    let mut site = Site::begin(kept("a=x same=n", "a=m")).await;
    assert_eq!((site.published(), site.panicked.borrow().as_deref()), ("m n".to_owned(), Some("of the test")));
    assert_eq!(site.verdict("a"), (false, Reason::NotBuilt, true));
    assert_eq!(site.fallback("a"), Some((4, "m".to_owned())), "it stays kept");
    assert_eq!(site.verdict("same"), (true, Reason::Accepted, true));
    site.say(kept("a=x same=n bad=x", "a=m"), true).await;
    assert_eq!((site.published(), site.fallback("a")), ("m n".to_owned(), Some((4, "m".to_owned()))));
    site.read("a=other same=n", false).await;
    assert_eq!(site.published(), "other n");
}

#[tokio::test]
async fn one_that_panics_from_the_start_and_of_which_nothing_is_kept_publishes_nothing_and_is_tried_again() {
    let mut site = Site::start("a=m bad=x").await;
    assert_eq!((site.published().as_str(), site.panicked.borrow().as_deref()), ("nothing", Some("of the test")));
    site.read("a=m", false).await;
    assert_eq!(site.published(), "m");
}

/// With a ModelServing of this generation, valid or not.
fn serving_beside(words: &str, generation: i64, spec: Result<(), &str>) -> Arc<Reading> {
    let mut reading = (*reading(words)).clone();
    let spec = spec.map(Arc::new).map_err(|sentence| [sentence.to_owned()].into());
    let held = Held { uid: "u".into(), generation, seniority: Seniority::Created(1), spec, last_good: None };
    reading.world.judged.insert((Kind::ModelServing, name("w")), held);
    Arc::new(reading)
}

#[tokio::test]
async fn an_edit_of_what_decides_nothing_of_the_tables_is_judged_and_starts_no_build() {
    let mut site = Site::start("a=m").await;
    let snapshot = site.inputs.snapshots.borrow_and_update().clone().unwrap();
    for (generation, spec) in [(1, Ok(())), (2, Err("spec: no")), (3, Ok(()))] {
        site.say(serving_beside("a=m", generation, spec), false).await;
        let round = site.rounds.borrow().clone().unwrap();
        let ObjectVerdict { generation: judged, accepted } = &round.verdicts.judged[&(Kind::ModelServing, name("w"))];
        assert_eq!((*judged, accepted.holds), (generation, spec.is_ok()));
        assert_eq!(site.verdict("a"), (true, Reason::Accepted, true), "what was built stays judged");
        assert!(Arc::ptr_eq(&round.snapshot, &snapshot) && !site.inputs.snapshots.has_changed().unwrap());
    }
    site.read("a=m", false).await;
    assert!(site.rounds.borrow().as_ref().unwrap().verdicts.judged.is_empty(), "it was deleted");
    assert!(site.has("kthena_controlplane_builds_total 1") && site.has("kthena_controlplane_build_seconds_count 1"));

    // Together with one that decides something, and where more has been read of what is published, it is built.
    site.say(serving_beside("a=other", 4, Ok(())), false).await;
    assert_eq!(site.published(), "other");
    let seen = [("ModelRoute".to_owned(), "7".to_owned())].into_iter().collect();
    site.say(Arc::new(Reading { seen, ..(*serving_beside("a=other", 5, Ok(()))).clone() }), false).await;
    assert_eq!(site.inputs.snapshots.borrow().as_ref().unwrap().seen.of("ModelRoute"), Some("7"));
    assert!(site.has("kthena_controlplane_builds_total 3"));
}

#[tokio::test]
async fn while_builds_panic_the_world_that_was_built_before_is_built_again() {
    let mut site = Site::start("a=m").await;
    site.read("a=m bad=x", true).await;
    site.read("a=m", false).await;
    assert!(site.has("kthena_controlplane_build_panicking 0") && site.has("kthena_controlplane_builds_total 2"));
    assert_eq!(site.verdict("a"), (true, Reason::Accepted, true));
}
