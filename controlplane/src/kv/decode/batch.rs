//! A message's payload.

use super::reader::{Fault, Item, Reader};
use super::{MOST_BYTES, MOST_EVENTS, fields, stored};
use crate::kv::event::Batch;

/// The events of a payload: an array of time, events and rank, or a map of the same. More parts are passed over.
pub fn batch(bytes: &[u8]) -> Result<Batch, Fault> {
    if bytes.len() > MOST_BYTES {
        return Err(Fault::TooMany("bytes of a message"));
    }
    let mut reader = Reader::new(bytes);
    let parts = match reader.item()? {
        Item::Array(length) => by_position(&mut reader, length)?,
        Item::Map(pairs) => by_name(&mut reader, pairs)?,
        _ => return Err(Fault::Type("a batch")),
    };
    reader.end()?;
    read(&parts)
}

/// Time, events and rank.
type Parts<'b> = [Option<Reader<'b>>; 3];

fn by_position<'b>(reader: &mut Reader<'b>, length: usize) -> Result<Parts<'b>, Fault> {
    let mut parts = Parts::default();
    for place in 0..length {
        let value = reader.value()?;
        if let Some(part) = parts.get_mut(place) {
            *part = Some(value);
        }
    }
    Ok(parts)
}

fn by_name<'b>(reader: &mut Reader<'b>, pairs: usize) -> Result<Parts<'b>, Fault> {
    let mut parts = Parts::default();
    for _ in 0..pairs {
        let mut key = reader.value()?;
        let place = match key.item()? {
            Item::Text("ts") => 0,
            Item::Text("events") => 1,
            Item::Text("data_parallel_rank" | "attn_dp_rank") => 2,
            _ => parts.len(),
        };
        let value = reader.value()?;
        if let Some(part) = parts.get_mut(place) {
            *part = Some(value);
        }
    }
    Ok(parts)
}

fn read(parts: &Parts<'_>) -> Result<Batch, Fault> {
    let [time, events, rank] = parts;
    let time_s = match time.ok_or(Fault::Missing("ts"))?.item()? {
        Item::Float(time) if time.is_finite() => time,
        Item::Unsigned(time) => time as f64,
        _ => return Err(Fault::Type("ts")),
    };
    let rank = fields::optional(*rank, |reader| fields::small(reader, "data_parallel_rank"))?;
    let mut batch = Batch { time_s, rank, ..Batch::default() };
    let mut events = events.ok_or(Fault::Missing("events"))?;
    for _ in 0..fields::array(&mut events, MOST_EVENTS, "events")? {
        match stored::event(events.value()?)? {
            Some(event) => batch.events.push(event),
            None => batch.passed_over = batch.passed_over.saturating_add(1),
        }
    }
    Ok(batch)
}
