//! Use counts as they are packed on the load lane: 16 bytes per entry, little-endian: u64 block hash, f32 uses, u32 zero.

use thiserror::Error;

/// Bytes of an entry.
const ENTRY: usize = 16;

/// A block's hash and how often it was asked for.
pub type UseCount = (u64, f32);

/// What cannot be use counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} bytes of use counts are no whole entries of 16")]
pub struct NotWhole(pub usize);

/// Packs counts.
pub fn pack(counts: impl IntoIterator<Item = UseCount>) -> Vec<u8> {
    let entry = |(hash, uses): UseCount| {
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&hash.to_le_bytes());
        entry[8..12].copy_from_slice(&uses.to_le_bytes());
        entry
    };
    counts.into_iter().flat_map(entry).collect()
}

/// Reads packed counts. What is no count, below 0 or not a finite number, is left out.
pub fn unpack(bytes: &[u8]) -> Result<impl Iterator<Item = UseCount>, NotWhole> {
    let (entries, []) = bytes.as_chunks::<ENTRY>() else { return Err(NotWhole(bytes.len())) };
    let count = |entry: &[u8; ENTRY]| {
        let (hash, rest) = entry.split_first_chunk::<8>().expect("16 bytes");
        let (uses, _) = rest.split_first_chunk::<4>().expect("8 bytes");
        (u64::from_le_bytes(*hash), f32::from_le_bytes(*uses))
    };
    Ok(entries.iter().map(count).filter(|(_, uses)| uses.is_finite() && *uses > 0.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<UseCount> {
        unpack(bytes).unwrap().collect()
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read(counts in prop::collection::vec((any::<u64>(), 0.001_f32..1e9), 0..50)) {
            prop_assert_eq!(read(&pack(counts.iter().copied())), counts);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(unpack(&bytes).is_ok(), bytes.len() % 16 == 0);
        }
    }

    #[test]
    fn an_entry_is_16_bytes_and_nonsense_is_left_out() {
        assert_eq!(pack([(1, 1.0)]), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 0]);
        assert_eq!(read(&pack([(1, f32::NAN), (2, -1.0), (3, 0.0), (4, f32::INFINITY), (5, 2.0)])), [(5, 2.0)]);
    }
}
