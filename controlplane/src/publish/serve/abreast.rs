//! A data plane may have seen more than this replica knows yet, by another one. What it would get meanwhile is older than what it has,
//! so it waits, and serves on.

use std::time::Duration;

use api::seen::Seen;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::source::Reached;

/// What lasts until then.
pub(super) struct CatchingUp(Option<BoxFuture<'static, bool>>);

impl CatchingUp {
    /// It has ended where nothing was seen. Who is still behind after so long tells what it has: its source may be gone for long, and the
    /// world goes on.
    pub(super) fn new(
        patience: Duration,
        wanted: Seen,
        published: watch::Receiver<Option<Seen>>,
        reached: watch::Receiver<Reached>,
    ) -> Self {
        let nothing = wanted == Seen::default();
        let catching_up = async move { timeout(patience, abreast(wanted, published, reached)).await.is_ok() };
        Self((!nothing).then(|| catching_up.boxed()))
    }

    pub(super) fn lasts(&self) -> bool {
        self.0.is_some()
    }

    /// Its end; whether all that was seen is known.
    pub(super) async fn end(&mut self) -> bool {
        let Some(catching_up) = &mut self.0 else { return true };
        let abreast = catching_up.await;
        self.0 = None;
        abreast
    }
}

/// Returns once what is published has all that was `wanted`.
async fn abreast(wanted: Seen, mut published: watch::Receiver<Option<Seen>>, mut reached: watch::Receiver<Reached>) {
    loop {
        let reached_now = reached.borrow_and_update().clone();
        if published.borrow_and_update().as_ref().is_some_and(|published| reached_now.covers(published, &wanted)) {
            return;
        }
        tokio::select! {
            Ok(()) = published.changed() => {}
            Ok(()) = reached.changed() => {}
            // Nothing will be said any more.
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::super::Options;
    use super::*;
    use crate::source::testing::reached;

    fn pods(version: u64) -> Seen {
        [("Pod".to_owned(), version.to_string())].into_iter().collect()
    }

    /// Whether and when it is abreast of 50 whose list is read up to that after so many ms, where this is published after so many.
    async fn check(read: (u64, u64), publishes: (u64, u64), expected: (bool, u64)) {
        let (published, seen) = (watch::channel(None), watch::channel(reached(0, 0)));
        let begun = Instant::now();
        let after = |ms| sleep(Duration::from_millis(ms));
        let reading = async {
            after(read.1).await;
            seen.0.send_replace(reached(40, read.0.into()));
        };
        let publishing = async {
            after(publishes.1).await;
            published.0.send_replace(Some(pods(publishes.0)));
        };
        let mut catching_up = CatchingUp::new(Options::default().patience, pods(50), published.1, seen.1);
        let waiting = async { (catching_up.end().await, begun.elapsed().as_millis() as u64) };
        let ((), (), found) = tokio::join!(reading, publishing, waiting);
        assert_eq!(found, expected, "{read:?} {publishes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_lasts_until_what_was_seen_is_published_or_five_seconds() {
        check((40, 10), (50, 700), (true, 700)).await;
        check((60, 300), (40, 200), (true, 300)).await;
        check((60, 300), (40, 4_999), (true, 4_999)).await;
        check((60, 300), (40, 9_000), (false, 5_000)).await;
        check((49, 300), (40, 200), (false, 5_000)).await;
    }
}
