//! Searches along a chain. What is held and how often it was asked for never grows from one mark to the next, so a
//! few probes stand for all of them.

use super::types::{Matches, UseSample, blocks_at, weight};

/// The last index below `end` for which `holds` is true, where it is true up to some index and false from there:
/// steps that double, then halves. A cold probe costs more than everything around it.
pub(super) fn deepest(end: usize, mut holds: impl FnMut(usize) -> bool) -> Option<usize> {
    if end == 0 || !holds(0) {
        return None;
    }
    let (mut held, mut missed, mut step) = (0, end, 1);
    while held + step < missed {
        if holds(held + step) {
            held += step;
            step *= 2;
        } else {
            missed = held + step;
        }
    }
    while missed - held > 1 {
        let middle = held + (missed - held) / 2;
        if holds(middle) {
            held = middle;
        } else {
            missed = middle;
        }
    }
    Some(held)
}

/// A step not worth a probe, in weighted marks.
const FLAT: f64 = 0.25;

/// Samples of the use counts of `marks` marks: both ends, then the middle of the gap in which most weight is unsure.
pub(super) fn sample_uses(matches: &mut Matches, marks: usize, mut count: impl FnMut(usize) -> f32) {
    let mut at = [(0_usize, 0.0_f32); Matches::MAX_SAMPLES];
    let mut len = 0;
    if marks > 0 {
        at[0] = (0, count(0));
        len = 1;
    }
    // Never asked for at the start is never asked for: the common case of a new prompt takes one probe.
    if marks > 1 && at[0].1 > 0.0 {
        at[1] = (marks - 1, count(marks - 1).min(at[0].1));
        len = 2;
    }
    while len > 1 && len < Matches::MAX_SAMPLES {
        let unsure = |pair: &[(usize, f32)]| {
            (weight(pair[1].1) - weight(pair[0].1)) * (pair[1].0 - pair[0].0).saturating_sub(1) as f64
        };
        let gaps = at[..len].windows(2).map(unsure).enumerate();
        let Some((gap, weight)) = gaps.max_by(|one, other| one.1.total_cmp(&other.1)) else { break };
        if weight <= FLAT {
            break;
        }
        let middle = (at[gap].0 + at[gap + 1].0) / 2;
        // Counts are dropped and lost one by one, so what is found may not be monotone: it is read as if it were.
        let found = count(middle).clamp(at[gap + 1].1, at[gap].1);
        at.copy_within(gap + 1..len, gap + 2);
        at[gap + 1] = (middle, found);
        len += 1;
    }
    for (sample, &(index, uses)) in matches.uses.iter_mut().zip(&at[..len]) {
        *sample = UseSample { end: blocks_at(index), uses };
    }
    matches.uses_len = len as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_deepest(end: usize, held: usize) {
        let mut probes = 0;
        let found = deepest(end, |at| {
            probes += 1;
            assert!(at < end);
            at < held
        });
        assert_eq!(found, held.min(end).checked_sub(1), "end {end}, held {held}");
        assert!(probes <= 2 * (end.max(1).ilog2() + 1) + 1, "{probes} probes of {end}");
    }

    #[test]
    fn the_deepest_held_mark_is_found_in_few_probes() {
        for end in [0_usize, 1, 2, 3, 7, 8, 64, 390, 4096] {
            for held in (0..=end.min(70)).chain([end / 2, end.saturating_sub(1), end]) {
                check_deepest(end, held);
            }
        }
    }

    fn check_lack(uses: &[f32], from: u32, tolerance: f64) {
        let mut matches = Matches::none(blocks_at(uses.len()) - 16 + 5);
        let mut probes = 0;
        sample_uses(&mut matches, uses.len(), |at| {
            probes += 1;
            uses[at]
        });
        assert!(probes <= Matches::MAX_SAMPLES);
        let weigh = |block: u32| uses.get(block as usize / 16).map_or(16.0, |&uses| weight(uses));
        let exact: f64 = (from..matches.blocks).map(weigh).sum();
        let found = matches.weighted_lack(from);
        assert!((found - exact).abs() <= exact * tolerance, "found {found}, exact {exact}");
    }

    #[test]
    fn the_sum_of_weights_is_near_the_exact_one() {
        check_lack(&[], 0, 0.0);
        check_lack(&[0.0; 64], 16, 0.0);
        check_lack(&[3.0], 0, 0.0);
        check_lack(&[9.0; 64], 160, 0.0);
        let two_steps: Vec<f32> =
            (0..390).map(|at| if at < 37 { 900.0 } else { f32::from(u8::from(at < 211)) }).collect();
        check_lack(&two_steps, 0, 0.01);
        check_lack(&two_steps, 40 * 16, 0.01);
        let slope: Vec<f32> = (0..200).map(|at| 40.0 / (1.0 + at as f32)).collect();
        check_lack(&slope, 0, 0.05);
    }
}
