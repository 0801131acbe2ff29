//! What the API server was asked so far. Pure.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::contact::{Contact, Moment};
use super::known::Known;

/// What came of one look at the API server.
#[derive(Debug)]
pub enum Look {
    /// It told what tokens are verified by.
    Told(Known),
    /// It is there, and what it says is of no use: it refuses, or says something else.
    Useless,
    /// Nobody is there.
    Nobody,
    /// Nobody answered a look that was made only because somebody showed a key that is not known. Strangers can have one made every few
    /// seconds, and one of many that is late must not make the API server look away; whether it is, the next look of ours says.
    Unsure,
}

/// All looks together.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    answer: Option<Answer>,
    times: u64,
}

/// What is there once the API server has told something.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) known: Arc<Known>,
    pub(super) contact: Contact,
}

impl Asked {
    /// Takes in one look more.
    pub fn learn(&mut self, look: Look, now: Moment) {
        self.times += 1;
        let Some(Answer { known, contact }) = &mut self.answer else {
            if let Look::Told(first) = look {
                self.answer = Some(Answer { known: Arc::new(first), contact: Contact::There { heard: now } });
            }
            return;
        };
        *contact = match look {
            Look::Told(_) | Look::Useless => contact.answered(now),
            Look::Nobody => contact.missed(now),
            Look::Unsure => *contact,
        };
        if let Look::Told(news) = look
            && news != **known
        {
            *known = Arc::new(news);
        }
    }

    /// How many times it was asked, with or without success.
    pub(super) fn times(&self) -> u64 {
        self.times
    }

    pub(super) fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// Until when a token that ends then counts past its end; none where it does not.
    pub(crate) fn excused_until(&self, ends: Timestamp) -> Option<Instant> {
        self.answer.as_ref()?.contact.excused_until(ends)
    }
}

/// Where the time of day comes from; tests hold it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Asks for it whenever it is needed.
    pub fn new(time_of_day: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(time_of_day))
    }

    /// This moment.
    pub fn now(&self) -> Moment {
        Moment { at: Instant::now(), clock: (self.0)() }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
