//! Packed entries: 16 bytes each, little-endian: u64 block hash, u32 endpoint handle, u16 position in the chain divided by
//! 2^level, u16 flags (1: no longer held).

use super::Fault;
use crate::limits::MAX_KV_ENTRIES;

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 16;

const GONE: u16 = 1;

/// What is said of a block at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Its engine says that it holds it.
    Held,
    /// Its engine says that it holds it no longer.
    Gone,
}

/// One block at one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The chain's hash at the block.
    pub hash: u64,
    /// The endpoint.
    pub handle: u32,
    /// The block's place in the chain divided by 2^level; 65535 stands for that or more.
    pub position: u16,
    /// What is said of it.
    pub said: Said,
}

/// Entries as they come by the wire, known to be whole and to have no flags but ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entries(Vec<u8>);

impl Entries {
    /// Checks packed entries.
    pub fn checked(bytes: Vec<u8>) -> Result<Self, Fault> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(Fault::Ragged(bytes.len()));
        }
        if entries.len() > MAX_KV_ENTRIES {
            return Err(Fault::TooMany { what: "entries", found: entries.len(), max: MAX_KV_ENTRIES });
        }
        let flags = |entry: &[u8; ENTRY_BYTES]| u16::from_le_bytes([entry[14], entry[15]]);
        match entries.iter().position(|entry| flags(entry) & !GONE != 0) {
            Some(at) => Err(Fault::Flags { at, flags: flags(&entries[at]) }),
            None => Ok(Self(bytes)),
        }
    }

    /// Packs entries. The caller keeps to [`MAX_KV_ENTRIES`].
    pub fn pack(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self(entries.into_iter().flat_map(packed).collect())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len() / ENTRY_BYTES
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other, as they were packed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry> + Clone {
        self.0.as_chunks::<ENTRY_BYTES>().0.iter().map(unpacked)
    }

    /// The wire's form.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

fn packed(entry: Entry) -> [u8; ENTRY_BYTES] {
    let Entry { hash, handle, position, said } = entry;
    let flags = match said {
        Said::Held => 0,
        Said::Gone => GONE,
    };
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&hash.to_le_bytes());
    bytes[8..12].copy_from_slice(&handle.to_le_bytes());
    bytes[12..14].copy_from_slice(&position.to_le_bytes());
    bytes[14..].copy_from_slice(&flags.to_le_bytes());
    bytes
}

fn unpacked(bytes: &[u8; ENTRY_BYTES]) -> Entry {
    let [h0, h1, h2, h3, h4, h5, h6, h7, e0, e1, e2, e3, p0, p1, f0, f1] = *bytes;
    let said = if u16::from_le_bytes([f0, f1]) & GONE == 0 { Said::Held } else { Said::Gone };
    Entry {
        hash: u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
        handle: u32::from_le_bytes([e0, e1, e2, e3]),
        position: u16::from_le_bytes([p0, p1]),
        said,
    }
}
