//! The part of a stream that asks for what is missing.

use std::time::Instant;

use super::{Act, CHECK_IDLE, CHECK_SOON, Clears, GRACE, Message, Phase, RETRY, Stream};

/// A question, and how far its answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replay {
    kind: Kind,
    begun: bool,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Something is missing, or may be.
    Gap,
    /// To be sure: nothing that is held is in doubt.
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From the engine's first message on.
    Whole,
    /// From the last one that was applied, which has this number and this digest if the engine is still the same.
    Since { last: u64, digest: u64 },
}

impl Replay {
    pub(super) fn whole() -> Self {
        Self { kind: Kind::Whole, begun: false, why: Why::Gap }
    }

    pub(super) fn fills_a_gap(self) -> bool {
        self.why == Why::Gap
    }

    fn from(self) -> u64 {
        match self.kind {
            Kind::Whole => 0,
            Kind::Since { last, .. } => last,
        }
    }
}

impl<B> Stream<B> {
    /// Asks for what is missing, and for proof that the engine is the one that was followed.
    pub(super) fn verify(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        let replay = self.since();
        self.ask(now, replay, acts);
    }

    /// Asks whether there is anything that was not heard.
    pub(super) fn check(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        self.checked = true;
        self.check_at = None;
        let replay = Replay { why: Why::Check, ..self.since() };
        self.ask(now, replay, acts);
    }

    fn since(&self) -> Replay {
        let kind = |digest| Kind::Since { last: self.next.saturating_sub(1), digest };
        Replay { kind: self.last.map_or(Kind::Whole, kind), ..Replay::whole() }
    }

    pub(super) fn ask(&mut self, now: Instant, replay: Replay, acts: &mut Vec<Act<B>>) {
        self.counts.replays += 1;
        self.replays += 1;
        self.retry_at = None;
        self.phase = Phase::Replaying { replay, until: now + GRACE };
        acts.push(Act::Ask(replay.from()));
    }

    /// An answer to the newest question.
    pub fn replayed(&mut self, now: Instant, message: Message<B>, acts: &mut Vec<Act<B>>) {
        let Phase::Replaying { replay, until } = self.phase else { return };
        let begun = Replay { begun: true, ..replay };
        match replay.kind {
            // What is old was forgotten when it began: it may take its time as long as it goes on.
            Kind::Whole => self.phase = Phase::Replaying { replay: begun, until: now + GRACE },
            Kind::Since { .. } => self.phase = Phase::Replaying { replay: begun, until },
        }
        match replay {
            Replay { begun: true, .. } => self.follow(message, acts),
            Replay { kind: Kind::Whole, .. } => self.begin(message, acts),
            Replay { kind: Kind::Since { last, digest }, .. } if message.sequence == last => {
                if message.digest == digest {
                    self.counts.repeated += 1;
                } else {
                    self.other_life(now, acts);
                }
            }
            Replay { kind: Kind::Since { .. }, .. } => self.overrun(message, acts),
        }
    }

    /// The first message of all that the engine still has.
    fn begin(&mut self, message: Message<B>, acts: &mut Vec<Act<B>>) {
        if message.sequence > 0 {
            return self.overrun(message, acts);
        }
        self.forget(acts);
        self.complete = true;
        self.apply(message, acts);
    }

    fn overrun(&mut self, message: Message<B>, acts: &mut Vec<Act<B>>) {
        self.counts.overruns += 1;
        self.overrun = true;
        self.forget(acts);
        self.apply(message, acts);
    }

    fn follow(&mut self, message: Message<B>, acts: &mut Vec<Act<B>>) {
        if message.sequence < self.next {
            self.counts.repeated += 1;
            return;
        }
        if message.sequence > self.next {
            self.forget(acts);
        }
        self.apply(message, acts);
    }

    /// Another engine answers than the one that was followed. What it said live stays parked.
    fn other_life(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        self.counts.restarts += 1;
        self.forget(acts);
        self.next = 0;
        self.overrun = false;
        self.ask(now, Replay::whole(), acts);
    }

    /// The newest question is answered.
    pub fn replay_ended(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        let Phase::Replaying { replay, .. } = self.phase else { return };
        match replay {
            // It no longer has, or never had, what it once said.
            Replay { kind: Kind::Since { .. }, begun: false, .. } => return self.other_life(now, acts),
            // It has never said anything.
            Replay { kind: Kind::Whole, begun: false, .. } => {
                self.forget(acts);
                self.next = 0;
                self.complete = true;
            }
            _ => {}
        }
        if self.complete {
            self.retry = RETRY.0;
        }
        self.unpark(now, acts);
    }

    /// The newest question cannot be asked, or its answer broke off.
    pub fn replay_failed(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        let Phase::Replaying { replay, .. } = self.phase else { return };
        self.counts.failed_replays += 1;
        let in_doubt = replay.begun || replay.kind != Kind::Whole;
        if replay.fills_a_gap() && (in_doubt || self.last.is_none()) {
            self.forget(acts);
            self.next = 0;
        }
        if replay.fills_a_gap() {
            self.retry_later(now);
        }
        self.unpark(now, acts);
    }

    pub(super) fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now + self.retry);
        self.retry = (self.retry * 2).min(RETRY.1);
    }

    /// Applies what came meanwhile, up to the next gap.
    fn unpark(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        self.phase = Phase::Live;
        while self.phase == Phase::Live {
            let Some(message) = self.parked.pop() else {
                self.replays = 0;
                if !self.complete && !self.overrun && self.retry_at.is_none() {
                    self.retry_later(now);
                }
                self.check_at = Some(now + if self.checked { CHECK_IDLE } else { CHECK_SOON });
                return;
            };
            self.hear(now, message, acts);
        }
    }
}

impl Clears {
    /// From whether it does.
    pub fn new(clears: bool) -> Self {
        if clears { Self::Yes } else { Self::No }
    }
}
