//! Asks all places of the newest build, again and again, hears what engines push, and tells the load lane and the next build
//! what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use tokio::sync::watch::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::push::Push;
use super::question::ask;
use super::shard::Shard;
use super::targets::{Place, Servers, Target};
use crate::publish::serve::Loads;
use crate::run::Round;
use crate::world::{Engines, Facts};

mod board;
mod lanes;
mod spare;
mod watched;

pub use board::Asked;
use lanes::{Asks, Heard, Lanes, Next, now};
use watched::Watch;

/// How often engines are asked where nobody says otherwise.
pub const PERIOD: Duration = Duration::from_secs(1);
/// Added to the period where only facts are asked for: they change less often than load does.
const BETWEEN_FACTS: Duration = Duration::from_secs(1);
/// For one answer, from connecting to the last byte.
const TIME: Duration = Duration::from_secs(1);
/// The longest that a place which does not answer is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What a place said counts for so long after it has fallen silent. Load is forgotten earlier, by who is told of it.
const FACTS_KEPT: Duration = Duration::from_secs(30);
/// What was scraped completes what is pushed for so long.
const SCRAPE_KEPT: Duration = Duration::from_secs(10);
/// After something new was heard, until the next build is told: others speak at the same time.
const TOLD_AFTER: Duration = Duration::from_millis(50);
/// Pushes that wait to be taken in.
const QUEUE: usize = 1_024;

/// Who is told what engines say.
#[derive(Debug)]
pub struct Told {
    /// Of their load.
    pub loads: Arc<Loads>,
    /// Of what they are.
    pub engines: Sender<Engines>,
    /// That those of the first build have been asked.
    pub first: oneshot::Sender<()>,
    /// What came of it, for people.
    pub asked: Sender<Vec<Asked>>,
}

/// Watches the engines of the newest build, as far as they are this replica's, until there will be no other build.
pub async fn watch(rounds: Receiver<Option<Arc<Round>>>, shard: Receiver<Shard>, told: Told, period: Duration) {
    let asks =
        |place: Place, question| -> lanes::Asking { Box::pin(async move { ask(&place, &question, TIME).await }) };
    watch_by(Arc::new(asks), rounds, shard, told, period).await;
}

/// The same, by whoever asks.
async fn watch_by(
    asks: Asks,
    mut rounds: Receiver<Option<Arc<Round>>>,
    mut shard: Receiver<Shard>,
    told: Told,
    period: Duration,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut servers, mut known) = (Servers::default(), None::<Arc<Round>>);
    let (out, mut pushes) = mpsc::channel(QUEUE);
    // Before the first build there is nobody to ask, and that nobody answered would be said too early.
    if rounds.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let mut watching = Watching::new(Lanes::new(asks), told);
    while rounds.has_changed().is_ok() {
        let tell_at = watching.tell_at.unwrap_or_else(now);
        tokio::select! {
            _ = ticks.tick() => {}
            next = watching.lanes.next() => {
                watching.take(next, period);
                continue;
            }
            Some(push) = pushes.recv() => {
                watching.push(push);
                continue;
            }
            () = sleep_until(tell_at.into()), if watching.tell_at.is_some() => {
                watching.tell();
                continue;
            }
        }
        let newest = rounds.borrow_and_update().clone();
        let built = newest.as_ref().map(Arc::as_ptr) != known.as_ref().map(Arc::as_ptr);
        // Without its sender nobody will join any more.
        if built || shard.has_changed().unwrap_or(false) {
            known = newest;
            let mut targets = known.as_ref().map(|round| servers.targets(round)).unwrap_or_default();
            let members = targets.values().flat_map(|target| &target.members);
            watching.loads.keep_engines(&members.filter_map(|member| member.handle).collect());
            let shard = shard.borrow_and_update().clone();
            targets.retain(|_, target| target.members.first().is_some_and(|first| shard.owns(&first.key.uid)));
            watching.follow(targets, &out);
        }
        watching.tell();
    }
}

/// All places, and who is told of them.
struct Watching {
    watched: Watched,
    lanes: Lanes,
    loads: Arc<Loads>,
    engines: Sender<Engines>,
    asked: Sender<Vec<Asked>>,
    /// Places of the first build that have not been asked yet, and who waits for them; none once that is over.
    first: Option<First>,
    /// When the next build is to be told; none where there is nothing new.
    tell_at: Option<Instant>,
}

