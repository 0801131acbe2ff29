//! A management API that is silent is left alone for a while, for each wait for it holds up the engines that are asked next.

use std::time::Instant;

use super::pause;
use crate::engine::question::AskError;

/// Of one TorchServe.
#[derive(Debug, Default)]
pub(super) struct Spare {
    /// Silences in a row.
    silences: u32,
    until: Option<Instant>,
}

impl Spare {
    /// Whether only its metrics are to be asked for.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It has answered, with this missing.
    pub(super) fn hear(&mut self, fault: Option<&AskError>, now: Instant) {
        match fault {
            Some(AskError::Spared) => {}
            Some(AskError::Late) => {
                self.silences = self.silences.saturating_add(1);
                self.until = Some(now + pause(self.silences));
            }
            _ => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longer_it_is_silent_the_longer_it_is_left_alone_until_it_answers() {
        let (mut spare, mut now) = (Spare::default(), Instant::now());
        let mut left_alone = Vec::new();
        for _ in 0..5 {
            spare.hear(Some(&AskError::Late), now);
            let mut seconds = 0;
            while spare.is_on(now) {
                spare.hear(Some(&AskError::Spared), now);
                (seconds, now) = (seconds + 1, now + Duration::from_secs(1));
            }
            left_alone.push(seconds);
        }
        assert_eq!(left_alone, [1, 3, 7, 8, 8]);
        spare.hear(None, now);
        spare.hear(Some(&AskError::Late), now);
        assert!(!spare.is_on(now + Duration::from_secs(1)), "it begins anew");
    }
}
