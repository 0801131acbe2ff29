//! Asks all places of the newest build, again and again, and tells the load lane what they say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::proto::EngineLoad;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::watch::Receiver;
use tokio::time::{MissedTickBehavior, interval};

use super::reading::{Reading, Said};
use super::scrape::scrape;
use super::targets::{Place, Servers, Target};
use crate::publish::serve::Loads;
use crate::run::Round;

const PERIOD: Duration = Duration::from_secs(1);
/// For one answer, from connecting to the last byte.
const TIME: Duration = Duration::from_secs(1);
/// Places that are asked at once.
const AT_ONCE: usize = 64;
/// The longest that a place which does not answer is left alone, so that many such do not hold up the others.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Watches the engines of the newest build until there will be no other build.
pub async fn watch(mut rounds: Receiver<Option<Arc<Round>>>, loads: Arc<Loads>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut servers, mut watched) = (Servers::default(), Watched::new());
    let mut known: Option<Arc<Round>> = None;
    while rounds.has_changed().is_ok() {
        ticks.tick().await;
        let newest = rounds.borrow_and_update().clone();
        if newest.as_ref().map(Arc::as_ptr) != known.as_ref().map(Arc::as_ptr) {
            known = newest;
            let targets = known.as_ref().map(|round| servers.targets(round)).unwrap_or_default();
            loads.keep_engines(&targets.values().flat_map(|target| &target.handles).copied().collect());
            watched = follow(watched, targets);
        }
        sweep(&mut watched, &loads).await;
    }
}

type Watched = BTreeMap<Place, Watch>;

/// A place, and what it said.
#[derive(Debug)]
struct Watch {
    target: Target,
    last: Option<Reading>,
    said: Said,
    /// Failures in a row.
    failures: u32,
    due: Instant,
}

/// What is known of a place stays while it speaks the same language.
fn follow(mut before: Watched, targets: BTreeMap<Place, Target>) -> Watched {
    let watch = |(place, target): (Place, Target)| {
        let known = before.remove(&place).filter(|known| known.target.families == target.families);
        let watch = match known {
            Some(known) => Watch { target, ..known },
            None => Watch { target, last: None, said: Said::default(), failures: 0, due: Instant::now() },
        };
        (place, watch)
    };
    targets.into_iter().map(watch).collect()
}

async fn sweep(watched: &mut Watched, loads: &Loads) {
    let begun = Instant::now();
    let due = watched.iter().filter(|(_, watch)| watch.due <= begun).map(|(place, _)| place.clone());
    let due: Vec<Place> = due.collect();
    let mut scrapes = stream::iter(due.into_iter().map(ask)).buffer_unordered(AT_ONCE);
    while let Some((place, scraped)) = scrapes.next().await {
        let Some(watch) = watched.get_mut(&place) else { continue };
        let now = Instant::now();
        match scraped.and_then(|text| watch.hear(&text)) {
            Ok(said) => watch.tell(said, &place, loads, now),
            Err(error) => watch.fail(&error, &place, now),
        }
    }
}

async fn ask(place: Place) -> (Place, Result<String, String>) {
    let scraped = scrape(&place, TIME).await.map_err(|error| error.to_string());
    (place, scraped)
}

impl Watch {
    /// None where the engine told nothing.
    fn hear(&mut self, text: &str) -> Result<Option<Said>, String> {
        let reading = Reading::of(self.target.families, text).map_err(|fault| fault.to_string())?;
        self.said = reading.said(self.last.as_ref(), self.said);
        self.last = Some(reading);
        Ok((!reading.is_empty()).then_some(self.said))
    }

    fn tell(&mut self, said: Option<Said>, place: &Place, loads: &Loads, now: Instant) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(address = %place.address, "an engine's metrics can be read again");
        }
        self.due = now;
        let Some(Said { running, waiting, cache_usage, ttft, tpot }) = said else { return };
        for &handle in &self.target.handles {
            loads.engine(EngineLoad { handle, age_ms: 0, running, waiting, cache_usage, ttft, tpot }, now);
        }
    }

    /// What it said before grows old, and is forgotten in the end.
    fn fail(&mut self, error: &str, place: &Place, now: Instant) {
        if self.failures == 0 {
            let (address, path) = (place.address, &*place.path);
            tracing::warn!(%address, path, error, "cannot read an engine's metrics: only what proxies sent it counts");
        }
        self.due = now + pause(self.failures);
        self.failures = self.failures.saturating_add(1);
    }
}

/// After the first failure none but the period, then twice as long each time.
fn pause(failures_before: u32) -> Duration {
    let doubled = PERIOD.saturating_mul(1 << failures_before.min(8)) - PERIOD;
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_place_is_asked_less_and_less_often() {
        let pauses: Vec<u64> = (0..6).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!((pauses, pause(u32::MAX)), (vec![0, 1, 3, 7, 8, 8], LONGEST_PAUSE));
    }
}
