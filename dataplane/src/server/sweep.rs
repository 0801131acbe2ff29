//! Once a second: what is due is ended, what idles is closed, caches are refreshed.

use std::rc::Rc;
use std::time::Duration;

use super::dozing;
use crate::rt::{self, StopToken};
use crate::sys;
use crate::worker::Worker;

const PERIOD: Duration = Duration::from_secs(1);

/// Until what the sweep has asked for is given back.
const GIVEN_BACK: Duration = Duration::from_millis(50);
/// Connections gone to sleep from which on the allocator is asked to give back what they held.
const MANY: usize = 256;

/// Sweeps until `stop`.
pub(crate) async fn run(worker: Rc<Worker>, stop: StopToken) {
    while !stop.is_stopped() {
        rt::sleep(PERIOD).await;
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
        collect(&worker).await;
    }
}

/// The allocator gives memory back when it is used; a core whose connections have gone to sleep does not use it.
async fn collect(worker: &Worker) {
    if worker.watches.take_given_back() > 0 {
        rt::sleep(GIVEN_BACK).await;
    }
    // Where all sleep there is nobody whom that would keep.
    let many = if worker.watches.len() == 0 { 1 } else { MANY };
    if worker.dozing.take_new(many) {
        sys::collect_memory();
    }
}
