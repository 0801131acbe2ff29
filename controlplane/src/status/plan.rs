//! What is written now and what later: pure, but for what it remembers. At most 18 times a second in all, news before counts, and one
//! object seldom: what an object's status says again and again, it says ever more slowly.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::desired::{Form, Verdict, stays};
use super::key::{Key, Which, judged};
use super::pace::Pace;
use super::reach::{Fleet, Newest, Reach};
use super::says::Says;
use crate::chance::jittered;
use crate::publish::Fallback;
use crate::run::Round;
use crate::world::Seniority;

/// Between two writes of all. 20 a second is the most that a control plane may do; this leaves room for their way.
const BETWEEN: Duration = Duration::from_millis(55);
/// On their way at once.
const AT_ONCE: usize = 10;
/// So long data planes have to answer before a status says that they have not.
const GRACE: Duration = Duration::from_millis(500);
/// Between two writes to an object that change no more than sentences and counts.
const COUNTS: Duration = Duration::from_secs(60);
/// So many failures in a row, of any objects, are no longer the objects' fault: then only so often one is tried.
const IN_VAIN: u32 = 4;
const WHEN_IN_VAIN: Duration = Duration::from_secs(2);
/// However long the server says to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) key: Key,
    /// What the status says, as far as is known. Where it says something else, all is decided anew.
    pub(super) said: Option<Says>,
    pub(super) wanted: Says,
    /// Which of all objects that ever had its name was judged; empty where nobody says.
    pub(super) uid: Arc<str>,
    /// What is in force of it while its newest form is refused.
    pub(super) fallback: Fallback,
}

/// What became of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// The status says it now.
    Written,
    /// It was found to say this, nothing was written.
    Found(Option<Says>),
    /// The object has another generation than the one that was judged.
    Stale,
    /// It was written between being read and being written.
    Conflict,
    /// There is no such object.
    Gone,
    /// Not now, and not before this time.
    Failed(Option<Duration>),
    /// Another leads.
    Lost,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    Write(Box<Task>),
    /// Nothing before this; none where nothing is due at all.
    Wait(Option<Instant>),
}

/// The lesser goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Another generation, or a refusal.
    News,
    /// Another condition that turns.
    Turns,
    /// Sentences and counts.
    Counts,
}

#[derive(Debug)]
struct Known {
    which: (Arc<str>, Seniority),
    form: Form,
    /// The round in which it got this form.
    since: u64,
    /// When it got the first form that its status does not speak of.
    since_at: Instant,
    reach: Reach,
    said: Option<Says>,
    wanted: Says,
    due: Option<(Class, Instant)>,
    pace: Pace,
    in_flight: bool,
}

/// What is seen in one moment.
#[derive(Debug)]
struct Sight<'a> {
    round: &'a Round,
    fleet: &'a Fleet,
    now: Instant,
}

impl Sight<'_> {
    fn version(&self) -> u64 {
        self.round.snapshot.version.version
    }
}

/// All objects that have a status.
#[derive(Debug)]
pub(super) struct Planner {
    round: Option<Arc<Round>>,
    fleet: Fleet,
    /// What was found before there was a round.
    listed: HashMap<Key, Says>,
    objects: HashMap<Key, Known>,
    next: Instant,
    in_flight: usize,
    /// Failures in a row, of any objects.
    vain: u32,
}

impl Planner {
    /// `listed` is what all statuses say.
    pub(super) fn new(listed: HashMap<Key, Says>, now: Instant) -> Self {
        let (objects, fleet) = (HashMap::new(), Fleet::default());
        Self { round: None, fleet, listed, objects, next: now, in_flight: 0, vain: 0 }
    }

    /// All statuses were looked at again.
    pub(super) fn found(&mut self, mut listed: HashMap<Key, Says>) {
        let Some(round) = self.round.clone() else {
            self.listed = listed;
            return;
        };
        for (key, verdict, _) in judged(&round) {
            if let Some(known) = self.objects.get_mut(&key).filter(|known| !known.in_flight) {
                known.said = listed.remove(&key);
                known.decide(verdict);
            }
        }
    }

