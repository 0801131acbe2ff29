//! Ways to cut an input into reads, derived from the input itself: a seed file is then the plain text that it tests.

/// A small generator, so that a finding repeats on any machine.
pub struct Dice(u64);

impl Dice {
    /// Seeded by what is cut.
    pub fn of(data: &[u8]) -> Self {
        let hash =
            data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        Self(hash | 1)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// The ends of the reads: every byte, odd short ones, few long ones. The last end is the input's.
pub fn ways(data: &[u8]) -> Vec<Vec<usize>> {
    let mut dice = Dice::of(data);
    let mut ends = |longest: usize| {
        let (mut ends, mut at) = (Vec::new(), 0);
        while at < data.len() {
            at = data.len().min(at + 1 + dice.below(longest));
            ends.push(at);
        }
        ends
    };
    vec![ends(1), ends(7), ends(data.len() / 2 + 1)]
}

/// The reads that end so.
pub fn reads<'a>(data: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    ends.iter().scan(0, move |from, end| Some(&data[std::mem::replace(from, *end)..*end]))
}
