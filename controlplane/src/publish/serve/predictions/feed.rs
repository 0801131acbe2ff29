//! What one subscriber has been told of the fleet's predictions, and what it is told next: at first all there is, endpoint
//! by endpoint, then the log. Pure but for the book that it reads.

use std::time::{Duration, Instant};

use api::predictions::Mark;

use super::super::Owner;
use super::super::budget::Budget;
use super::{Book, News, Predictions};

/// Marks in one message: 64 KiB, as much as a message of config has.
const IN_ONE: usize = 4_096;
/// Bytes of a mark.
const ENTRY: usize = 16;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// Who joins has to be warm within seconds: what it is told at first may come so many times faster than what a stream may take
/// otherwise. A million marks are 16 MB.
const WARM_UP: u32 = 4;

/// One subscriber's place.
#[derive(Debug)]
pub(crate) struct Feed {
    listener: Listener,
    /// Endpoints that are still to be told as a whole.
    whole: Vec<u32>,
    /// Up to where the log is told; none before anything is.
    seen: Option<u64>,
    warming: Budget,
    due: Instant,
}

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Listener {
    /// A data plane: what others predict.
    Proxy(Owner),
    /// A replica: what our data planes predict.
    Peer,
}

impl Listener {
    fn wants(self, owner: Owner) -> bool {
        match self {
            Self::Proxy(own) => owner != own,
            Self::Peer => matches!(owner, Owner::Proxy(_)),
        }
    }
}

impl Feed {
    pub(crate) fn new(listener: Listener, bytes_per_second: u32, now: Instant) -> Self {
        let warming = Budget::new(bytes_per_second.saturating_mul(WARM_UP), now);
        Self { listener, whole: Vec::new(), seen: None, warming, due: now }
    }

    /// Before when nothing is told.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Whether there is something to be told when so much is logged.
    pub(crate) fn is_behind(&self, logged: u64) -> bool {
        !self.whole.is_empty() || self.seen.is_none_or(|seen| seen < logged)
    }

    /// Nothing is told before this time.
    pub(crate) fn postpone(&mut self, until: Instant) {
        self.due = self.due.max(until);
    }

    /// Whether what is told next is what was there when this one joined: it has a budget of its own.
    pub(crate) fn is_warming(&self) -> bool {
        self.seen.is_none() || !self.whole.is_empty()
    }

    /// What is to be told next; nothing where there is nothing for this one.
    pub(crate) fn next(&mut self, predictions: &Predictions, now: Instant) -> Vec<Mark> {
        let book = predictions.book();
        let seen = *self.seen.get_or_insert_with(|| {
            self.whole = book.endpoints.keys().copied().collect();
            book.logged
        });
        let told = self.whole(&book);
        if !told.is_empty() {
            self.warming.spend(told.len() * ENTRY, now);
            self.due = now + self.warming.wait(now);
            return told;
        }
        self.due = now + PAUSE;
        match book.since(seen, IN_ONE, |owner| self.listener.wants(owner)) {
            News::Marks { marks, up_to } => {
                self.seen = Some(up_to);
                marks
            }
            News::Behind => {
                self.seen = None;
                Vec::new()
            }
        }
    }

    /// Whole endpoints, as many as make a message.
    fn whole(&mut self, book: &Book) -> Vec<Mark> {
        let only_ours = self.listener == Listener::Peer;
        let mut told = Vec::new();
        while told.len() < IN_ONE
            && let Some(handle) = self.whole.pop()
        {
            told.extend(book.endpoints.get(&handle).into_iter().flat_map(|endpoint| endpoint.runs(handle, only_ours)));
        }
        told
    }
}
