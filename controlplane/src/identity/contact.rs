//! Whether the API server is there, as far as looks at it tell, and what that excuses. Pure.
//!
//! A token ends after an hour, and it is the API server that makes the next one: while that is away a kubelet has none to put in its place.
//! So a token that was good when it could last be renewed goes on to count, for a day, until it can be renewed again. Whatever ended
//! before that counts for nothing, and nor does anything that ends while the API server is there.
//!
//! An API server that is never there for that long counts as away since it was last: a token that ends between two such answers counts, too.
//! When a token ends is told by the time of day as it was at the last answer: by a clock that was behind then, the day is that much longer.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// From when the API server is there again until tokens have been renewed: kubelets look at what is mounted every 60 to 90 s, and one that
/// has failed to renew a token rests for up to two minutes before it tries again.
pub const RENEWAL: Duration = Duration::from_secs(300);
/// For how long a token counts past its end.
pub const PAST_ITS_END: Duration = Duration::from_secs(24 * 3_600);

/// One moment by two clocks: tokens go by the one that may be set, and how much time has passed is told by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// It only goes on.
    pub at: Instant,
    /// The time of day.
    pub clock: Timestamp,
}

/// The API server as of the last look, where there was one that it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contact {
    /// It answers, and has for as long as it takes to renew all tokens.
    There {
        /// The last answer.
        heard: Moment,
    },
    /// It does not answer.
    Away {
        /// Until when tokens were renewed.
        renewed: Moment,
    },
    /// It answers again, and tokens are being renewed.
    Back {
        /// Until when they were before.
        renewed: Moment,
        /// The first answer.
        since: Moment,
        /// The last one.
        heard: Moment,
    },
}

impl Contact {
    /// After a look that was answered.
    pub(super) fn answered(self, now: Moment) -> Self {
        match self {
            Self::Away { renewed } => Self::Back { renewed, since: now, heard: now },
            Self::Back { renewed, since, .. } if now.at - since.at < RENEWAL => {
                Self::Back { renewed, since, heard: now }
            }
            Self::There { .. } | Self::Back { .. } => Self::There { heard: now },
        }
    }

    /// After a look that nobody answered.
    pub(super) fn missed(self, now: Moment) -> Self {
        match self {
            Self::There { heard } => Self::Away { renewed: heard },
            // Of what counted for nothing any more nothing counts again.
            Self::Back { since, heard, .. } if now.at - since.at >= RENEWAL => Self::Away { renewed: heard },
            Self::Back { renewed, .. } | Self::Away { renewed } => Self::Away { renewed },
        }
    }

    /// Until when a token that ends then counts past its end, by what is known; none where it does not.
    pub(super) fn excused_until(&self, ends: Timestamp) -> Option<Instant> {
        let (renewed, renewed_again) = match *self {
            Self::There { .. } => return None,
            Self::Away { renewed } => (renewed, None),
            Self::Back { renewed, since, .. } => (renewed, Some(since.at + RENEWAL)),
        };
        // One that had ended when it could have been renewed fails here.
        let left = Duration::try_from(ends.duration_since(renewed.clock)).ok().filter(|left| !left.is_zero())?;
        let latest = renewed.at.checked_add(left.checked_add(PAST_ITS_END)?)?;
        Some(renewed_again.map_or(latest, |again| again.min(latest)))
    }
}

#[cfg(test)]
mod tests;
