//! Waiting for what others do, with a deadline instead of sleeps.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The machine may be busy: a test that passes never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Asks until the answer is yes.
///
/// # Panics
/// Where it is still no at the deadline.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "no {what} after {DEADLINE:?}");
        sleep(POLL).await;
    }
}

/// What comes of it.
///
/// # Panics
/// Where nothing has come of it at the deadline.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("no {what} after {DEADLINE:?}"))
}
