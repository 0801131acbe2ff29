//! SGLang's load events.

use super::fields::{optional, small, unsigned};
use super::reader::{Fault, Item, Reader};
use crate::kv::event::Load;

/// A dozen numbers are below 128.
const MOST_BYTES: usize = 1 << 12;
/// Numbers that the first version has; later ones have more.
const LEAST_PARTS: usize = 5;
const PARTS: usize = 11;

/// The payload of a `load` message: `["LoadStat", ..]`.
pub fn load(bytes: &[u8]) -> Result<Load, Fault> {
    if bytes.len() > MOST_BYTES {
        return Err(Fault::TooMany("bytes of a load event"));
    }
    let mut reader = Reader::new(bytes);
    let Item::Array(length) = reader.item()? else { return Err(Fault::Type("a load event")) };
    if length < LEAST_PARTS {
        return Err(Fault::Missing("a number of a load event"));
    }
    let mut parts = [None; PARTS];
    for place in 0..length {
        let value = reader.value()?;
        if let Some(part) = parts.get_mut(place) {
            *part = Some(value);
        }
    }
    reader.end()?;
    if parts[0].ok_or(Fault::Missing("an event's type"))?.item()? != Item::Text("LoadStat") {
        return Err(Fault::Value("a load event's type"));
    }
    let number = |place: usize| {
        let number = optional(parts[place], |reader| unsigned(reader, "a number of a load event"))?;
        Ok(number.unwrap_or_default())
    };
    Ok(Load {
        running: number(1)?,
        waiting: number(2)?,
        used_tokens: number(3)?,
        max_tokens: number(4)?,
        rank: optional(parts[5], |reader| small(reader, "attn_dp_rank"))?,
        waiting_uncached_tokens: number(6)?,
        total_tokens: number(7)?,
        max_running: number(8)?,
        prefilled_tokens: number(9)?,
        prefill_busy_us: number(10)?,
    })
}
