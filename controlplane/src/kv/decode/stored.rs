//! One event, from either shape.

use super::fields;
use super::reader::{Fault, Item, Reader};
use crate::kv::event::{Adapter, Attention, Event, Removed, Stored, Tier};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Hashes,
    Parent,
    Tokens,
    BlockSize,
    LoraId,
    Medium,
    LoraName,
    Extras,
    Group,
    Kind,
    Window,
    Locality,
    Ownership,
    Salt,
}

const FIELDS: usize = Field::Salt as usize + 1;

/// A store's fields by position, after its type.
const STORED: [Field; 13] = [
    Field::Hashes,
    Field::Parent,
    Field::Tokens,
    Field::BlockSize,
    Field::LoraId,
    Field::Medium,
    Field::LoraName,
    Field::Extras,
    Field::Group,
    Field::Kind,
    Field::Window,
    Field::Locality,
    Field::Ownership,
];

/// A removal's.
const REMOVED: [Field; 3] = [Field::Hashes, Field::Medium, Field::Group];

/// The fields of one event, not yet looked into.
#[derive(Debug, Default)]
struct Slots<'b>([Option<Reader<'b>>; FIELDS]);

impl<'b> Slots<'b> {
    fn of(&self, field: Field) -> Option<Reader<'b>> {
        self.0[field as usize]
    }

    fn needed(&self, field: Field, what: &'static str) -> Result<Reader<'b>, Fault> {
        self.of(field).ok_or(Fault::Missing(what))
    }

    /// Parts that have no place here are of a newer engine, and of no concern.
    fn by_position(reader: &mut Reader<'b>, parts: usize, order: &[Field]) -> Result<Self, Fault> {
        let mut slots = Self::default();
        for place in 0..parts {
            let value = reader.value()?;
            if let Some(field) = order.get(place) {
                slots.0[*field as usize] = Some(value);
            }
        }
        Ok(slots)
    }

    fn by_name(mut reader: Reader<'b>, pairs: usize) -> Result<Self, Fault> {
        let mut slots = Self::default();
        for _ in 0..pairs {
            let (key, value) = (reader.item()?, reader.value()?);
            if let Some(field) = named(key) {
                slots.0[field as usize] = Some(value);
            }
        }
        Ok(slots)
    }
}

fn named(key: Item<'_>) -> Option<Field> {
    match key {
        Item::Text("block_hashes") => Some(Field::Hashes),
        Item::Text("parent_block_hash") => Some(Field::Parent),
        Item::Text("token_ids") => Some(Field::Tokens),
        Item::Text("block_size") => Some(Field::BlockSize),
        Item::Text("lora_id") => Some(Field::LoraId),
        Item::Text("medium") => Some(Field::Medium),
        Item::Text("lora_name") => Some(Field::LoraName),
        Item::Text("extra_keys") => Some(Field::Extras),
        Item::Text("group_idx") => Some(Field::Group),
        Item::Text("kv_cache_spec_kind") => Some(Field::Kind),
        Item::Text("locality") => Some(Field::Locality),
        Item::Text("ownership") => Some(Field::Ownership),
        Item::Text("cache_salt") => Some(Field::Salt),
        _ => None,
    }
}

/// What one event says; none where nothing can be learnt from it and nothing is lost by that.
pub(super) fn event(reader: Reader<'_>) -> Result<Option<Event>, Fault> {
    let mut parts = reader;
    match parts.item()? {
        Item::Array(length @ 1..) => by_position(parts, length - 1),
        Item::Map(pairs) => by_name(parts, pairs),
        _ => Err(Fault::Type("an event")),
    }
}

fn by_position(mut reader: Reader<'_>, parts: usize) -> Result<Option<Event>, Fault> {
    match fields::text(reader.value()?, "an event's type")? {
        "BlockStored" => Ok(stored(&Slots::by_position(&mut reader, parts, &STORED)?).ok().map(Event::Stored)),
        "BlockRemoved" => removed(&Slots::by_position(&mut reader, parts, &REMOVED)?),
        "AllBlocksCleared" => Ok(Some(Event::Cleared)),
        _ => Ok(None),
    }
}

fn by_name(reader: Reader<'_>, pairs: usize) -> Result<Option<Event>, Fault> {
    let mut keys = reader;
    let mut kind = None;
    for _ in 0..pairs {
        let (key, value) = (keys.item()?, keys.value()?);
        if key == Item::Text("type") {
            kind = Some(fields::text(value, "an event's type")?);
        }
    }
    match kind.ok_or(Fault::Missing("an event's type"))? {
        "BlockStored" => Ok(stored(&Slots::by_name(reader, pairs)?).ok().map(Event::Stored)),
        "BlockRemoved" => removed(&Slots::by_name(reader, pairs)?),
        "AllBlocksCleared" => Ok(Some(Event::Cleared)),
        _ => Ok(None),
    }
}

