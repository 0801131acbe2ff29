//! C3 and C5: what the API server said once takes no table back, and what nobody saw is as if it had never been.

use kube::api::DeleteParams;
use perf_tests::proxy::{Fault, Often, Verb, When};

use crate::program::route;
use crate::scene::{Scene, Where};
use crate::wait::until;

/// Answers from the past in a row. Their pauses double from 0.2 s; after a minute of nothing but such answers they would be believed.
const GLANCES: f64 = 3.0;

#[tokio::test]
async fn c03_lists_from_the_past_that_are_read_after_newer_ones_take_no_table_back() {
    let mut scene = Scene::new("past").await;
    scene.delete_pod("p0").await;
    scene.delete_route(Where::Here, "gone").await;
    scene.flip_pod("p1").await;
    scene.rests().await;
    let (table, tables) = (scene.newest(), scene.tables());
    let past = ["pods", "modelroutes"].map(|list| {
        let lists = When { namespace: Some(scene.home.namespace.clone()), ..When::of(Verb::List, list) };
        scene.home.proxy.inject(lists, Fault::OlderList, Often::Always)
    });
    scene.expire("pods").await;
    scene.expire("modelroutes").await;
    for kind in ["Pod", "ModelRoute"] {
        let older = format!("kthena_controlplane_older_lists_total{{kind=\"{kind}\"}}");
        until("glances of the past", async || {
            scene.check();
            scene.metric(&older).await >= GLANCES
        })
        .await;
    }
    scene.check();
    assert_eq!((scene.newest(), scene.tables()), (table, tables), "nothing was published of it");
    past.iter().for_each(perf_tests::proxy::Injected::lift);
    scene.make_route(Where::Here, "after", 1).await;
    scene.rests().await;
}

#[tokio::test]
async fn c05_what_was_made_and_deleted_in_a_gap_leaves_nothing_and_what_only_its_end_was_missed_of_goes() {
    let mut scene = Scene::new("unseen").await;
    scene.make_route(Where::Here, "half", 1).await;
    scene.rests().await;
    let lost = ["pods", "modelroutes"]
        .map(|list| scene.home.proxy.inject(When::of(Verb::Watch, list), Fault::LoseEvent, Often::Always));
    // No table may ever have these: they are written past the bounds.
    scene.home.pod("unseen", "s", "10.2.0.1").await;
    scene.home.apply(&route("unseen", "s")).await;
    scene.home.api("ModelRoute", "modelroutes").delete("unseen", &DeleteParams::default()).await.unwrap();
    scene.end_pod("unseen").await;
    scene.delete_route(Where::Here, "half").await;
    scene.delete_pod("p0").await;
    // Under its name another one, of which only the list will say.
    scene.delete_pod("p1").await;
    scene.make_pod("p1").await;
    until("events that are lost", async || lost[0].hits() >= 7 && lost[1].hits() >= 3).await;
    lost.iter().for_each(perf_tests::proxy::Injected::lift);
    scene.expire("pods").await;
    scene.expire("modelroutes").await;
    scene.rests().await;
    assert!(scene.newest().endpoints.contains_key(&scene.address("p1")));
    until("right statuses", async || scene.statuses_are_right().await).await;
}
