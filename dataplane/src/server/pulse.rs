//! How long a core keeps others waiting: a timer that is due ten times a second, and how late it was each time.
//!
//! A timer sees whatever stalls a core: one long poll, a thousand short ones, a system call, or a thread that gets no CPU time. The clock around each
//! poll would see the first of these only, at every poll's cost. The sweep's timer, once a second, sees three in ten
//! stalls of 300 ms. To wake an idle core costs some 60 µs of it, on two virtual cores that others keep busy: ten times a second were
//! 0.06 % of a core there, twenty 0.11 to 0.15 %.

use std::time::{Duration, Instant};

use crate::metrics::Histogram;
use crate::rt::{self, StopToken};

/// A stall is told this much too short at most, and one that is shorter may be missed.
const PERIOD: Duration = Duration::from_millis(100);

/// More of a stall than anybody waits for tells nothing new.
const LONGEST: Duration = Duration::from_secs(60);

/// Observes until `stop`.
pub(crate) async fn run(lag: &Histogram, stop: StopToken) {
    while !stop.is_stopped() {
        let before = Instant::now();
        rt::sleep(PERIOD).await;
        observe(lag, before.elapsed().saturating_sub(PERIOD));
    }
}

/// Each time that it was due while it was late counts as well, by how late it was for that: or a second's stall were one
/// observation, and the second without one ten.
fn observe(lag: &Histogram, late: Duration) {
    let mut late = late.min(LONGEST);
    lag.observe(late);
    while late > PERIOD {
        late -= PERIOD;
        lag.observe(late);
    }
}

#[cfg(test)]
mod tests;
