//! Tasks and time of one core.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;

static PANICS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// A wait took longer than it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// How many tasks have panicked in this process.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs `future` on this core, detached. A panic ends it, is counted and logged, and goes no further.
#[allow(clippy::disallowed_methods, reason = "the one place that contains panics")]
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    LIVE.set(LIVE.get() + 1);
    let live = Live;
    // Combined without an async block, which would hold the future twice: once as given, once as awaited.
    monoio::spawn(AssertUnwindSafe(future).catch_unwind().map(move |ended| {
        if let Err(panic) = ended {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(panic = message(&*panic), "a task panicked");
        }
        drop(live);
    }));
}

/// Runs what a core cannot do without. A panic in it ends the process: a core whose listener or sweep is gone would hang
/// its clients in silence.
#[allow(clippy::disallowed_methods, reason = "the one place beside `spawn`")]
pub fn spawn_vital(future: impl Future<Output = ()> + 'static) {
    LIVE.set(LIVE.get() + 1);
    monoio::spawn(async move {
        let live = Live;
        if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
            tracing::error!(panic = message(&*panic), "a task that the core needs panicked");
            std::process::abort();
        }
        drop(live);
    });
}

struct Live;

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a string")
}

/// Waits until every spawned task of this core has ended, at most `limit`; returns how many have not.
pub async fn drained(limit: Duration) -> usize {
    let end = Instant::now() + limit;
    while LIVE.get() > 0 && Instant::now() < end {
        yield_now().await;
    }
    LIVE.get()
}

/// Waits. The clock of a core ticks once a millisecond.
pub async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// Gives `future` at most `limit`, then drops it: only for futures that own whatever a drop loses.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    monoio::time::timeout(limit, future).await.map_err(|_| Elapsed)
}

/// Lets everything else of this core run: tasks, timers and the kernel's news. It takes one tick of the clock, for a
/// task of monoio 0.2.4 that wakes itself goes to the front of the queue and starves the rest.
pub async fn yield_now() {
    sleep(Duration::from_millis(1)).await;
}
