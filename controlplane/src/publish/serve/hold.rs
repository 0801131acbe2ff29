//! How long what proves who somebody is holds, told while they are there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::identify::{Holds, Identify, Identity};
use super::random;
use crate::identity::Asked;

/// Once tokens can be renewed again those who came by older ones go within this time, and not all at once.
const SPREAD: Duration = Duration::from_secs(30);

/// To whoever has to come again.
pub(super) const EXPIRED: &str = "the token has expired: come again with a newer one";

/// The hold of one stream.
#[derive(Debug)]
pub(super) enum Hold {
    /// It needs no proof.
    Free,
    /// Until then whatever happens.
    Until(Instant, Past),
    /// For as long as it is excused.
    Past(Past),
}

/// What the time past a proof's end goes by.
#[derive(Debug)]
pub(super) struct Past {
    ends: Timestamp,
    asked: watch::Receiver<Asked>,
    /// So much earlier than it must be over.
    early: Duration,
}

impl Hold {
    /// From now on, with `grace` after the proof's end to come with the next one. `excused` counts who goes on past it.
    pub(super) fn of(identity: &Identity, identify: &dyn Identify, grace: Duration, excused: &AtomicU64) -> Self {
        let (Some(proof), Some(asked)) = (&identity.proof, identify.asked()) else { return Self::Free };
        let early = SPREAD.mul_f64(random() as f64 / u64::MAX as f64);
        let past = Past { ends: proof.ends, asked, early };
        match proof.holds {
            Holds::For(time) => Self::Until(Instant::now() + time + grace, past),
            Holds::PastItsEnd => {
                excused.fetch_add(1, Relaxed);
                Self::Past(past)
            }
        }
    }

    /// Returns once it is over. What has been waited for stays so where this is dropped.
    pub(super) async fn over(&mut self, excused: &AtomicU64) {
        if let Self::Until(then, past) = self {
            sleep_until(*then).await;
            if past.until().is_none() {
                return;
            }
            excused.fetch_add(1, Relaxed);
            let Self::Until(_, past) = std::mem::replace(self, Self::Free) else { unreachable!("it was just seen") };
            *self = Self::Past(past);
        }
        match self {
            Self::Past(past) => past.over().await,
            Self::Until(..) | Self::Free => std::future::pending().await,
        }
    }
}

impl Past {
    /// Until when it is excused, by what is known now, if it still is.
    fn until(&mut self) -> Option<Instant> {
        let until = self.asked.borrow_and_update().excused_until(self.ends)?;
        let until = until.checked_sub(self.early).unwrap_or(until);
        (Instant::now() < until).then_some(until)
    }

    async fn over(&mut self) {
        while let Some(until) = self.until() {
            tokio::select! {
                () = sleep_until(until) => {}
                Ok(()) = self.asked.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
