//! What makes blocks of two engines the same: their tokens, all before them, and whose requests may meet them.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::kv::event::{Adapter, Salting};

/// A block's name on all engines: a chained hash. Two with the same name cost a worse choice, never a wrong answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

const NO_ADAPTER: u64 = 0;
const BY_NAME: u64 = 1;
const BY_NUMBER: u64 = 2;
const SALTED: u64 = 3;

/// What the chain of a prompt begins with; none where nobody's requests may meet it. The parts are hashed one after the
/// other, each with what it is, so that an adapter's name never equals a salt.
pub fn root(adapter: &Adapter, salting: &Salting<'_>) -> Option<Key> {
    let adapter = match adapter {
        Adapter::None => NO_ADAPTER,
        Adapter::Name(name) => xxh3_64_with_seed(name.as_bytes(), BY_NAME),
        Adapter::Number(number) => xxh3_64_with_seed(&number.to_le_bytes(), BY_NUMBER),
    };
    match salting {
        Salting::None => Some(Key(adapter)),
        Salting::Salt(salt) => Some(Key(xxh3_64_with_seed(salt.as_bytes(), adapter ^ SALTED))),
        Salting::Unclear => None,
    }
}

/// The block with these tokens after another one; `bytes` is room to work in.
pub(super) fn next(before: Key, tokens: &[u32], bytes: &mut Vec<u8>) -> Key {
    bytes.clear();
    bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    Key(xxh3_64_with_seed(bytes, before.0))
}
