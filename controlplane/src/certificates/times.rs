//! How long certificates that we make are valid, and how long others get to follow a change of them.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Certificates begin so long before they are made: the clocks of others may be slow.
const BACKDATED: Duration = Duration::from_secs(300);

/// All of it. There is no flag for it: who has rules about lifetimes has somebody who keeps them, such as cert-manager
/// ([`super::Issuer::Other`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// For so long a CA is valid.
    pub ca_life: Duration,
    /// For so long a leaf is.
    pub leaf_life: Duration,
    /// What follows a change gets this long before the next one relies on it.
    pub settle: Duration,
}

impl Times {
    /// Ten years, 90 days, and ten minutes: replicas look at the Secret every half minute, and a kubelet brings a ConfigMap to its pods
    /// within two.
    pub const DEFAULT: Self = Self {
        ca_life: DAY.saturating_mul(3_650),
        leaf_life: DAY.saturating_mul(90),
        settle: Duration::from_secs(600),
    };

    /// Between two looks at the Secret: whoever missed some of them still sees a change in time.
    pub(super) fn look(self) -> Duration {
        self.settle / 20
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long before it is made something begins that is valid for so long.
pub(super) fn backdated(life: Duration) -> Duration {
    BACKDATED.min(life / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_look_every_half_minute_unless_they_have_less_time() {
        assert_eq!(Times::DEFAULT.look(), Duration::from_secs(30));
        assert_eq!(Times { settle: Duration::from_secs(10), ..Times::DEFAULT }.look(), Duration::from_millis(500));
    }

    #[test]
    fn what_is_short_lived_is_not_old_when_it_is_made() {
        assert_eq!(backdated(Times::DEFAULT.leaf_life), Duration::from_secs(300));
        assert_eq!(backdated(Duration::from_secs(60)), Duration::from_secs(6));
    }
}
