//! What of many changes goes into one message.

/// Blocks in one sum, and of one report that are looked at: 64 KiB.
pub(super) const USES_IN_ONE: usize = 4_096;

/// How many of each may go into one sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Endpoints, and engines: a sum of these stays under 1 MiB.
    pub(super) endpoints: usize,
    /// Backends.
    pub(super) shares: usize,
    /// Blocks whose uses are counted.
    pub(super) uses: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { endpoints: 16_384, shares: 1_024, uses: USES_IN_ONE }
    }
}

/// The `most` earliest of these changes, and where there are more, the change up to which that is all of them. The number of each
/// is to be the one by which the listener knows whether it has heard it: by any other, what is cut off may never be told.
pub(super) fn earliest<T>(mut changes: Vec<(u64, T)>, most: usize) -> (Vec<(u64, T)>, Option<u64>) {
    if changes.len() <= most {
        return (changes, None);
    }
    let (_, (first_not, _), _) = changes.select_nth_unstable_by_key(most, |(change, _)| *change);
    let up_to = *first_not - 1;
    changes.truncate(most);
    (changes, Some(up_to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_what_comes_last() {
        let changes = vec![(9, 'a'), (3, 'b'), (7, 'c'), (5, 'd')];
        assert_eq!(earliest(changes.clone(), 4), (changes.clone(), None));
        let (mut first, up_to) = earliest(changes, 2);
        first.sort_unstable();
        assert_eq!((first, up_to), (vec![(3, 'b'), (5, 'd')], Some(6)));
    }
}
