//! Medians, ranges, and ratios within a round.

use serde::Serialize;

use super::Sample;

/// A median with its range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value; the mean of the two middle ones where there is no middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// Of these values; `None` where there are none.
pub fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let half = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
    Some(Spread { median, min, max })
}

/// A contender's values, less those of `base` in the same round where one is named.
pub fn values(rounds: &[Vec<Sample>], name: &str, base: Option<&str>) -> Vec<f64> {
    rounds.iter().filter_map(|round| value(round, name, base)).collect()
}

/// `a / b` round by round, both less `base`: rounds in which either failed do not count.
pub fn ratios(rounds: &[Vec<Sample>], a: &str, b: &str, base: Option<&str>) -> Vec<f64> {
    let pairs = rounds.iter().filter_map(|round| Some((value(round, a, base)?, value(round, b, base)?)));
    pairs.filter(|(_, below)| *below > 0.0).map(|(above, below)| above / below).collect()
}

/// The same of the 99th percentiles.
pub fn p99_ratios(rounds: &[Vec<Sample>], a: &str, b: &str) -> Vec<f64> {
    let of = |round: &[Sample], name: &str| round.iter().find(|one| one.contender == name).map(|one| one.p99_us);
    let pairs = rounds.iter().filter_map(|round| Some((of(round, a)?, of(round, b)?)));
    pairs.filter(|(above, below)| *above > 0.0 && *below > 0.0).map(|(above, below)| above / below).collect()
}

/// `a - b` round by round.
pub fn differences(rounds: &[Vec<Sample>], a: &str, b: &str) -> Vec<f64> {
    values(rounds, a, Some(b))
}

fn value(round: &[Sample], name: &str, base: Option<&str>) -> Option<f64> {
    let of = |name: &str| round.iter().find(|sample| sample.contender == name)?.value;
    Some(of(name)? - base.map_or(Some(0.0), of)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(values: &[(&str, Option<f64>)]) -> Vec<Sample> {
        let sample = |&(name, value): &(&str, Option<f64>)| Sample {
            contender: name.to_owned(),
            value,
            p99_us: 0.0,
            errors: 0,
            detail: serde_json::Value::Null,
        };
        values.iter().map(sample).collect()
    }

    #[test]
    fn medians_have_their_range() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(vec![4.0, 1.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(spread(Vec::new()), None);
    }

    #[test]
    fn ratios_are_paired_within_a_round() {
        let rounds = [
            round(&[("floor", Some(10.0)), ("ours", Some(12.0)), ("direct", Some(2.0))]),
            round(&[("floor", Some(20.0)), ("ours", None), ("direct", Some(2.0))]),
            round(&[("floor", Some(30.0)), ("ours", Some(45.0)), ("direct", Some(0.0))]),
        ];
        assert_eq!(ratios(&rounds, "ours", "floor", None), [1.2, 1.5]);
        assert_eq!(ratios(&rounds, "ours", "floor", Some("direct")), [1.25, 1.5]);
        assert_eq!(differences(&rounds, "ours", "floor"), [2.0, 15.0]);
        assert_eq!(values(&rounds, "ours", None), [12.0, 45.0]);
        assert!(ratios(&rounds, "ours", "gone", None).is_empty());
        // A failed sample has no percentile.
        assert!(p99_ratios(&rounds, "ours", "floor").is_empty());
        let slow = |p99_us| Sample { p99_us, ..round(&[("a", None)]).remove(0) };
        let pair = vec![slow(30.0), Sample { contender: "b".to_owned(), ..slow(20.0) }];
        assert_eq!(p99_ratios(&[pair], "a", "b"), [1.5]);
    }
}
