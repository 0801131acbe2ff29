//! The first moment after a start: data planes that come back are not to be told of engines that nobody has asked yet, for then
//! one that is not ready would get requests again, and adapters would be loaded nowhere or everywhere. So nobody is let in before a
//! build knows what engines said, or before that has taken too long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::Round;
use crate::world::Engines;

/// Data planes serve on meanwhile, but those that start wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns then. `asked` comes once the engines of the first build have been asked, `said` is what they say.
pub(super) async fn acquainted(
    asked: oneshot::Receiver<()>,
    said: watch::Receiver<Engines>,
    mut rounds: watch::Receiver<Option<Arc<Round>>>,
) {
    // An error is the end of a sender, after which there is nothing to wait for.
    let known = async {
        let _ = asked.await;
        let _ = rounds.wait_for(|round| round.as_ref().is_some_and(|round| knows(round, &said.borrow()))).await;
    };
    let _ = timeout(PATIENCE, known).await;
}

/// Whether all that was said went into it. Peers may have said more.
fn knows(round: &Round, said: &Engines) -> bool {
    said.iter().all(|(key, facts)| round.world.engines.of(key) == Some(facts))
}

#[cfg(test)]
mod tests {
    use api::id::EndpointKey;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::publish::Verdicts;
    use crate::world::{Facts, World};

    fn engines(of: &[&str]) -> Engines {
        let key = |uid: &&str| EndpointKey { uid: (*uid).into(), port: 1, rank: 0 };
        of.iter().map(|uid| (key(uid), Arc::new(Facts::default()))).collect()
    }

    fn round(engines: Engines) -> Option<Arc<Round>> {
        let world = World { engines, ..World::default() };
        Some(Arc::new(Round { world, verdicts: Verdicts::default(), snapshot: Arc::default() }))
    }

    /// After how many ms it returns, where a build that knows nothing comes after 10 and again after 30, engines have been asked and
    /// said this after so many, and a build with that comes after so many more.
    async fn check(answers: (&[&str], u64), build: u64, expected: u64) {
        let (asked, said, rounds) = (oneshot::channel(), watch::channel(Engines::default()), watch::channel(None));
        let after = |ms| sleep(Duration::from_millis(ms));
        let begun = Instant::now();
        let ignorant = async {
            for ms in [10, 20] {
                after(ms).await;
                rounds.0.send_replace(round(Engines::default()));
            }
            std::future::pending::<()>().await;
        };
        let answering = async {
            after(answers.1).await;
            said.0.send_replace(engines(answers.0));
            asked.0.send(()).unwrap();
            after(build).await;
            rounds.0.send_replace(round(engines(&[answers.0, &["a peer's"]].concat())));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ignorant => {}
            () = answering => {}
            () = acquainted(asked.1, said.1, rounds.1) => {}
        }
        assert_eq!(begun.elapsed(), Duration::from_millis(expected), "{answers:?} {build}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_let_in_before_a_build_knows_what_engines_say_but_for_two_seconds() {
        check((&["a", "b"], 15), 20, 35).await;
        check((&[], 40), 1_000_000, 40).await;
        check((&[], 5), 1_000_000, 10).await;
        check((&["a"], 15), 1_000_000, 2_000).await;
        check((&["a"], 1_000_000), 1, 2_000).await;
    }
}
