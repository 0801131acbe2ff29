//! C9: whatever an API server takes by the definitions' schemas alone, the control plane lives with it, says what it thinks of it, and does its
//! work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use controlplane::object::Kind;
use futures_util::{StreamExt, stream};
use http::Request;
use serde_json::{Value, json};
use tokio::time::interval;

use crate::chance::{Rng, seeds};
use crate::corpus::corpus;
use crate::objects::Place;
use crate::odd::odd;
use crate::program::get;
use crate::scene::{Scene, Where};
use crate::wait::until;

/// Objects of a seed that an API server has taken.
const TAKEN: usize = 70;
/// Of which so many may be refused by its schema for each that is taken.
const REFUSED: usize = 20;
const AT_ONCE: usize = 4;

/// A case of the corpus, in which some values are others of their schemas.
fn object(rng: &mut Rng, cases: &[(Kind, Value)], n: usize) -> (Kind, Value) {
    let (kind, object) = &cases[rng.index(cases.len())];
    let mut object = object.clone();
    let schema = kind.schema();
    for _ in 0..1 + rng.below(3) {
        odd(rng, &schema["properties"]["spec"], &mut object["spec"]);
    }
    object["metadata"] = json!({"name": format!("odd-{n}")});
    if let Value::Object(fields) = &mut object {
        fields.remove("status");
    }
    (*kind, object)
}

/// Puts so many there, whatever the API server refuses; how many it took of each kind.
async fn put(scene: &Scene, rng: &mut Rng) -> BTreeMap<String, usize> {
    let cases: Vec<_> =
        corpus().into_iter().filter_map(|(_, case)| Some((Kind::of(&case.object)?, case.object))).collect();
    let objects: Vec<_> = (0..TAKEN * REFUSED).map(|n| object(rng, &cases, n)).collect();
    let taken = AtomicUsize::new(0);
    let created = stream::iter(objects).map(|(kind, object)| {
        let taken = &taken;
        async move {
            if taken.load(Relaxed) >= TAKEN {
                return None;
            }
            let place = Place::of(&scene.home.admin, kind, &scene.home.namespace);
            place.create(&object).await.ok()?;
            taken.fetch_add(1, Relaxed);
            Some(kind.to_string())
        }
    });
    let created: Vec<_> = created.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
    assert!(created.len() >= TAKEN, "an API server takes only {} of {}", created.len(), TAKEN * REFUSED);
    created.into_iter().fold(BTreeMap::new(), |mut counts, kind| {
        *counts.entry(kind).or_default() += 1;
        counts
    })
}

/// Of what is odd: how many are accepted, and how many not; none where one says nothing of its newest form yet.
async fn said(scene: &Scene) -> Option<(usize, usize)> {
    let mut accepted = (0, 0);
    for kind in Kind::ALL {
        let path = format!("/apis/{}/v1alpha1/namespaces/{}/{}", kind.group(), scene.home.namespace, kind.plural());
        let list: Value = scene.home.admin.request(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
        for object in list["items"].as_array().unwrap() {
            let conditions = object["status"]["conditions"].as_array()?;
            let said = conditions.iter().find(|one| one["type"] == "Accepted")?;
            if said["observedGeneration"] != object["metadata"]["generation"] {
                return None;
            }
            match said["status"] == "True" {
                true => accepted.0 += 1,
                false => accepted.1 += 1,
            }
        }
    }
    Some(accepted)
}

/// Asks whether it is ready all the time; the sentence of the first time that it is not.
async fn never_unready(port: u16) -> String {
    let mut asked = interval(Duration::from_millis(20));
    loop {
        asked.tick().await;
        match get(port, "/readyz").await {
            Some((200, _)) => {}
            other => return format!("readyz: {other:?}"),
        }
    }
}

async fn poisoned(seed: u64) {
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut scene = Scene::new("poison").await;
    scene.let_any();
    let port = scene.home.metrics;
    let odd = async {
        let kinds = put(&scene, &mut rng).await;
        let mut verdicts = (0, 0);
        until("a verdict on each", async || {
            let said = said(&scene).await;
            verdicts = said.unwrap_or_default();
            said.is_some()
        })
        .await;
        println!("seed {seed}: {kinds:?}; {} accepted, {} not", verdicts.0, verdicts.1);
        // Good ones among them.
        assert!(verdicts.0 > 10 && verdicts.1 > 10, "{verdicts:?}");
    };
    tokio::select! {
        () = odd => {}
        unready = never_unready(port) => panic!("seed {seed}: {unready}"),
    }
    scene.make_route(Where::Here, "r0", 7).await;
    let kept = format!("{}/r0", scene.home.namespace);
    scene
        .told("an edit of a good route", |table| table.routes.get(&kept).is_some_and(|said| said.ends_with(" 7")))
        .await;
    until("a programmed route", async || {
        scene.home.condition("ModelRoute", "modelroutes", "r0", "Programmed").await["status"] == "True"
    })
    .await;
    assert_eq!(scene.metric("kthena_controlplane_build_panics_total").await, 0.0, "seed {seed}");
    // What stays was in each table.
    scene.check();
    assert!(scene.runs(), "seed {seed}: it is the program that began");
}

#[tokio::test]
async fn seeds_c09_odd_objects_are_judged_and_stop_nothing() {
    for seed in seeds() {
        poisoned(seed).await;
    }
}
