//! C11: one model name in two namespaces, and one object's name twice.

use std::time::SystemTime;

use perf_tests::proxy::{Fault, Often, Verb, When};

use crate::scene::{Scene, Where};
use crate::wait::until;

/// Ages are of whole seconds: what is made after this is younger than what was made before.
async fn next_second() {
    let seconds = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let before = seconds();
    until("next second", async || seconds() > before).await;
}

/// In which namespaces the table has a route of this name, which is not kept from a table by its own mistake.
async fn owners(scene: &mut Scene, name: &str) -> Vec<Where> {
    scene.rests().await;
    let table = scene.newest();
    let has = |place: &Where| table.routes.contains_key(&format!("{}/{name}", scene.namespace(*place)));
    let owners = [Where::Here, Where::There].into_iter().filter(has).collect();
    until("right statuses", async || scene.statuses_are_right().await).await;
    owners
}

#[tokio::test]
async fn c11_the_elder_of_two_has_the_model_and_made_again_under_its_name_it_is_the_younger() {
    for [elder, younger] in [[Where::Here, Where::There], [Where::There, Where::Here]] {
        let mut scene = Scene::new("same-name").await;
        scene.make_route(elder, "both", 1).await;
        next_second().await;
        scene.make_route(younger, "both", 2).await;
        assert_eq!(owners(&mut scene, "both").await, [elder]);
        // An edit makes nobody younger.
        scene.make_route(elder, "both", 3).await;
        assert_eq!(owners(&mut scene, "both").await, [elder]);
        next_second().await;
        scene.delete_route(elder, "both").await;
        scene.make_route(elder, "both", 1).await;
        assert_eq!(owners(&mut scene, "both").await, [younger]);
        scene.delete_route(younger, "both").await;
        assert_eq!(owners(&mut scene, "both").await, [elder]);
    }
}

#[tokio::test]
async fn c11_a_pod_that_is_made_again_under_its_name_and_address_is_another_endpoint_though_nobody_saw_its_end() {
    let mut scene = Scene::new("same-pod").await;
    let before = scene.newest().endpoints[&scene.address("p0")].clone();
    let address = scene.address("p0");
    let lost = scene.home.proxy.inject(When::of(Verb::Watch, "pods"), Fault::LoseEvent, Often::Always);
    scene.delete_pod("p0").await;
    scene.make_pod_at("p0", &address).await;
    until("events that are lost", async || lost.hits() >= 3).await;
    lost.lift();
    scene.expire("pods").await;
    scene.rests().await;
    let after = scene.newest().endpoints[&address].clone();
    assert_ne!(before, after, "its UID is another one");
}