    /// There is another round, or data planes have acknowledged something.
    pub(super) fn observe(&mut self, round: &Arc<Round>, fleet: &Fleet, now: Instant) {
        let same_fleet = self.fleet.same(fleet);
        self.fleet = fleet.clone();
        let sight = Sight { round, fleet, now };
        match self.round.replace(round.clone()) {
            Some(known) if Arc::ptr_eq(&known, round) && same_fleet => {}
            Some(known) if Arc::ptr_eq(&known, round) => self.progressed(&sight),
            known => self.judged(&sight, known.as_deref()),
        }
    }

    fn progressed(&mut self, sight: &Sight<'_>) {
        for (key, known) in &mut self.objects {
            if let Some(verdict) = key.verdict(sight.round) {
                known.progressed(key, verdict, sight);
            }
        }
    }

    fn judged(&mut self, sight: &Sight<'_>, before: Option<&Round>) {
        let mut objects = HashMap::with_capacity(self.objects.len());
        for (key, verdict, which) in judged(sight.round) {
            // One that was made anew under its name is another object.
            match self.objects.remove(&key).filter(|known| (&known.which.0, &known.which.1) == which) {
                Some(mut known) => {
                    if before.and_then(|before| key.verdict(before)) == Some(verdict) {
                        known.progressed(&key, verdict, sight);
                    } else {
                        known.judged(&key, verdict, sight);
                    }
                    objects.insert(key, known);
                }
                None => {
                    let known = Known::new(&key, verdict, which, self.listed.remove(&key), sight);
                    objects.insert(key, known);
                }
            }
        }
        self.objects = objects;
        self.listed.clear();
    }

    /// What is due. Whoever gets a task tells with [`Planner::done`] what became of it.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.in_flight >= AT_ONCE {
            return Next::Wait(None);
        }
        if now < self.next {
            return Next::Wait(Some(self.next));
        }
        let due = |(key, known): (_, &Known)| known.due.filter(|_| !known.in_flight).map(|due| (due, key));
        let all = || self.objects.iter().filter_map(due);
        let ripe = all().filter(|((_, at), _)| *at <= now).min();
        let Some((_, key)) = ripe else { return Next::Wait(all().map(|((_, at), _)| at).min()) };
        let key = key.clone();
        let Some(known) = self.objects.get_mut(&key) else { return Next::Wait(None) };
        known.in_flight = true;
        self.in_flight += 1;
        self.next = now + BETWEEN;
        let verdict = self.round.as_ref().and_then(|round| key.verdict(round));
        let fallback = verdict.map(|verdict| verdict.fallback().clone()).unwrap_or_default();
        let (uid, said, wanted) = (known.which.0.clone(), known.said.clone(), known.wanted.clone());
        Next::Write(Box::new(Task { key, said, wanted, uid, fallback }))
    }

    /// What became of a task.
    pub(super) fn done(&mut self, task: &Task, outcome: &Outcome, now: Instant, random: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(round) = &self.round else { return };
        let Some(known) = self.objects.get_mut(&task.key) else { return };
        known.in_flight = false;
        match outcome {
            Outcome::Written => {
                known.pace.wrote(task.said.as_ref().map(|said| said.generation), task.wanted.generation, now);
                known.said = Some(task.wanted.clone());
            }
            Outcome::Found(says) => {
                known.pace.again(now, random);
                known.said = says.clone();
            }
            Outcome::Stale | Outcome::Conflict | Outcome::Lost => known.pace.again(now, random),
            Outcome::Gone => known.pace.failed(None, now, random),
            Outcome::Failed(not_before) => known.pace.failed(*not_before, now, random),
        }
        // Where nothing succeeds, one attempt now and then is enough to learn when something does.
        self.vain = if matches!(outcome, Outcome::Failed(_)) { self.vain.saturating_add(1) } else { 0 };
        if let Outcome::Failed(not_before) = outcome {
            let pause = if self.vain < IN_VAIN { Duration::ZERO } else { jittered(WHEN_IN_VAIN, random) };
            self.next = self.next.max(now + not_before.unwrap_or_default().max(pause).min(LONGEST_WAIT));
        }
        if let Some(verdict) = task.key.verdict(round) {
            known.decide(verdict);
        }
    }

    /// Objects whose status does not say yet what it ought to.
    pub(super) fn behind(&self) -> usize {
        self.objects.values().filter(|known| known.due.is_some()).count()
    }
}

