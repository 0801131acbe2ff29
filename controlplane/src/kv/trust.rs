//! Whether a stream of numbered messages has told all: what to apply, what to ask for again, when to forget. Pure.
//!
//! Three things are not taken on trust. A number that is missing may have been a removal, so it is asked for again, and
//! where that does not help everything is forgotten. A connection that was lost may lead to another engine's life, so the
//! last message that was applied is asked for, too, and compared. And a number that goes back is a new life.

mod parked;
mod replay;

use std::time::{Duration, Instant};

use parked::Parked;

/// The longest that a removal may go unnoticed while a connection is away or a replay lasts.
pub const GRACE: Duration = Duration::from_secs(3);
/// Between attempts to get a replay that failed, doubled each time up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Replays in a row that may each lead to another gap.
const MOST_REPLAYS: u32 = 3;
/// After connecting: what was published before the engine knew of the subscription shows then.
const CHECK_SOON: Duration = Duration::from_secs(1);
/// While nothing comes: that may be because the newest message was lost, and with it a removal. Nothing that is gone is to be believed
/// for 5 s, of which this leaves one for the answer: one that takes longer, which it may up to [`GRACE`], comes later than that. The price is a connection to each idle engine so often.
const CHECK_IDLE: Duration = Duration::from_secs(4);

/// How much what is held of a stream can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing is known.
    Cold,
    /// What is missing has been asked for.
    Replaying,
    /// The engine holds just what it is held to hold, or did so until it was lost sight of, [`GRACE`] ago at most.
    Trusted,
    /// The engine holds what it is held to hold, and more.
    Gapped,
}

/// A numbered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<B> {
    /// Its number.
    pub sequence: u64,
    /// Of all its bytes; equal only if it is the same message of the same life.
    pub digest: u64,
    /// Bytes that it takes while it is parked.
    pub size: usize,
    /// What it says, and whether the cache was empty within it; none if it cannot be read.
    pub body: Option<(B, Clears)>,
}

/// Whether a message tells that the cache was emptied: from there on all is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clears {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act<B> {
    /// What a message says holds.
    Apply(B),
    /// Nothing of what was applied may be believed any longer.
    Forget,
    /// Ask for all messages from this number on. An earlier question is void.
    Ask(u64),
}

/// What happened to a stream, since it was first followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were applied.
    pub applied: u64,
    /// Messages that were known already.
    pub repeated: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// Times that numbers were missing.
    pub gaps: u64,
    /// Times that the engine had begun anew.
    pub restarts: u64,
    /// Replays that were asked for.
    pub replays: u64,
    /// Replays that did not come to their end.
    pub failed_replays: u64,
    /// Replays that no longer had what was asked for.
    pub overruns: u64,
    /// Times that everything was forgotten.
    pub forgotten: u64,
    /// Messages that came during a replay and found no room.
    pub unparked: u64,
}

/// One engine rank's stream.
#[derive(Debug)]
pub struct Stream<B> {
    replayable: Replayable,
    phase: Phase,
    /// All that the engine ever did since it was empty has been applied.
    complete: bool,
    /// The number of the message that is to come next, and the digest of the one before it.
    next: u64,
    last: Option<u64>,
    /// The newest number that came live on this connection.
    newest_live: Option<u64>,
    parked: Parked<B>,
    /// Replays since the stream was last in order.
    replays: u32,
    retry: Duration,
    retry_at: Option<Instant>,
    /// When to ask whether there is anything new, if nothing comes.
    check_at: Option<Instant>,
    checked: bool,
    /// The engine has no longer all that it said in this life: it is of no use to ask for it again.
    overrun: bool,
    counts: Counts,
}

/// Whether the engine answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayable {
    /// It has a socket for that.
    Yes,
    /// What is lost is lost.
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No connection; what is held is forgotten at this time, if anything is.
    Away { forget_at: Option<Instant> },
    /// Messages are applied as they come.
    Live,
    /// They are parked until a replay has ended.
    Replaying { replay: replay::Replay, until: Instant },
}

impl<B> Stream<B> {
    /// Nothing known, no connection.
    pub fn new(replayable: Replayable) -> Self {
        Self {
            replayable,
            phase: Phase::Away { forget_at: None },
            complete: false,
            next: 0,
            last: None,
            newest_live: None,
            parked: Parked::default(),
            replays: 0,
            retry: RETRY.0,
            retry_at: None,
            check_at: None,
            checked: false,
            overrun: false,
            counts: Counts::default(),
        }
    }

