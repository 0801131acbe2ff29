//! Sets of endpoint slots.

/// A fixed number of slots, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitset {
    words: Box<[u64]>,
    len: u32,
    ones: u32,
}

impl Bitset {
    /// The slots below `len` for which `member` holds.
    pub fn from_fn(len: u32, member: impl Fn(u32) -> bool) -> Self {
        let mut words = vec![0u64; len.div_ceil(64) as usize].into_boxed_slice();
        let mut ones = 0;
        for slot in (0..len).filter(|slot| member(*slot)) {
            words[slot as usize / 64] |= 1 << (slot % 64);
            ones += 1;
        }
        Self { words, len, ones }
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: u32) -> bool {
        self.words.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// How many slots are in the set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// How many slots there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// All members, from the first at or after `start` on and around.
    pub fn iter_from(&self, start: u32) -> impl Iterator<Item = u32> {
        let words = self.words.len();
        let (first, bit) = (start as usize / 64, start % 64);
        (0..=words).filter(move |_| words > 0).flat_map(move |step| {
            let at = (first + step) % words;
            // The first word is visited twice: its upper bits at the start, its lower bits at the end.
            let mask = match step {
                0 => u64::MAX << bit,
                _ if step == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            bits(self.words[at] & mask).map(move |b| at as u32 * 64 + b)
        })
    }
}

fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::Bitset;

    fn check(len: u32, members: &[u32], start: u32, expected: &[u32]) {
        let set = Bitset::from_fn(len, |slot| members.contains(&slot));
        assert_eq!(set.iter_from(start).collect::<Vec<_>>(), expected, "from {start}");
        assert_eq!(set.count() as usize, members.len());
        assert!(members.iter().all(|slot| set.contains(*slot)));
        assert!(!set.contains(len));
    }

    #[test]
    fn visits_every_member_once_from_any_start() {
        check(200, &[0, 63, 64, 130, 199], 0, &[0, 63, 64, 130, 199]);
        check(200, &[0, 63, 64, 130, 199], 64, &[64, 130, 199, 0, 63]);
        check(200, &[0, 63, 64, 130, 199], 131, &[199, 0, 63, 64, 130]);
        check(3, &[1], 2, &[1]);
        check(0, &[], 0, &[]);
    }
}
