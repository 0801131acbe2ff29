//! What the lease as it was read asks of a candidate. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

/// A lease that says that it lasts longer is taken to last this long.
const LONGEST: Duration = Duration::from_secs(60);

/// What to do with the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Write it as held by this candidate, who has not held it.
    Take,
    /// Write it again: it is this candidate's.
    Renew,
    /// It is another's.
    Wait {
        /// Whose.
        holder: String,
    },
}

/// How long the lease has stayed as it is.
#[derive(Debug, Default)]
pub(super) struct Observer {
    seen: Option<(LeaseSpec, Instant)>,
}

impl Observer {
    /// `usual` is how long a lease lasts that does not say so.
    pub(super) fn judge(&mut self, lease: Option<&Lease>, me: &str, usual: Duration, now: Instant) -> Step {
        let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else { return Step::Take };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder == me {
            return Step::Renew;
        }
        if holder.is_empty() {
            return Step::Take;
        }
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => self.seen.insert((spec.clone(), now)).1,
        };
        if now.duration_since(since) >= lasts(spec, usual) {
            return Step::Take;
        }
        Step::Wait { holder: holder.to_owned() }
    }
}

fn lasts(spec: &LeaseSpec, usual: Duration) -> Duration {
    let said = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    said.map_or(usual, Duration::from_secs).min(LONGEST.max(usual))
}

pub(super) fn is_held_by(lease: &Lease, me: &str) -> bool {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(me)
}

/// The lease as this candidate holds it. Its resourceVersion is the one that was read.
pub(super) fn held(read: Option<Lease>, me: &str, duration: Duration, wall: Timestamp) -> Lease {
    let mut lease = read.unwrap_or_default();
    let ours = is_held_by(&lease, me);
    let spec = lease.spec.get_or_insert_default();
    if !ours {
        let before = spec.holder_identity.is_some();
        spec.holder_identity = Some(me.to_owned());
        spec.acquire_time = Some(MicroTime(wall));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(before)));
    }
    spec.lease_duration_seconds = Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1));
    spec.renew_time = Some(MicroTime(wall));
    lease
}

/// The lease as nobody's, so that the next look of any candidate takes it.
pub(super) fn free(mut lease: Lease, wall: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(wall));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_secs(15);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn of(holder: &str, seconds: i64) -> Lease {
        held(None, holder, USUAL, at(seconds))
    }

    fn wait(holder: &str) -> Step {
        Step::Wait { holder: holder.into() }
    }

    #[test]
    fn nobody_s_lease_is_taken_at_once_and_one_s_own_is_renewed() {
        let (mut observer, now) = (Observer::default(), Instant::now());
        for nobodys in [None, Some(Lease::default()), Some(free(of("b", 0), at(1)))] {
            assert_eq!(observer.judge(nobodys.as_ref(), "a", USUAL, now), Step::Take);
        }
        assert_eq!(observer.judge(Some(&of("a", 0)), "a", USUAL, now), Step::Renew);
    }

    #[test]
    fn c20_wall_clocks_that_are_an_hour_off_neither_give_nor_take_time() {
        for skew in [-3600, 0, 3600] {
            let (mut observer, start) = (Observer::default(), Instant::now());
            let lease = of("b", skew);
            let mut judge = |after: u64| observer.judge(Some(&lease), "a", USUAL, start + Duration::from_secs(after));
            assert_eq!([judge(0), judge(14), judge(15)], [wait("b"), wait("b"), Step::Take], "{skew}");
        }
    }

    #[test]
    fn c20_each_renewal_is_seen_as_one_even_if_the_holder_s_clock_goes_back() {
        let (mut observer, start) = (Observer::default(), Instant::now());
        for (after, wall) in [(0, 0), (14, -3600), (28, -3599), (42, 7200)] {
            let now = start + Duration::from_secs(after);
            assert_eq!(observer.judge(Some(&of("b", wall)), "a", USUAL, now), wait("b"), "{after}");
        }
        let late = start + Duration::from_secs(57);
        assert_eq!(observer.judge(Some(&of("b", 7200)), "a", USUAL, late), Step::Take);
    }

    #[test]
    fn a_lease_that_says_that_it_lasts_for_years_is_waited_for_a_minute() {
        let (mut observer, start) = (Observer::default(), Instant::now());
        let mut lease = of("b", 0);
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
        assert_eq!(observer.judge(Some(&lease), "a", USUAL, start), wait("b"));
        assert_eq!(observer.judge(Some(&lease), "a", USUAL, start + Duration::from_secs(60)), Step::Take);
    }

    #[test]
    fn what_is_taken_counts_a_transition_and_what_is_renewed_does_not() {
        let transitions = |lease: &Lease| lease.spec.as_ref().unwrap().lease_transitions;
        let first = of("a", 0);
        let renewed = held(Some(first.clone()), "a", USUAL, at(2));
        let taken = held(Some(renewed.clone()), "b", USUAL, at(20));
        assert_eq!([&first, &renewed, &taken].map(transitions), [Some(0), Some(0), Some(1)]);
        let spec = renewed.spec.unwrap();
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(MicroTime(at(0))), Some(MicroTime(at(2)))));
    }
}
