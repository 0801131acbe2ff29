//! A place, and what is known of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::snapshot::Engine;
use tokio::sync::mpsc;

use super::lanes::{Heard, SOON, now};
use super::spare::Spare;
use super::{BETWEEN_FACTS, SCRAPE_KEPT, pause};
use crate::engine::merge::merge;
use crate::engine::push::{Listening, Push};
use crate::engine::pushed::{Pushed, Pushes};
use crate::engine::question::{Answer, AskError};
use crate::engine::reading::{Before, Reading, Said};
use crate::engine::targets::{Ask, Place, Target, Topic};
use crate::publish::serve::Loads;
use crate::world::Facts;

/// A place, and what it said.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) target: Target,
    load: Option<(Reading, Said, Instant)>,
    pub(super) facts: Option<(Arc<Facts>, Instant)>,
    /// Failures in a row.
    failures: u32,
    /// Why the last answer is missing, or lacks something.
    pub(super) fault: Option<Arc<str>>,
    spare: Spare,
    /// The question that it is being asked.
    asked: Option<u64>,
    /// Whether it did not answer soon, or not at all, the last time.
    is_slow: bool,
    pushes: Pushes,
    /// None where it never pushes.
    listening: Option<Listening>,
}

impl Watch {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            load: None,
            facts: None,
            failures: 0,
            fault: None,
            spare: Spare::default(),
            asked: None,
            is_slow: false,
            pushes: Pushes::default(),
            listening: None,
        }
    }

    /// It is listened to where it is said that it may push.
    pub(super) fn listen(&mut self, place: &Place, out: &mpsc::Sender<Push>) {
        if self.target.pushes == self.listening.as_ref().map(|listening| listening.api) {
            return;
        }
        let start = |api| Listening::start(place.clone(), api, out.clone());
        (self.pushes, self.listening) = (Pushes::default(), self.target.pushes.map(start));
    }

    /// Whether the same engine answers there as before, as far as that can be told: another pod may have its address.
    pub(super) fn is_of(&self, target: &Target) -> bool {
        let pods =
            |target: &Target| target.members.iter().map(|member| member.key.uid.clone()).collect::<BTreeSet<_>>();
        pods(&self.target) == pods(target)
    }

    /// What others are told of it: another answer is another pointer, or another sentence.
    pub(super) fn shown(&self) -> (Option<*const Facts>, Option<Arc<str>>) {
        (self.facts.as_ref().map(|(facts, _)| Arc::as_ptr(facts)), self.fault.clone())
    }

    /// What it is asked now.
    pub(super) fn question(&self, now: Instant) -> Ask {
        Ask { spare: self.spare.is_on(now), ..self.target.ask.clone() }
    }

    /// It is being asked this.
    pub(super) fn asked(&mut self, number: u64) {
        self.asked = Some(number);
    }

    /// Takes in what came of that; when it is to be asked again, and in which lane. None where it is no longer of interest.
    pub(super) fn land(&mut self, heard: Heard, loads: &Loads, period: Duration) -> Option<(bool, Instant)> {
        let Heard { place, number, began, said } = heard;
        let (now, took) = (now(), now().saturating_duration_since(began));
        self.asked.take_if(|asked| *asked == number)?;
        self.is_slow = !matches!(said, Some(Ok(_))) || took > SOON;
        let again = match said {
            Some(Ok(answer)) => {
                self.hear(answer, &place, loads, now);
                let seldom = place.topic == Topic::Models && place.engine != Engine::Torchserve;
                began + period + if seldom { BETWEEN_FACTS } else { Duration::ZERO }
            }
            Some(Err(error)) => {
                self.fail(&error, &place);
                (began + period).max(now + pause(self.failures - 1))
            }
            None => began,
        };
        Some((self.is_slow, again))
    }

    pub(super) fn hear(&mut self, Answer { load, facts, fault }: Answer, place: &Place, loads: &Loads, now: Instant) {
        self.failures = 0;
        self.spare.hear(fault.as_ref(), now);
        match fault {
            Some(fault) => self.complain(&fault, place),
            None if self.fault.take().is_some() => {
                tracing::info!(address = %place.address, topic = ?place.topic, "an engine can be asked again");
            }
            None => {}
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

    pub(super) fn push(&mut self, pushed: Pushed, loads: &Loads, now: Instant) {
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
    pub(super) fn fail(&mut self, error: &AskError, place: &Place) {
        self.complain(error, place);
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
