//! What an engine pushes of its load, rank by rank, over what its metrics say.
//!
//! SGLang publishes its load when that changes, and once a second in any case, so what was pushed last holds until the next
//! one is overdue. Its metrics are renewed when it logs, which an idle engine does rarely: a scrape may bring what has been
//! over for half a minute. So while all ranks are heard, what they push counts, and of a scrape only what is not pushed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::reading::Said;
use crate::kv::event::Load;

/// What was pushed counts for so long: two pushes may be lost.
const FRESH: Duration = Duration::from_millis(2_500);

/// What one rank pushed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushed {
    /// The data-parallel rank, and how many there are of its engine.
    pub(super) rank: u32,
    pub(super) ranks: usize,
    pub(super) load: Load,
}

/// What an engine pushed lately.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    ranks: usize,
    last: BTreeMap<u32, (Load, Instant)>,
}

impl Pushes {
    pub(super) fn hear(&mut self, Pushed { rank, ranks, load }: Pushed, now: Instant) {
        if ranks != self.ranks {
            *self = Self { ranks, last: BTreeMap::new() };
        }
        self.last.insert(rank, (load, now));
    }

    /// Of all its ranks. A sum that lacks one makes the engine look idler, and smaller, than it is.
    fn fresh(&self, now: Instant) -> Option<impl Iterator<Item = &Load> + Clone> {
        let fresh = move |(_, at): &&(Load, Instant)| now.saturating_duration_since(*at) < FRESH;
        let loads = self.last.values().filter(fresh).map(|(load, _)| load);
        let count = loads.clone().count();
        (count > 0 && count >= self.ranks).then_some(loads)
    }

    /// What its caches take, where all of them say it.
    pub(super) fn cache_tokens(&self, now: Instant) -> Option<u64> {
        let mut sizes = self.fresh(now)?.map(|load| load.max_tokens);
        sizes.try_fold(0_u64, |sum, size| (size > 0).then(|| sum.saturating_add(size)))
    }

    /// What the engine says in all, where that is what its metrics say; none where these alone count.
    pub(super) fn over(&self, scraped: Said, now: Instant) -> Option<Said> {
        let loads = self.fresh(now)?;
        let sum = |of: fn(&Load) -> u64| loads.clone().map(of).fold(0, u64::saturating_add);
        let count = |of: fn(&Load) -> u64| u32::try_from(sum(of)).unwrap_or(u32::MAX);
        let (used, most) = (sum(|load| load.used_tokens), sum(|load| load.max_tokens));
        Some(Said {
            running: Some(count(|load| load.running)),
            waiting: count(|load| load.waiting),
            cache_usage: if most == 0 { scraped.cache_usage } else { percent(used, most) },
            ..scraped
        })
    }
}

/// In whole hundredths: each token moves it, and nobody decides by less.
fn percent(used: u64, most: u64) -> f32 {
    (used as f64 / most as f64 * 100.0).round().min(100.0) as f32 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPED: Said = Said { running: Some(40), waiting: 9, cache_usage: 0.9, ttft: Some(0.5), tpot: 0.02 };

    fn load(running: u64, waiting: u64, used_tokens: u64, max_tokens: u64) -> Load {
        Load { running, waiting, used_tokens, max_tokens, ..Load::default() }
    }

    /// Running, waiting and cache use after these pushes of an engine with so many ranks, each some ms ago.
    #[track_caller]
    fn check(ranks: usize, pushes: &[(u64, u32, Load)], expected: (u32, u32, f32)) {
        let begun = Instant::now();
        let (mut pushed, now) = (Pushes::default(), begun + Duration::from_secs(60));
        for &(ago, rank, load) in pushes {
            pushed.hear(Pushed { rank, ranks, load }, now - Duration::from_millis(ago));
        }
        let said = pushed.over(SCRAPED, now).unwrap_or(SCRAPED);
        assert_eq!((said.running, said.waiting, said.cache_usage), (Some(expected.0), expected.1, expected.2));
        assert_eq!((said.ttft, said.tpot), (SCRAPED.ttft, SCRAPED.tpot), "only metrics tell it");
    }

    const AS_SCRAPED: (u32, u32, f32) = (40, 9, 0.9);

    #[test]
    fn what_is_pushed_counts_until_the_next_push_is_overdue() {
        check(1, &[], AS_SCRAPED);
        check(1, &[(2_000, 0, load(1, 0, 10, 100)), (0, 0, load(3, 2, 505, 1_000))], (3, 2, 0.51));
        check(1, &[(2_499, 0, load(0, 0, 0, 1_000))], (0, 0, 0.0));
        check(1, &[(2_500, 0, load(0, 0, 0, 1_000))], AS_SCRAPED);
    }

    #[test]
    fn ranks_add_up_and_one_that_is_not_heard_leaves_it_to_the_metrics() {
        let (busy, idle) = (load(3, 1, 900, 1_000), load(1, 0, 100, 1_000));
        check(2, &[(0, 0, busy), (900, 1, idle)], (4, 1, 0.5));
        check(2, &[(0, 0, busy)], AS_SCRAPED);
        check(2, &[(0, 0, busy), (2_600, 1, idle)], AS_SCRAPED);
    }

    #[test]
    fn its_size_is_that_of_all_ranks() {
        let (mut pushes, now) = (Pushes::default(), Instant::now());
        let mut hear = |rank, max_tokens| {
            pushes.hear(Pushed { rank, ranks: 2, load: load(0, 0, 0, max_tokens) }, now);
            pushes.cache_tokens(now)
        };
        assert_eq!((hear(0, 1_000), hear(1, 0), hear(1, 900)), (None, None, Some(1_900)));
        assert_eq!(pushes.cache_tokens(now + FRESH), None);
    }

    #[test]
    fn an_engine_started_anew_with_fewer_ranks_is_heard_without_the_others() {
        let push = |ranks, rank, running| (Pushed { rank, ranks, load: load(running, 0, 0, 0) }, Instant::now());
        let mut pushes = Pushes::default();
        for (push, now) in [push(2, 0, 5), push(2, 1, 7), push(1, 0, 1)] {
            pushes.hear(push, now);
        }
        assert_eq!(pushes.over(SCRAPED, Instant::now()).unwrap().running, Some(1));
    }

    #[test]
    fn numbers_that_no_engine_has_stay_in_bounds() {
        let all = load(u64::MAX, u64::MAX, u64::MAX, 1);
        check(2, &[(0, 0, all), (0, 1, all)], (u32::MAX, u32::MAX, 1.0));
        check(1, &[(0, 0, load(1, 1, 7, 0))], (1, 1, 0.9));
    }
}
