//! What engines said of themselves to all replicas, together. Ours counts before a peer's, for while one takes over from another
//! both may say something. What nobody says any more counts on for a moment: who takes over has to ask first, and an engine that
//! is not ready must not come back for that moment.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use api::id::EndpointKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::hear::Heard;
use crate::world::{Engines, Facts};

/// Somewhat more than a replica needs to take over.
const LINGERS: Duration = Duration::from_secs(5);

/// Puts together what we and the peers know, until there is nobody to tell any more.
pub(super) async fn pool(
    mut own: watch::Receiver<Engines>,
    mut heard: watch::Receiver<Heard>,
    engines: watch::Sender<Engines>,
) {
    let mut pool = Pool::default();
    loop {
        let now = pool.all(&own.borrow_and_update(), &heard.borrow_and_update(), Instant::now());
        engines.send_if_modified(|known| {
            *known != now && {
                *known = now;
                true
            }
        });
        let over = pool.next_over();
        let lingering = async {
            match over {
                Some(over) => sleep_until(over).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Ok(()) = own.changed() => {}
            Ok(()) = heard.changed() => {}
            () = lingering => {}
            () = engines.closed() => return,
        }
    }
}

#[derive(Debug, Default)]
struct Pool {
    said: BTreeMap<EndpointKey, Arc<Facts>>,
    lingering: BTreeMap<EndpointKey, (Arc<Facts>, Instant)>,
}

impl Pool {
    fn all(&mut self, own: &Engines, heard: &Heard, now: Instant) -> Engines {
        let mut said: BTreeMap<EndpointKey, Arc<Facts>> = BTreeMap::new();
        let clone = |(key, facts): (&EndpointKey, &Arc<Facts>)| (key.clone(), facts.clone());
        said.extend(heard.facts().map(clone));
        said.extend(own.iter().map(clone));
        let before = std::mem::replace(&mut self.said, said);
        let silent = before.into_iter().filter(|(key, _)| !self.said.contains_key(key));
        self.lingering.extend(silent.map(|(key, facts)| (key, (facts, now + LINGERS))));
        self.lingering.retain(|key, (_, over)| *over > now && !self.said.contains_key(key));
        let lingering = self.lingering.iter().map(|(key, (facts, _))| (key, facts));
        lingering.chain(&self.said).map(clone).collect()
    }

    fn next_over(&self) -> Option<Instant> {
        self.lingering.values().map(|(_, over)| *over).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Unready;

    fn key(uid: &str) -> EndpointKey {
        EndpointKey { uid: uid.into(), port: 1, rank: 0 }
    }

    /// Each as `uid=adapter`; without an adapter it is not ready.
    fn said(words: &str) -> BTreeMap<EndpointKey, Arc<Facts>> {
        let fact = |word: &str| {
            let (uid, adapter) = word.split_once('=').unwrap_or((word, ""));
            let unready = if adapter.is_empty() { Unready::All } else { Unready::Nothing };
            let adapters = (!adapter.is_empty()).then(|| vec![adapter.into()]);
            (key(uid), Arc::new(Facts { adapters, unready, cache_tokens: None }))
        };
        words.split_whitespace().map(fact).collect()
    }

    fn words(engines: &Engines) -> String {
        let word = |(key, facts): (&EndpointKey, &Arc<Facts>)| match &facts.adapters {
            Some(adapters) => format!("{}={}", key.uid, adapters[0]),
            None => key.uid.to_string(),
        };
        engines.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_that_is_known_counts_and_ours_before_theirs() {
        let mut pool = Pool::default();
        let heard = Heard::of([said("a=theirs b=theirs"), said("c")]);
        let all = pool.all(&said("a=ours d=ours").into_iter().collect(), &heard, Instant::now());
        assert_eq!(words(&all), "a=ours b=theirs c d=ours");
    }

    #[test]
    fn what_nobody_says_any_more_counts_until_another_asks_or_for_a_moment() {
        let mut pool = Pool::default();
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let (none, nobody) = (Engines::default(), Heard::default());
        pool.all(&none, &Heard::of([said("a b")]), at(0));
        assert_eq!(words(&pool.all(&none, &nobody, at(10))), "a b");
        assert_eq!(pool.next_over(), Some(at(5_010)));
        // One that asks says something else, and is silent then.
        assert_eq!(words(&pool.all(&said("a=x").into_iter().collect(), &nobody, at(1_000))), "a=x b");
        assert_eq!(words(&pool.all(&none, &nobody, at(2_000))), "a=x b");
        assert_eq!(words(&pool.all(&none, &nobody, at(5_010))), "a=x");
        assert_eq!(words(&pool.all(&none, &nobody, at(7_000))), "");
        assert_eq!(pool.next_over(), None);
    }
}
