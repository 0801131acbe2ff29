//! Once a second: what is due is ended, what idles is closed, caches are refreshed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::dozing;
use crate::rt::{self, StopToken};
use crate::worker::Worker;

const PERIOD: Duration = Duration::from_secs(1);

/// Sweeps until `stop`.
pub(crate) async fn run(worker: Rc<Worker>, stop: StopToken) {
    while !stop.is_stopped() {
        let before = Instant::now();
        rt::sleep(PERIOD).await;
        worker.metrics.lag(before.elapsed().saturating_sub(PERIOD));
        let mut at = Some(0);
        while let Some(from) = at {
            at = worker.watches.sweep(from, worker.now_ms(), |limit| worker.metrics.hit(limit));
            if at.is_some() {
                rt::yield_now().await;
            }
        }
        worker.metrics.plain.heartbeat_ms.beat(worker.now_ms());
        worker.sweep();
        dozing::close_due(&worker).await;
    }
}
