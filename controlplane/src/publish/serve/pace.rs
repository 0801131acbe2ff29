//! How often load is told. The sooner proxies hear of each other, the more they decide like one: of 64 on one hot prefix, an age of
//! 20 to 40 ms costs a quarter of the time to the first token, and one of 5 to 10 ms a tenth (see the scheduler's simulation). Each word costs
//! a message to and from each of them, so a large fleet is told more seldom.

use std::time::Duration;

/// Data planes that are told as often as can be: 200 times a second, while load changes.
const FEW: usize = 64;
/// By how much the most are told more seldom.
const SLOWEST: usize = 4;

/// Between two words to each of so many, where `least` is between two words to few.
pub(super) fn load_interval(least: Duration, data_planes: usize) -> Duration {
    least * data_planes.div_ceil(FEW).clamp(1, SLOWEST) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_the_fleet_the_more_seldom_each_is_told() {
        let of = |data_planes| load_interval(Duration::from_millis(5), data_planes).as_millis();
        assert_eq!([0, 1, 64, 65, 128, 129, 256, 10_000].map(of), [5, 5, 5, 10, 10, 15, 20, 20]);
    }
}
