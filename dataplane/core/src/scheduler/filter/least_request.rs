//! Kthena's filter: engines whose own queue is long are left alone.

use crate::load::Live;

pub(super) const NAME: &str = "least-request";

/// An engine that reports nothing is taken to have no queue.
pub(super) fn keeps(live: &Live, max_waiting: u32, now_ms: u64) -> bool {
    live.report(now_ms).map_or(0, |report| report.waiting) < max_waiting
}