struct First {
    waits: oneshot::Sender<()>,
    /// None before the first build.
    left: Option<BTreeSet<Place>>,
}

impl Watching {
    fn new(lanes: Lanes, Told { loads, engines, first, asked }: Told) -> Self {
        let first = Some(First { waits: first, left: None });
        Self { watched: Watched::new(), lanes, loads, engines, asked, first, tell_at: None }
    }

    /// What is known of a place stays while the same engine is asked there.
    fn follow(&mut self, targets: BTreeMap<Place, Target>, out: &mpsc::Sender<Push>) {
        let (mut before, now, mut new) = (std::mem::take(&mut self.watched), now(), BTreeSet::new());
        for (place, target) in targets {
            let known = before.remove(&place).filter(|known| known.is_of(&target));
            let mut watch = match known {
                Some(mut known) => {
                    known.target = target;
                    known
                }
                None => {
                    new.insert(place.clone());
                    Watch::new(target)
                }
            };
            watch.listen(&place, out);
            self.watched.insert(place, watch);
        }
        self.lanes.keep(|place| self.watched.contains_key(place) && !new.contains(place));
        if let Some(First { left, .. }) = &mut self.first {
            left.get_or_insert_with(|| new.clone()).retain(|place| self.watched.contains_key(place));
        }
        new.into_iter().for_each(|place| self.lanes.put(place, false, now));
    }

    fn take(&mut self, next: Next, period: Duration) {
        match next {
            Next::Due(place, room) => {
                let Some(watch) = self.watched.get_mut(&place) else { return };
                let number = self.lanes.ask(place, watch.question(now()), room);
                watch.asked(number);
            }
            Next::Heard(heard) => self.land(*heard, period),
        }
    }

    fn land(&mut self, heard: Heard, period: Duration) {
        let (place, is_answer) = (heard.place.clone(), heard.said.is_some());
        // One that is no longer watched is not heard, nor is what was asked of another engine at the same place.
        let Some(watch) = self.watched.get_mut(&place) else { return };
        let before = watch.shown();
        let Some((is_slow, again)) = watch.land(heard, &self.loads, period) else { return };
        if watch.shown() != before {
            self.tell_at.get_or_insert_with(|| now() + TOLD_AFTER);
        }
        if let Some(First { left: Some(left), .. }) = &mut self.first
            && is_answer
            && left.remove(&place)
            && left.is_empty()
        {
            self.tell();
        }
        self.lanes.put(place, is_slow, again);
    }

    fn push(&mut self, Push { place, pushed }: Push) {
        if let Some(watch) = self.watched.get_mut(&place) {
            watch.push(pushed, &self.loads, now());
        }
    }

    fn tell(&mut self) {
        self.tell_at = None;
        renew(&self.engines, facts(&self.watched, now()));
        renew(&self.asked, board::asked(&self.watched));
        let is_over = |first: &mut First| first.left.as_ref().is_some_and(BTreeSet::is_empty);
        if let Some(First { waits, .. }) = self.first.take_if(is_over) {
            // Who waited for that may have given up.
            let _ = waits.send(());
        }
    }
}

/// Says it where it is not what was said before.
fn renew<T: PartialEq>(told: &Sender<T>, now: T) {
    told.send_if_modified(|known| {
        *known != now && {
            *known = now;
            true
        }
    });
}

type Watched = BTreeMap<Place, Watch>;

/// All facts that still count. Of one engine they come from several places.
fn facts(watched: &Watched, now: Instant) -> Engines {
    let said = watched.values().filter_map(|watch| Some((watch, watch.facts.as_ref()?)));
    let fresh = said.filter(|(_, (_, heard))| now.saturating_duration_since(*heard) < FACTS_KEPT);
    let mut all: BTreeMap<EndpointKey, Arc<Facts>> = BTreeMap::new();
    for (watch, (facts, _)) in fresh {
        for member in &watch.target.members {
            let known = all.entry(member.key.clone());
            known.and_modify(|known| *known = Arc::new(known.and(facts))).or_insert_with(|| Arc::clone(facts));
        }
    }
    all.into_iter().collect()
}

/// After the first failure none but the period, then twice as long each time.
fn pause(failures_before: u32) -> Duration {
    let doubled = PERIOD.saturating_mul(1 << failures_before.min(8)) - PERIOD;
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
