//! Objects that users write while something is done to the control plane: each is judged by its webhook, and none is refused for want of one.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::sleep;

use super::site::Site;
use crate::program::server;

const EVERY: Duration = Duration::from_millis(50);
/// Fewer would show little.
const ENOUGH: usize = 20;

/// Writes until `act` is done.
pub async fn all_along<T>(site: &Site, act: impl Future<Output = T>) -> T {
    let (tried, failed) = (RefCell::new(0), RefCell::new(Vec::new()));
    let writing = async {
        for n in (0..1000).cycle() {
            // Another port each time: what changes no spec is not judged.
            let written = site.cluster.apply(&site.client, &site.models, &server("written", 8000 + n)).await;
            failed.borrow_mut().extend(written.err().map(|error| format!("{error:#}")));
            *tried.borrow_mut() += 1;
            sleep(EVERY).await;
        }
    };
    let done = tokio::select! {
        done = act => done,
        () = writing => unreachable!("it goes round and round"),
    };
    let (tried, failed) = (tried.into_inner(), failed.into_inner());
    println!("{tried} objects were written meanwhile");
    assert!(
        failed.is_empty(),
        "{} of {tried} were not written, as {:#?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    assert!(tried >= ENOUGH, "only {tried} were written");
    done
}
