//! Asks all places of the newest build, again and again, hears what engines push, and tells the load lane and the next build
//! what they say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use api::snapshot::Engine;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::watch::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::merge::merge;
use super::push::{Listening, Push};
use super::pushed::{Pushed, Pushes};
use super::question::{Answer, AskError, ask};
use super::reading::{Before, Reading, Said};
use super::shard::Shard;
use super::targets::{Ask, Place, Servers, Target, Topic};
use crate::publish::serve::Loads;
use crate::run::Round;
use crate::world::{Engines, Facts};

mod board;
mod spare;

pub use board::Asked;
use spare::Spare;

/// How often engines are asked where nobody says otherwise.
pub const PERIOD: Duration = Duration::from_secs(1);
/// Added to the period where only facts are asked for: they change less often than load does.
const BETWEEN_FACTS: Duration = Duration::from_secs(1);
/// For one answer, from connecting to the last byte.
const TIME: Duration = Duration::from_secs(1);
/// Places that are asked at once; and of those that did not answer the last time, in one sweep, which is so over within a time or two
/// however many there are.
const AT_ONCE: usize = 64;
/// The longest that a place which does not answer is left alone, so that many such do not hold up the others.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What a place said counts for so long after it has fallen silent. Load is forgotten earlier, by who is told of it.
const FACTS_KEPT: Duration = Duration::from_secs(30);
/// What was scraped completes what is pushed for so long.
const SCRAPE_KEPT: Duration = Duration::from_secs(10);
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
pub async fn watch(
    mut rounds: Receiver<Option<Arc<Round>>>,
    mut shard: Receiver<Shard>,
    Told { loads, engines, first, asked }: Told,
    period: Duration,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut servers, mut watched) = (Servers::default(), Watched::new());
    let (mut known, mut first) = (None::<Arc<Round>>, Some(first));
    let (out, mut pushes) = mpsc::channel(QUEUE);
    // Before the first build there is nobody to ask, and that nobody answered would be said too early.
    if rounds.wait_for(Option::is_some).await.is_err() {
        return;
    }
    while rounds.has_changed().is_ok() {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            Some(push) = pushes.recv() => {
                take(push, &mut watched, &loads);
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
            loads.keep_engines(&members.filter_map(|member| member.handle).collect());
            let shard = shard.borrow_and_update().clone();
            targets.retain(|_, target| target.members.first().is_some_and(|first| shard.owns(&first.key.uid)));
            watched = follow(watched, targets, &out);
        }
        sweep(&mut watched, &mut pushes, &loads).await;
        renew(&engines, facts(&watched, Instant::now()));
        renew(&asked, board::asked(&watched));
        // Who waited for that may have given up.
        let _ = first.take().map(|first| first.send(()));
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

/// A place, and what it said.
#[derive(Debug)]
struct Watch {
    target: Target,
    load: Option<(Reading, Said, Instant)>,
    facts: Option<(Arc<Facts>, Instant)>,
    /// Failures in a row.
    failures: u32,
    /// Why the last answer is missing, or lacks something.
    fault: Option<Arc<str>>,
    spare: Spare,
    due: Instant,
    pushes: Pushes,
    /// None where it never pushes.
    listening: Option<Listening>,
}

impl Watch {
    fn new(target: Target) -> Self {
        Self {
            target,
            load: None,
            facts: None,
            failures: 0,
            fault: None,
            spare: Spare::default(),
            due: Instant::now(),
            pushes: Pushes::default(),
            listening: None,
        }
    }

    /// It is listened to where it is said that it may push.
    fn listen(&mut self, place: &Place, out: &mpsc::Sender<Push>) {
        if self.target.pushes == self.listening.as_ref().map(|listening| listening.api) {
            return;
        }
        let start = |api| Listening::start(place.clone(), api, out.clone());
        (self.pushes, self.listening) = (Pushes::default(), self.target.pushes.map(start));
    }
}

/// What is known of a place stays while it is asked.
fn follow(mut before: Watched, targets: BTreeMap<Place, Target>, out: &mpsc::Sender<Push>) -> Watched {
    let watch = |(place, target): (Place, Target)| {
        let mut watch = match before.remove(&place) {
            Some(known) => Watch { target, ..known },
            None => Watch::new(target),
        };
        watch.listen(&place, out);
        (place, watch)
    };
    targets.into_iter().map(watch).collect()
}

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

/// One that is no longer watched is not heard.
fn take(Push { place, pushed }: Push, watched: &mut Watched, loads: &Loads) {
    if let Some(watch) = watched.get_mut(&place) {
        watch.push(pushed, loads, Instant::now());
    }
}

/// Those whose time has come: first who answers, then of the others those that have waited longest.
fn due(watched: &Watched, now: Instant) -> Vec<(Place, Ask)> {
    let due = watched.iter().filter(|(_, watch)| watch.due <= now);
    let (mut due, mut silent): (Vec<_>, Vec<_>) = due.partition(|(_, watch)| watch.failures == 0);
    silent.sort_by_key(|(_, watch)| watch.due);
    silent.truncate(AT_ONCE);
    due.append(&mut silent);
    let ask = |watch: &Watch| Ask { spare: watch.spare.is_on(now), ..watch.target.ask.clone() };
    due.into_iter().map(|(place, watch)| (place.clone(), ask(watch))).collect()
}

/// Asks those whose time has come. What is pushed meanwhile does not wait for the slowest of them.
async fn sweep(watched: &mut Watched, pushes: &mut mpsc::Receiver<Push>, loads: &Loads) {
    let asking = due(watched, Instant::now()).into_iter().map(|(place, question)| async move {
        let answer = ask(&place, &question, TIME).await;
        (place, answer)
    });
    let mut answers = stream::iter(asking).buffer_unordered(AT_ONCE);
    loop {
        let (place, answer) = tokio::select! {
            answer = answers.next() => match answer {
                Some(answer) => answer,
                None => return,
            },
            Some(push) = pushes.recv() => {
                take(push, watched, loads);
                continue;
            }
        };
        let Some(watch) = watched.get_mut(&place) else { continue };
        let now = Instant::now();
        match answer {
            Ok(answer) => watch.hear(answer, &place, loads, now),
            Err(error) => watch.fail(&error, &place, now),
        }
    }
}

impl Watch {
    fn hear(&mut self, Answer { load, facts, fault }: Answer, place: &Place, loads: &Loads, now: Instant) {
        self.failures = 0;
        self.due = now;
        self.spare.hear(fault.as_ref(), now);
        match fault {
            Some(fault) => self.complain(&fault, place),
            None if self.fault.take().is_some() => {
                tracing::info!(address = %place.address, topic = ?place.topic, "an engine can be asked again");
            }
            None => {}
        }
        if place.topic == Topic::Models && place.engine != Engine::Torchserve {
            self.due = now + BETWEEN_FACTS;
        }
        if let Some(reading) = load {
            self.tell(reading, loads, now);
        }
        if let Some(facts) = facts {
            self.learn(facts, now);
        }
    }

    fn learn(&mut self, facts: Facts, now: Instant) {
        let same = self.facts.take().map(|(known, _)| known).filter(|known| **known == facts);
        self.facts = Some((same.unwrap_or_else(|| Arc::new(facts)), now));
    }

    fn tell(&mut self, reading: Reading, loads: &Loads, now: Instant) {
        let before =
            self.load.map(|(reading, said, at)| Before { reading, said, ago: now.saturating_duration_since(at) });
        let said = reading.said(before.as_ref());
        self.load = Some((reading, said, now));
        self.say(self.pushes.over(said, now).unwrap_or(said), loads, now);
    }

    fn push(&mut self, pushed: Pushed, loads: &Loads, now: Instant) {
        self.pushes.hear(pushed, now);
        if let Some(tokens) = self.pushes.cache_tokens(now) {
            self.learn(Facts { cache_tokens: Some(tokens), ..Facts::default() }, now);
        }
        let fresh = self.load.filter(|(_, _, at)| now.saturating_duration_since(*at) < SCRAPE_KEPT);
        let scraped = fresh.map(|(_, said, _)| said).unwrap_or_default();
        if let Some(said) = self.pushes.over(scraped, now) {
            self.say(said, loads, now);
        }
    }

    fn say(&self, said: Said, loads: &Loads, now: Instant) {
        for handle in self.target.members.iter().filter_map(|member| member.handle) {
            loads.engine(merge(handle, said, loads.at(handle)), now);
        }
    }

    /// What it said before grows old, and is forgotten in the end.
    fn fail(&mut self, error: &AskError, place: &Place, now: Instant) {
        self.complain(error, place);
        self.due = now + pause(self.failures);
        self.failures = self.failures.saturating_add(1);
    }

    fn complain(&mut self, error: &AskError, place: &Place) {
        // What is wrong is what was wrong before.
        if matches!(error, AskError::Spared) || self.fault.replace(error.to_string().into()).is_some() {
            return;
        }
        let Place { address, topic, path, .. } = place;
        match topic {
            Topic::Metrics => {
                tracing::warn!(%address, %path, %error, "cannot read an engine's metrics: only what proxies sent it counts");
            }
            Topic::Models => {
                tracing::warn!(%address, %error, "cannot ask an engine for its models: it counts as ready, with any adapter");
            }
        }
    }
}

/// After the first failure none but the period, then twice as long each time.
fn pause(failures_before: u32) -> Duration {
    let doubled = PERIOD.saturating_mul(1 << failures_before.min(8)) - PERIOD;
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
