//! A data plane that comes from a replica which knew more.

use std::time::Duration;

use api::snapshot::Snapshot;

use super::plane::{Plane, Site, until};
use super::*;
use crate::source::testing::reached;

/// Longer than any of this takes.
const PATIENT: Duration = Duration::from_secs(60);

/// A site whose list of pods has been read up to a version, with these routes.
async fn site((words, version): (&str, u64), patience: Duration) -> Site {
    let site = Site::start(Options { patience, ..Options::default() }).await;
    know(&site, words, version);
    site
}

/// It has read on.
fn know(site: &Site, words: &str, version: u64) {
    site.reached.send_replace(reached(version.into(), version.into()));
    let seen = [("Pod".to_owned(), version.to_string())].into_iter().collect();
    site.send(Snapshot { seen, ..snapshot(words) });
}

async fn joined(site: &Site) -> Plane {
    let mut plane = site.join().await;
    plane.apply().await;
    plane
}

#[tokio::test]
async fn it_is_told_nothing_older_than_what_it_has() {
    let (knows, behind) = (site(("a=new", 50), PATIENT).await, site(("a=old", 40), PATIENT).await);
    let plane = joined(&knows).await;
    let (mut moved, mut newcomer) = (behind.rejoin(&plane).await, behind.join().await);
    newcomer.apply().await;
    assert_eq!(newcomer.words(), "a=old", "who has seen nothing is not kept waiting");
    assert!(moved.quiet().await, "its pods are read up to 40 only");
    know(&behind, "a=new b", 51);
    moved.apply().await;
    assert_eq!((moved.words(), behind.counts.behind.load(Relaxed)), ("a=new b".into(), 0));
}

#[tokio::test]
async fn what_was_read_since_and_is_no_news_counts_too() {
    let (knows, other) = (site(("a", 50), PATIENT).await, site(("a b", 40), PATIENT).await);
    let mut moved = other.rejoin(&joined(&knows).await).await;
    assert!(moved.quiet().await);
    other.reached.send_replace(reached(40, 50));
    moved.apply().await;
    assert_eq!(moved.words(), "a b");
}

#[tokio::test]
async fn after_a_while_it_is_told_what_there_is_and_that_is_counted() {
    let (knows, behind) = (site(("a=new", 50), PATIENT).await, site(("a=old", 40), Duration::from_millis(300)).await);
    let mut moved = behind.rejoin(&joined(&knows).await).await;
    until("it is told", || behind.counts.behind.load(Relaxed) == 1).await;
    moved.apply().await;
    assert_eq!(moved.words(), "a=old");
}
