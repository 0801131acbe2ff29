//! What decisions leave at endpoints, as the KV lane carries it: runs of marks, packed as `kv.proto` says.

use thiserror::Error;

/// Bytes of an entry.
const ENTRY: usize = 16;
/// The flag that an entry is predicted.
const PREDICTED: u16 = 2;

/// A mark that an endpoint is predicted to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The chain's hash at the end of its 16 blocks.
    pub hash: u64,
    /// The endpoint, by its handle or whatever the message names endpoints by.
    pub handle: u32,
    /// Its place in its run, at most 65,535.
    pub position: u16,
}

impl Mark {
    /// Whether it follows the mark before it in their chain.
    pub fn follows(&self, before: Option<&Self>) -> bool {
        before
            .is_some_and(|before| self.position.checked_sub(1) == Some(before.position) && before.handle == self.handle)
    }
}

/// What cannot be predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} bytes of predictions are no whole entries of 16")]
pub struct NotWhole(pub usize);

/// Packs marks.
pub fn pack(marks: impl IntoIterator<Item = Mark>) -> Vec<u8> {
    let entry = |Mark { hash, handle, position }: Mark| {
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&hash.to_le_bytes());
        entry[8..12].copy_from_slice(&handle.to_le_bytes());
        entry[12..14].copy_from_slice(&position.to_le_bytes());
        entry[14..].copy_from_slice(&PREDICTED.to_le_bytes());
        entry
    };
    marks.into_iter().flat_map(entry).collect()
}

/// Reads packed marks. What has other flags is of a later version, and left out.
pub fn unpack(bytes: &[u8]) -> Result<impl Iterator<Item = Mark>, NotWhole> {
    let (entries, []) = bytes.as_chunks::<ENTRY>() else { return Err(NotWhole(bytes.len())) };
    let mark = |entry: &[u8; ENTRY]| {
        let [h0, h1, h2, h3, h4, h5, h6, h7, e0, e1, e2, e3, p0, p1, f0, f1] = *entry;
        (u16::from_le_bytes([f0, f1]) == PREDICTED).then(|| Mark {
            hash: u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
            handle: u32::from_le_bytes([e0, e1, e2, e3]),
            position: u16::from_le_bytes([p0, p1]),
        })
    };
    Ok(entries.iter().filter_map(mark))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Mark> {
        unpack(bytes).unwrap().collect()
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read(marks in prop::collection::vec(any::<(u64, u32, u16)>(), 0..50)) {
            let marks: Vec<Mark> =
                marks.into_iter().map(|(hash, handle, position)| Mark { hash, handle, position }).collect();
            prop_assert_eq!(read(&pack(marks.iter().copied())), marks);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(unpack(&bytes).is_ok(), bytes.len() % 16 == 0);
        }
    }

    #[test]
    fn an_entry_lies_in_the_bytes_as_the_wire_says() {
        let mark = Mark { hash: 0x0807_0605_0403_0201, handle: 0x0c0b_0a09, position: 0x0e0d };
        assert_eq!(pack([mark]), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 2, 0]);
        assert_eq!(read(&[0; 16]), [], "what an engine reports is no prediction");
    }

    #[test]
    fn a_run_goes_on_with_the_next_position_at_the_same_endpoint() {
        let mark = |handle, position| Mark { hash: 1, handle, position };
        assert!(mark(1, 1).follows(Some(&mark(1, 0))));
        assert!(!mark(1, 0).follows(Some(&mark(1, 0))));
        assert!(!mark(1, 1).follows(Some(&mark(2, 0))));
        assert!(!mark(1, 1).follows(None));
    }
}
