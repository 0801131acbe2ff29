//! Tokens decided within the last second, by when.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const CELLS: u64 = 16;
const CELL_MS_SHIFT: u32 = 6;
/// How far back is known, in ms.
pub(super) const RECENT_MS: u64 = (CELLS - 1) << CELL_MS_SHIFT;

/// A ring of cells of 64 ms: the number of the 64 ms in the upper half, tokens in the lower one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Recent([AtomicU64; CELLS as usize]);

impl Recent {
    pub(super) fn add(&self, tokens: u64, now_ms: u64) {
        let number = number(now_ms);
        let added = |cell: u64| {
            let held = if cell >> 32 == number { cell & u64::from(u32::MAX) } else { 0 };
            Some(number << 32 | (held + tokens).min(u64::from(u32::MAX)))
        };
        let tokens = self.0[(number % CELLS) as usize].fetch_update(Relaxed, Relaxed, added);
        debug_assert!(tokens.is_ok(), "it is always updated");
    }

    /// Tokens since a time; a cell that began earlier counts whole.
    pub(super) fn since(&self, since_ms: u64, now_ms: u64) -> u64 {
        let (first, last) = (since_ms >> CELL_MS_SHIFT, now_ms >> CELL_MS_SHIFT);
        (first.max((last + 1).saturating_sub(CELLS))..=last).map(|at| self.cell(at)).sum()
    }

    fn cell(&self, at: u64) -> u64 {
        let cell = self.0[(at % CELLS) as usize].load(Relaxed);
        if cell >> 32 == at & u64::from(u32::MAX) { cell & u64::from(u32::MAX) } else { 0 }
    }
}

fn number(now_ms: u64) -> u64 {
    (now_ms >> CELL_MS_SHIFT) & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::Recent;

    fn check(added: &[(u64, u64)], (since_ms, now_ms): (u64, u64), expected: u64) {
        let recent = Recent::default();
        added.iter().for_each(|(tokens, at_ms)| recent.add(*tokens, *at_ms));
        assert_eq!(recent.since(since_ms, now_ms), expected, "{added:?} since {since_ms} at {now_ms}");
    }

    #[test]
    fn counts_what_was_decided_since() {
        check(&[(5, 1_000), (7, 1_010), (9, 1_200)], (1_000, 1_200), 21);
        check(&[(5, 1_000), (7, 1_010), (9, 1_200)], (1_100, 1_200), 9);
        check(&[(5, 1_000), (9, 1_200)], (0, 1_900), 14);
        check(&[(5, 1_000), (9, 1_200)], (0, 2_100), 9);
        check(&[(5, 1_000)], (0, 1_000_000), 0);
        check(&[(u64::from(u32::MAX), 0), (9, 0)], (0, 0), u64::from(u32::MAX));
    }
}
