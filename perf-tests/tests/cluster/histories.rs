//! C2, C3, C5, C6, C11 and C15 by the real program: seeded edits of real objects, and seeded faults between a real API server and the control
//! plane that follows it. Whatever happens, no table lacks what was there all along nor has what was gone before, and when it is over the table
//! is what the API server says.

use std::future::ready;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use perf_tests::proxy::{Fault, Injected, Often, Verb, When};
use tokio::time::sleep;

use crate::chance::{Rng, seeds};
use crate::scene::{Scene, Where};
use crate::wait::until;

/// Histories under way at once.
const AT_ONCE: usize = 3;
/// Weathers of a history besides those that each one has.
const REST: usize = 3;
/// In each weather.
const EDITS: u64 = 6;
const LISTS: [&str; 3] = ["pods", "modelroutes", "modelservers"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Weather {
    /// Events of one list are lost, as where nobody looked.
    Gap(&'static str),
    /// Watches are told that they have fallen behind.
    Behind,
    /// And the lists that are read then are of another server, which is behind itself.
    Past,
    Cuts,
    /// What was written is not known to have been.
    LostAnswers,
    Conflicts,
    Throttled,
    Away,
}

/// What a history goes through: a gap, a look into the past, and some of the rest, in an order of the seed's.
fn weathers(seed: u64, rng: &mut Rng) -> Vec<Weather> {
    use Weather::*;
    let mut rest = shuffled(vec![Behind, Cuts, LostAnswers, Conflicts, Throttled, Away], rng);
    rest.truncate(REST);
    rest.extend([Gap(LISTS[seed as usize % LISTS.len()]), Past]);
    shuffled(rest, rng)
}

fn shuffled<T>(mut all: Vec<T>, rng: &mut Rng) -> Vec<T> {
    for n in (1..all.len()).rev() {
        all.swap(n, rng.index(n + 1));
    }
    all
}

fn refuse(code: u16, retry_after_s: Option<u32>) -> Fault {
    Fault::Refuse { code, retry_after_s }
}

fn on(verb: Verb) -> When {
    When { verb: Some(verb), ..When::default() }
}

/// From here on until it is lifted.
async fn begin(scene: &mut Scene, weather: Weather) -> Vec<Injected> {
    let proxy = &scene.home.proxy;
    match weather {
        Weather::Gap(list) => {
            let lost = proxy.inject(When::of(Verb::Watch, list), Fault::LoseEvent, Often::Always);
            come_and_go(scene, list).await;
            vec![lost]
        }
        Weather::Behind => vec![proxy.inject(on(Verb::Watch), Fault::Expire, Often::First(4))],
        Weather::Past => {
            let past = proxy.inject(on(Verb::List), Fault::OlderList, Often::First(4));
            for list in LISTS {
                scene.expire(list).await;
            }
            vec![past]
        }
        Weather::Cuts => {
            let cuts = proxy.inject(on(Verb::Watch), Fault::Cut, Often::First(6));
            proxy.cut_all();
            vec![cuts]
        }
        Weather::LostAnswers => vec![proxy.inject(When::writes(), Fault::CutAnswer, Often::EachNth(2))],
        Weather::Conflicts => {
            vec![proxy.inject(When::of(Verb::Patch, "modelroutes/status"), refuse(409, None), Often::Always)]
        }
        Weather::Throttled => {
            let throttled = proxy.inject(on(Verb::Watch), refuse(429, Some(1)), Often::First(6));
            proxy.cut_all();
            vec![throttled]
        }
        Weather::Away => {
            proxy.set_away(true);
            Vec::new()
        }
    }
}

/// Something of a list that nobody will see.
async fn come_and_go(scene: &mut Scene, list: &str) {
    match list {
        "pods" => {
            scene.make_pod("unseen").await;
            scene.delete_pod("unseen").await;
        }
        "modelroutes" => {
            scene.make_route(Where::There, "unseen", 1).await;
            scene.delete_route(Where::There, "unseen").await;
        }
        _ => {
            scene.select(true).await;
            scene.select(false).await;
        }
    }
}

async fn end(scene: &mut Scene, weather: Weather, faults: Vec<Injected>) -> u32 {
    faults.iter().for_each(Injected::lift);
    scene.home.proxy.set_away(false);
    if let Weather::Gap(list) = weather {
        scene.expire(list).await;
    }
    faults.iter().map(Injected::hits).sum()
}

/// A write of one kind or another, of which some are two.
async fn edit(scene: &mut Scene, rng: &mut Rng) {
    let (pod, route, place) =
        (format!("p{}", rng.below(4)), format!("r{}", rng.below(3)), rng.pick(&[Where::Here, Where::There]));
    let weight = 1 + rng.below(100) as u32;
    match rng.below(10) {
        0 => scene.select(rng.one_in(2)).await,
        1..=5 if !scene.has_pod(&pod) => {
            scene.make_pod(&pod).await;
            if rng.one_in(4) {
                // It has come and gone.
                scene.delete_pod(&pod).await;
            }
        }
        1..=3 => scene.flip_pod(&pod).await,
        4 | 5 => {
            scene.delete_pod(&pod).await;
            if rng.one_in(2) {
                scene.make_pod(&pod).await;
            }
        }
        6 | 7 if scene.has_route(place, &route) => {
            scene.delete_route(place, &route).await;
            if rng.one_in(2) {
                scene.make_route(place, &route, weight).await;
            }
        }
        _ => scene.make_route(place, &route, weight).await,
    }
}

/// What happened in it.
async fn history(seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let mut scene = Scene::new("history").await;
    // Whatever looks into the past sees these.
    scene.delete_pod("p0").await;
    scene.delete_route(Where::Here, "gone").await;
    scene.rests().await;
    let mut said = Vec::new();
    for weather in weathers(seed, &mut rng) {
        let faults = begin(&mut scene, weather).await;
        for _ in 0..EDITS {
            edit(&mut scene, &mut rng).await;
            // The pace is of the history: now within the time in which changes are put together, now beyond it.
            sleep(Duration::from_millis(rng.pick(&[0, 0, 5, 40, 150]))).await;
        }
        let hits = end(&mut scene, weather, faults).await;
        scene.rests().await;
        said.push(format!("{weather:?} {hits}"));
    }
    until("right statuses", async || scene.statuses_are_right().await).await;
    scene.check();
    assert!(scene.runs(), "it is the program that began");
    format!("{} tables; {}", scene.tables(), said.join(", "))
}

#[tokio::test]
async fn seeds_c02_c03_c05_c06_c11_c15_a_table_is_at_last_what_the_api_server_says_and_lacks_nothing_that_stayed() {
    let seeds = seeds();
    println!("seeds {seeds:?}");
    let histories = stream::iter(seeds).map(|seed| async move {
        // Others are under way: the one that fails says so itself.
        let ended = AssertUnwindSafe(history(seed)).catch_unwind().await;
        println!("seed {seed}: {}", ended.as_deref().unwrap_or("failed"));
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    });
    histories.buffer_unordered(AT_ONCE).for_each(|_| ready(())).await;
}