impl Known {
    fn new(key: &Key, verdict: Verdict<'_>, which: Which<'_>, said: Option<Says>, sight: &Sight<'_>) -> Self {
        let (since, since_at) = (sight.version(), sight.now);
        let form = verdict.form();
        let reach = verdict.reach(Newest { key, which, generation: form.generation, since }, sight.fleet);
        let wanted = verdict.desired(&reach, said.as_ref());
        let (due, pace, in_flight) = (None, Pace::new(sight.now), false);
        let which = (which.0.clone(), which.1.clone());
        let mut known = Self { which, form, since, since_at, reach, said, wanted, due, pace, in_flight };
        known.decide(verdict);
        known
    }

    fn newest<'a>(&'a self, key: &'a Key) -> Newest<'a> {
        let which = (&self.which.0, &self.which.1);
        Newest { key, which, generation: self.form.generation, since: self.since }
    }

    /// There is another verdict.
    fn judged(&mut self, key: &Key, verdict: Verdict<'_>, sight: &Sight<'_>) {
        let form = verdict.form();
        if self.form != form {
            (self.form, self.since) = (form, sight.version());
            // Edits without end put off no write without end.
            if self.due.is_none() {
                self.since_at = sight.now;
            }
            self.pace.anew(sight.now);
        }
        self.reach = verdict.reach(self.newest(key), sight.fleet);
        self.decide(verdict);
    }

    /// The verdict is as it was.
    fn progressed(&mut self, key: &Key, verdict: Verdict<'_>, sight: &Sight<'_>) {
        let reach = verdict.reach(self.newest(key), sight.fleet);
        if reach == self.reach {
            return;
        }
        // Of thousands of objects that are everywhere nothing need be put into words when a data plane joins or leaves.
        let stays = self.due.is_none() && self.said.as_ref().is_some_and(|said| stays(&reach, said));
        self.reach = reach;
        if !stays {
            self.decide(verdict);
        }
    }

    fn decide(&mut self, verdict: Verdict<'_>) {
        self.wanted = verdict.desired(&self.reach, self.said.as_ref());
        self.due = self.class().map(|class| {
            let at = match class {
                Class::News | Class::Turns if self.settled() => self.pace.not_before(),
                Class::News | Class::Turns => self.pace.not_before().max(self.since_at + GRACE),
                Class::Counts => self.pace.not_before().max(self.pace.last_write() + COUNTS),
            };
            (class, at)
        });
    }

    /// Whether waiting could save a write.
    fn settled(&self) -> bool {
        matches!(self.reach, Reach::NotSent | Reach::Everywhere(_))
    }

    fn class(&self) -> Option<Class> {
        let Some(said) = &self.said else { return Some(Class::News) };
        if *said == self.wanted {
            return None;
        }
        let mut pairs = said.conditions.iter().zip(&self.wanted.conditions);
        let turned = pairs.any(|(old, new)| !old.same(new));
        let refused = matches!(self.reach, Reach::Refused { .. });
        Some(match turned {
            _ if said.generation != self.wanted.generation => Class::News,
            true if refused => Class::News,
            true => Class::Turns,
            // What is in force may not be known to anybody else.
            false if said.last_good != self.wanted.last_good => Class::Turns,
            false => Class::Counts,
        })
    }
}
