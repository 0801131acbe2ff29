//! The messages' content: MessagePack, as msgspec writes vLLM's and SGLang's structs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::engine::text::{self, BLOCK_TOKENS};

/// The shape of events on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Maps with a type, as vLLM 0.32 has them.
    ByName,
    /// Arrays, as it was before.
    ByPosition,
    /// Arrays that end with the adapter's number, as SGLang's once did.
    Short,
}

/// The form of hashes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashes {
    /// 64-bit numbers without a sign.
    Numbers,
    /// The same bits with a sign, as SGLang has them.
    Signed,
    /// 32 bytes, of which the last eight are the number.
    Bytes,
}

/// What a request's blocks are made of.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lora: Option<Arc<str>>,
    pub(crate) cache_salt: Option<Box<str>>,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) enum Changed {
    Stored { hashes: Box<[u64]>, parent: Option<u64>, tokens: Vec<u32>, lora: Option<Arc<str>>, salt: Option<Box<str>> },
    Removed(u64),
    Cleared,
}

impl Changed {
    pub(crate) fn stored(prompt: &Prompt, chain: &[u64], from: usize, count: usize) -> Self {
        let block = BLOCK_TOKENS as usize * text::TOKEN_BYTES;
        let tokens = text::tokenize(&prompt.bytes[from * block..(from + count) * block]);
        Self::Stored {
            hashes: chain[from..from + count].into(),
            parent: from.checked_sub(1).map(|before| chain[before]),
            tokens,
            lora: prompt.lora.clone(),
            salt: prompt.cache_salt.clone().filter(|_| from == 0),
        }
    }
}

/// A batch.
pub(super) fn payload(changes: &[Changed], shape: Shape, hashes: Hashes, rank: u32) -> Vec<u8> {
    let events: Vec<Value> = changes.iter().map(|change| event(change, shape, hashes)).collect();
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut out = Vec::new();
    write(&mut out, &json!([time, events, rank]));
    out
}

fn event(change: &Changed, shape: Shape, hashes: Hashes) -> Value {
    let hash = |hash: &u64| match hashes {
        Hashes::Numbers => json!(hash),
        Hashes::Signed => json!(hash.cast_signed()),
        Hashes::Bytes => json!(format!("0x{hash:064x}")),
    };
    let all = |hashes: &[u64]| hashes.iter().map(hash).collect::<Vec<_>>();
    match (change, shape) {
        (Changed::Cleared, Shape::ByName) => json!({"type": "AllBlocksCleared"}),
        (Changed::Cleared, _) => json!(["AllBlocksCleared"]),
        (Changed::Removed(removed), Shape::ByName) => {
            json!({"type": "BlockRemoved", "block_hashes": [hash(removed)], "medium": "GPU", "group_idx": 0})
        }
        (Changed::Removed(removed), Shape::ByPosition) => json!(["BlockRemoved", [hash(removed)], "GPU", 0]),
        (Changed::Removed(removed), Shape::Short) => json!(["BlockRemoved", [hash(removed)]]),
        (Changed::Stored { hashes, parent, tokens, lora, salt }, _) => {
            let (blocks, parent, lora) = (all(hashes), parent.as_ref().map(hash), lora.as_deref());
            let extras = extra_keys(hashes.len(), lora, salt.as_deref());
            let number = lora.map(|_| 1);
            match shape {
                Shape::ByName => json!({"type": "BlockStored", "block_hashes": blocks, "parent_block_hash": parent,
                    "token_ids": tokens, "block_size": BLOCK_TOKENS, "lora_id": number, "medium": "GPU", "lora_name": lora,
                    "extra_keys": extras, "group_idx": 0, "kv_cache_spec_kind": "full_attention"}),
                Shape::ByPosition => json!([
                    "BlockStored",
                    blocks,
                    parent,
                    tokens,
                    BLOCK_TOKENS,
                    number,
                    "GPU",
                    lora,
                    extras,
                    0,
                    "full_attention"
                ]),
                Shape::Short => json!(["BlockStored", blocks, parent, tokens, BLOCK_TOKENS, number]),
            }
        }
    }
}

/// The adapter on each block, the salt on a prompt's first.
fn extra_keys(blocks: usize, lora: Option<&str>, salt: Option<&str>) -> Vec<Value> {
    let keys = |at: usize| {
        let keys: Vec<&str> = lora.into_iter().chain(salt.filter(|_| at == 0)).collect();
        if keys.is_empty() { Value::Null } else { json!(keys) }
    };
    (0..blocks).map(keys).collect()
}

/// JSON as MessagePack; a text `0x…` of 64 digits as the bytes that it names.
pub(super) fn write(out: &mut Vec<u8>, value: &Value) {
    use rmp::encode as rmp;
    // Writing to memory does not fail.
    let _: Result<(), _> = match value {
        Value::Null => rmp::write_nil(out).map_err(drop),
        Value::Bool(truth) => rmp::write_bool(out, *truth).map_err(drop),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => rmp::write_uint(out, number).map(drop).map_err(drop),
            (_, Some(number)) => rmp::write_sint(out, number).map(drop).map_err(drop),
            _ => rmp::write_f64(out, number.as_f64().unwrap_or_default()).map_err(drop),
        },
        Value::String(text) => match digest(text) {
            Some(digest) => rmp::write_bin(out, &digest).map_err(drop),
            None => rmp::write_str(out, text).map_err(drop),
        },
        Value::Array(parts) => {
            let written = rmp::write_array_len(out, parts.len() as u32).map(drop).map_err(drop);
            parts.iter().for_each(|part| write(out, part));
            written
        }
        Value::Object(pairs) => {
            let written = rmp::write_map_len(out, pairs.len() as u32).map(drop).map_err(drop);
            for (key, value) in pairs {
                write(out, &Value::String(key.clone()));
                write(out, value);
            }
            written
        }
    };
}

fn digest(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 64)?;
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}
