//! Kthena's least-latency: measured time to first token and per output token, each scaled between the best and the
//! worst endpoint.

use smallvec::SmallVec;

use super::Scores;

/// What an endpoint without measurements gets.
const UNMEASURED: u32 = 50;

/// From (time to first token, time per output token) in µs, 0 where unmeasured; `alpha` weighs the first.
pub(super) fn scores(latencies: impl Iterator<Item = (u32, u32)>, alpha: f64) -> Scores {
    let latencies: SmallVec<[(u32, u32); 64]> = latencies.collect();
    let measured = || latencies.iter().filter(|(ttft, tpot)| *ttft > 0 && *tpot > 0);
    let ttfts = range(measured().map(|(ttft, _)| *ttft));
    let tpots = range(measured().map(|(_, tpot)| *tpot));
    let score = |(ttft, tpot): &(u32, u32)| {
        if *ttft == 0 || *tpot == 0 {
            return UNMEASURED;
        }
        (alpha * scaled(*ttft, ttfts) + (1.0 - alpha) * scaled(*tpot, tpots)) as u32
    };
    latencies.iter().map(score).collect()
}

fn range(values: impl Iterator<Item = u32>) -> (u32, u32) {
    values.fold((u32::MAX, 0), |(min, max), value| (min.min(value), max.max(value)))
}

fn scaled(value: u32, (min, max): (u32, u32)) -> f64 {
    if max == min { 100.0 } else { 100.0 * f64::from(max - value) / f64::from(max - min) }
}

#[cfg(test)]
mod tests {
    fn check(latencies: &[(u32, u32)], alpha: f64, expected: &[u32]) {
        assert_eq!(super::scores(latencies.iter().copied(), alpha).as_slice(), expected, "{latencies:?}");
    }

    #[test]
    fn follows_the_reference() {
        check(&[(100, 20), (200, 20), (300, 40), (0, 0)], 0.5, &[100, 75, 0, 50]);
        check(&[(100, 20), (200, 20), (300, 40)], 1.0, &[100, 50, 0]);
        check(&[(100, 20), (200, 20), (300, 40)], 0.0, &[100, 100, 0]);
        check(&[(0, 20), (7, 0)], 0.5, &[50, 50]);
        check(&[(7, 7)], 0.5, &[100]);
    }
}
