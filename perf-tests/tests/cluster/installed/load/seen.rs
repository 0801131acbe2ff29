//! What clients saw in a part of the time. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// In each of these something is answered to each client.
pub(super) const BUCKET: Duration = Duration::from_secs(2);

/// A request: of which client, from when to when, and why it failed if it did.
pub(super) struct Asked {
    pub(super) place: usize,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) failed: Option<String>,
}

/// A part of the time.
pub(super) struct Window {
    pub(super) what: &'static str,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// What it comes to.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    /// Requests in each second. A client that waits for too many answers asks for no more.
    pub(super) rate: f64,
    /// Answers in each second of the client that was answered least in any bucket.
    pub(super) least: f64,
    /// Of all that were waited for in this time.
    pub(super) longest: Duration,
    /// Streams, the fewest.
    pub(super) open: usize,
    /// Streams, on average.
    pub(super) mean: f64,
}

impl Window {
    pub(super) fn seen(&self, asked: &[Asked], looks: &[(Instant, usize)], places: usize) -> Seen {
        let Self { began, ended, .. } = *self;
        let took = ended - began;
        let buckets = usize::try_from(took.as_nanos() / BUCKET.as_nanos()).unwrap();
        let mut counts = vec![0; buckets * places];
        let answered = asked.iter().filter(|asked| asked.failed.is_none() && (began..ended).contains(&asked.ended));
        for Asked { place, ended, .. } in answered {
            let bucket = usize::try_from((*ended - began).as_nanos() / BUCKET.as_nanos()).unwrap();
            if let Some(count) = counts.get_mut(bucket * places + place) {
                *count += 1;
            }
        }
        let all = asked.iter().filter(|asked| (began..ended).contains(&asked.began)).count();
        let waited = asked.iter().filter(|asked| asked.began < ended && asked.ended > began);
        let open = looks.iter().filter(|(at, _)| (began..ended).contains(at)).map(|(_, open)| *open);
        let open: Vec<_> = open.collect();
        Seen {
            rate: all as f64 / took.as_secs_f64(),
            least: f64::from(counts.into_iter().min().unwrap_or(0)) / BUCKET.as_secs_f64(),
            longest: waited.map(|asked| asked.ended - asked.began).max().unwrap_or_default(),
            open: open.iter().min().copied().unwrap_or(0),
            mean: open.iter().sum::<usize>() as f64 / open.len().max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Duration = Duration::from_millis(200);

    /// Two clients that ask ten times a second for a minute. Whoever asks while `silent` is answered at its end.
    fn seen(place: usize, silent: std::ops::Range<u64>) -> Seen {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let silent = at(silent.start)..at(silent.end);
        let asked = (0..1_200).map(|n: u32| {
            let (of, asked) = (n as usize % 2, began + Duration::from_millis(50) * n);
            let is_hung = of == place && silent.contains(&asked);
            Asked { place: of, began: asked, ended: if is_hung { silent.end } else { asked + ANSWER }, failed: None }
        });
        let asked: Vec<_> = asked.collect();
        let looks = [(began, 200), (at(30), 100), (at(61), 0)];
        Window { what: "a minute", began, ended: at(60) }.seen(&asked, &looks, 2)
    }

    #[test]
    fn who_is_not_answered_for_a_while_is_seen() {
        let Seen { rate, least, longest, open, mean } = seen(0, 0..0);
        assert!((19.5..=20.0).contains(&rate) && least >= 9.0, "{rate} {least}");
        assert_eq!((longest, open, mean), (ANSWER, 100, 150.0));
        // On average it is as good as nothing.
        let Seen { rate, least, longest, .. } = seen(1, 20..25);
        assert!(rate > 19.5 && least == 0.0 && longest > Duration::from_secs(4), "{rate} {least} {longest:?}");
    }
}