    /// How much it can be relied on.
    pub fn trust(&self) -> Trust {
        match self.phase {
            Phase::Replaying { replay, .. } if replay.fills_a_gap() => Trust::Replaying,
            _ if self.complete => Trust::Trusted,
            _ if self.last.is_none() => Trust::Cold,
            _ => Trust::Gapped,
        }
    }

    /// What has happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Away { forget_at } => forget_at,
            Phase::Live => self.retry_at.or(self.check_at),
            Phase::Replaying { until, .. } => Some(until),
        }
    }

    /// A connection stands. Whether it leads to the life that was followed has to be seen.
    pub fn connected(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        self.newest_live = None;
        self.replays = 0;
        self.checked = false;
        match self.replayable {
            Replayable::Yes => self.verify(now, acts),
            Replayable::No => {
                self.forget(acts);
                self.next = 0;
                self.phase = Phase::Live;
            }
        }
    }

    /// The connection is gone: what the engine does now is not heard.
    pub fn disconnected(&mut self, now: Instant) {
        let before = match self.phase {
            Phase::Away { forget_at } => forget_at,
            Phase::Live => None,
            // What was in doubt before has been so for a while.
            Phase::Replaying { until, .. } => Some(until),
        };
        self.parked.clear();
        self.phase = Phase::Away { forget_at: Some(before.unwrap_or(now + GRACE)) };
    }

    /// A message came.
    pub fn live(&mut self, now: Instant, message: Message<B>, acts: &mut Vec<Act<B>>) {
        let went_back = self.newest_live.is_some_and(|newest| message.sequence <= newest);
        self.newest_live = Some(message.sequence);
        if went_back {
            self.begin_anew(acts);
        }
        match self.phase {
            Phase::Replaying { .. } if went_back => {
                self.park(message);
                self.ask(now, replay::Replay::whole(), acts);
            }
            Phase::Replaying { .. } => self.park(message),
            Phase::Away { .. } | Phase::Live => {
                if self.checked {
                    self.check_at = self.check_at.map(|_| now + CHECK_IDLE);
                }
                self.hear(now, message, acts);
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, acts: &mut Vec<Act<B>>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.phase {
            Phase::Away { .. } => {
                self.forget(acts);
                self.phase = Phase::Away { forget_at: None };
            }
            Phase::Replaying { .. } => self.replay_failed(now, acts),
            Phase::Live if self.retry_at.is_some() => self.ask(now, replay::Replay::whole(), acts),
            Phase::Live => self.check(now, acts),
        }
    }

    /// A message in order, or a gap before it.
    fn hear(&mut self, now: Instant, message: Message<B>, acts: &mut Vec<Act<B>>) {
        if message.sequence < self.next {
            // It was in the replay already.
            self.counts.repeated += 1;
            return;
        }
        if message.sequence == self.next {
            self.complete |= self.next == 0 && self.last.is_none();
        } else {
            // Who has just joined has missed the beginning, but there is nothing to be wrong about.
            self.counts.gaps += u64::from(self.last.is_some());
            if self.replayable == Replayable::Yes && self.retry_at.is_none() {
                if self.replays < MOST_REPLAYS {
                    self.parked.push_front(message);
                    return self.verify(now, acts);
                }
                self.retry_later(now);
            }
            self.forget(acts);
        }
        self.apply(message, acts);
    }

    /// Takes it as the next one, whatever was before.
    fn apply(&mut self, message: Message<B>, acts: &mut Vec<Act<B>>) {
        let Message { sequence, digest, body, .. } = message;
        match body {
            Some((body, clears)) => {
                self.counts.applied += 1;
                self.complete |= clears == Clears::Yes;
                acts.push(Act::Apply(body));
            }
            None => {
                self.counts.unreadable += 1;
                self.forget(acts);
            }
        }
        self.next = sequence.saturating_add(1);
        self.last = Some(digest);
    }

    fn park(&mut self, message: Message<B>) {
        if let Err(lost) = self.parked.push(message) {
            self.counts.unparked += lost;
        }
    }

    fn forget(&mut self, acts: &mut Vec<Act<B>>) {
        if self.last.is_some() {
            self.counts.forgotten += 1;
            acts.push(Act::Forget);
        }
        self.complete = false;
        self.last = None;
    }

    /// The engine has lost all, and counts from 0 again.
    fn begin_anew(&mut self, acts: &mut Vec<Act<B>>) {
        self.counts.restarts += 1;
        self.forget(acts);
        self.parked.clear();
        self.next = 0;
        self.replays = 0;
        self.retry_at = None;
        self.overrun = false;
    }
}

#[cfg(test)]
mod tests;