/// An error is a store that is not believed.
fn stored(slots: &Slots<'_>) -> Result<Stored, Fault> {
    let tier = tier(slots)?.ok_or(Fault::Value("a medium of this name"))?;
    elsewhere(slots)?;
    let (adapter, salt) = adapter(slots)?;
    let mut parent = None;
    if let Some(mut reader) = slots.of(Field::Parent) {
        parent = if { reader }.item()? == Item::Nil { None } else { Some(fields::hash(&mut reader)?) };
    }
    let stored = Stored {
        hashes: fields::hashes(slots.needed(Field::Hashes, "block_hashes")?)?,
        parent,
        tokens: fields::optional(slots.of(Field::Tokens), fields::tokens)?.unwrap_or_default(),
        block_size: fields::small(slots.needed(Field::BlockSize, "block_size")?, "block_size")?,
        tier,
        group: group(slots)?,
        attention: fields::optional(slots.of(Field::Kind), |kind| fields::text(kind, "a spec's kind"))?
            .map(Attention::from_spec_kind),
        adapter,
        salt,
        extras: fields::optional(slots.of(Field::Extras), fields::extras)?.unwrap_or_default(),
    };
    whole(stored)
}

/// Its parts fit together.
fn whole(stored: Stored) -> Result<Stored, Fault> {
    let blocks = stored.hashes.len();
    let tokens = blocks.saturating_mul(stored.block_size as usize);
    if blocks == 0 || !stored.is_a_chain() {
        return Err(Fault::Value("a chain of these hashes"));
    }
    if !stored.tokens.is_empty() && (stored.block_size == 0 || stored.tokens.len() != tokens) {
        return Err(Fault::Value("this number of tokens"));
    }
    if !stored.extras.is_empty() && stored.extras.len() != blocks {
        return Err(Fault::Value("this number of extra keys"));
    }
    Ok(stored)
}

/// Blocks in a shared store are no merit of this engine; whose they are by a word that is not known, nobody knows.
fn elsewhere(slots: &Slots<'_>) -> Result<(), Fault> {
    let text = |field, what| fields::optional(slots.of(field), |reader| fields::text(reader, what));
    match text(Field::Locality, "locality")? {
        None | Some("LOCAL") => {}
        Some(_) => return Err(Fault::Value("a local block")),
    }
    match text(Field::Ownership, "ownership")? {
        None | Some("kvcr") => Ok(()),
        Some(_) => Err(Fault::Value("an owner of this kind")),
    }
}

/// Older SGLang has a map with the salt where others have the adapter's name.
fn adapter(slots: &Slots<'_>) -> Result<(Adapter, Option<Box<str>>), Fault> {
    let text = |reader| fields::text(reader, "cache_salt").map(Box::from);
    let mut salt = fields::optional(slots.of(Field::Salt), text)?;
    let number = fields::optional(slots.of(Field::LoraId), |mut reader| match reader.item()? {
        Item::Unsigned(number) => i64::try_from(number).map_err(|_| Fault::Value("lora_id")),
        Item::Signed(number) => Ok(number),
        _ => Err(Fault::Type("lora_id")),
    })?;
    let by_number = number.map_or(Adapter::None, Adapter::Number);
    let Some(mut name) = slots.of(Field::LoraName) else { return Ok((by_number, salt)) };
    let adapter = match { name }.item()? {
        Item::Nil => by_number,
        Item::Map(_) => {
            let Item::Map(pairs) = name.item()? else { return Err(Fault::Type("lora_name")) };
            salt = fields::optional(Slots::by_name(name, pairs)?.of(Field::Salt), text)?;
            by_number
        }
        _ => Adapter::Name(fields::text(name, "lora_name")?.into()),
    };
    Ok((adapter, salt))
}

/// None where the tier is one that nothing was ever believed of. An error is a removal that may have been of anything.
fn removed(slots: &Slots<'_>) -> Result<Option<Event>, Fault> {
    let hashes = fields::hashes(slots.needed(Field::Hashes, "block_hashes")?)?;
    let (tier, group) = (tier(slots)?, group(slots)?);
    Ok(tier.map(|tier| Event::Removed(Removed { hashes, tier, group })))
}

fn tier(slots: &Slots<'_>) -> Result<Option<Tier>, Fault> {
    let medium = fields::optional(slots.of(Field::Medium), |reader| fields::text(reader, "medium"))?;
    Ok(Tier::from_medium(medium.unwrap_or_default()))
}

fn group(slots: &Slots<'_>) -> Result<u32, Fault> {
    Ok(fields::optional(slots.of(Field::Group), |reader| fields::small(reader, "group_idx"))?.unwrap_or_default())
}
