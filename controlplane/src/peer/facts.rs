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
        heard.facts().chain(own.iter()).for_each(|(key, facts)| over(&mut said, key, facts));
        let before = std::mem::replace(&mut self.said, said);
        let silent = before.into_iter().filter(|(key, facts)| !facts.is_size_alone() && !is_known(&self.said, key));
        self.lingering.extend(silent.map(|(key, facts)| (key, (facts, now + LINGERS))));
        self.lingering.retain(|key, (_, over)| *over > now && !is_known(&self.said, key));
        let mut all: BTreeMap<EndpointKey, Arc<Facts>> = BTreeMap::new();
        let lingering = self.lingering.iter().map(|(key, (facts, _))| (key, facts));
        lingering.chain(&self.said).for_each(|(key, facts)| over(&mut all, key, facts));
        all.into_iter().collect()
    }

    fn next_over(&self) -> Option<Instant> {
        self.lingering.values().map(|(_, over)| *over).min()
    }
}

/// What is said later counts, but that its size alone is no word on what it serves.
fn over(all: &mut BTreeMap<EndpointKey, Arc<Facts>>, key: &EndpointKey, facts: &Arc<Facts>) {
    let put_together = all.get(key).filter(|_| facts.is_size_alone()).map(|known| Arc::new(facts.and(known)));
    all.insert(key.clone(), put_together.unwrap_or_else(|| Arc::clone(facts)));
}

fn is_known(said: &BTreeMap<EndpointKey, Arc<Facts>>, key: &EndpointKey) -> bool {
    said.get(key).is_some_and(|facts| !facts.is_size_alone())
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
    fn who_has_read_an_engines_size_alone_does_not_make_it_ready() {
        let mut pool = Pool::default();
        let begin = Instant::now();
        let size = Arc::new(Facts { cache_tokens: Some(9), ..Facts::default() });
        let ours: Engines = [(key("a"), size.clone())].into_iter().collect();
        let unready = |engines: &Engines| engines.of(&key("a")).unwrap().unready.clone();
        let both = pool.all(&ours, &Heard::of([said("a")]), begin);
        assert_eq!(
            **both.of(&key("a")).unwrap(),
            Facts { unready: Unready::All, cache_tokens: Some(9), adapters: None }
        );
        // The peer has gone, and we have asked it for nothing else yet.
        let at = |millis| begin + Duration::from_millis(millis);
        assert_eq!(unready(&pool.all(&ours, &Heard::default(), at(10))), Unready::All);
        assert_eq!(unready(&pool.all(&ours, &Heard::default(), at(5_000))), Unready::All);
        assert_eq!(unready(&pool.all(&ours, &Heard::default(), at(5_010))), Unready::Nothing);
        let asked: Engines = said("a=x").into_iter().collect();
        assert_eq!(unready(&pool.all(&asked, &Heard::of([said("a")]), at(5_020))), Unready::Nothing);
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
