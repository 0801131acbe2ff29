//! A cluster: every list that the publisher reads is kept current, and put together into a world.
//!
//! `watched` says which lists those are, `told` what is said of one of them as it is followed, `entry` reads and trims an object on arrival, `kept` what
//! its status keeps of it, and `state` is all of it together, changed by one value at a time. Nothing is said before each list has been read once. What is
//! said after that comes of several changes at once where they arrive close together, and never more than 20 times a second.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use prometheus::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::api_server::Follower;
use crate::metrics::Watches;
use crate::source::{Reached, Reading};

mod entry;
mod kept;
mod state;
mod told;
mod watched;

use state::{State, Step};
use told::Told;
use watched::Watched;

/// A change is put together with those that follow it this closely,
const QUIET: Duration = Duration::from_millis(10);
/// but does not wait longer than this for them; and the next reading is as far away at least.
const PERIOD: Duration = Duration::from_millis(50);
/// Changes on their way from the followers. When this is full they wait, and the API server with them.
const CHANGES: usize = 1_024;

/// What of the cluster is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The namespaces whose objects count; all where it is empty.
    pub namespaces: Vec<String>,
    /// Where the scheduler's ConfigMap lies: the namespace of the control plane itself.
    pub home: String,
}

/// Lists that have not been read yet, each with the reason that is known.
pub type Waiting = Vec<String>;

/// What is said beside the readings.
#[derive(Debug)]
pub struct Posts {
    /// What has not been read yet.
    pub waiting: watch::Sender<Waiting>,
    /// How far all has been read.
    pub reached: watch::Sender<Reached>,
}

/// Hands over what the cluster says, whenever that has changed. It does not end by itself.
pub async fn watch(client: Client, scope: &Scope, counts: Arc<Watches>, posts: Posts, changed: impl FnMut(Reading)) {
    let watched = Watched::all(scope);
    let (tell, changes) = mpsc::channel(CHANGES);
    let mut followers = JoinSet::new();
    for (place, watched) in watched.iter().enumerate() {
        let told = Told { place, watched: watched.clone(), tell: tell.clone() };
        let follower = Follower::new(client.clone(), told, counts.clone());
        followers.spawn(follower.run());
    }
    // A follower ends only by a panic: the channel closes when all have, and one that is gone must not go unseen.
    drop(tell);
    tokio::select! {
        () = gather(State::new(watched), changes, &posts, changed) => {}
        Some(ended) = followers.join_next() => tracing::error!(?ended, "a list of the cluster is no longer followed"),
    }
}

/// What the cluster says now: each list is read once, and none is followed. The error is the lists that cannot be read.
pub(crate) async fn read(client: Client, scope: &Scope) -> Result<Reading, Waiting> {
    let watched = Watched::all(scope);
    let (tell, mut changes) = mpsc::channel(CHANGES);
    // Nobody will ask for them.
    let counts = Arc::new(Watches::new(&Registry::new()));
    let mut lists = JoinSet::new();
    for (place, watched) in watched.iter().enumerate() {
        let told = Told { place, watched: watched.clone(), tell: tell.clone() };
        let follower = Follower::new(client.clone(), told, counts.clone());
        lists.spawn(follower.once());
    }
    drop(tell);
    let mut state = State::new(watched);
    while let Some(change) = changes.recv().await {
        state.hear(change);
    }
    if state.is_complete() { Ok(state.reading()) } else { Err(state.waiting()) }
}

/// From changes to readings.
async fn gather(mut state: State, mut changes: mpsc::Receiver<Step>, posts: &Posts, mut changed: impl FnMut(Reading)) {
    let mut said = None;
    while let Some(first) = changes.recv().await {
        // Most that is written to pods and nodes is no news: neither does it begin a wait, nor make one longer.
        let news = state.hear(first);
        if news {
            let earliest = said.map(|said: Instant| said + PERIOD);
            rest(&mut state, &mut changes, earliest).await;
        }
        renew(&posts.waiting, &state.waiting());
        renew(&posts.reached, state.reached());
        if state.is_complete() && (news || said.is_none()) {
            changed(state.reading());
            said = Some(Instant::now());
        }
    }
}

/// Says it where it is not what was said before.
fn renew<T: PartialEq + Clone>(post: &watch::Sender<T>, now: &T) {
    post.send_if_modified(|held| {
        let differs = held != now;
        if differs {
            held.clone_from(now);
        }
        differs
    });
}

/// Takes in what follows closely on a change, which has been taken in itself.
async fn rest(state: &mut State, changes: &mut mpsc::Receiver<Step>, earliest: Option<Instant>) {
    let begin = Instant::now();
    let (earliest, mut last) = (earliest.unwrap_or(begin), begin);
    loop {
        let until = (last + QUIET).min(begin + PERIOD).max(earliest);
        // Asked for by itself: where changes come all the time, none of them is waited for.
        if Instant::now() >= until {
            return;
        }
        let Ok(Some(change)) = timeout_at(until, changes.recv()).await else { return };
        if state.hear(change) {
            last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests;
