//! Single fields of events.

use super::reader::{Fault, Item, Reader};
use super::{MOST_EXTRAS, MOST_HASHES, MOST_NAME_BYTES, MOST_TOKENS};
use crate::kv::event::{BlockHash, Extra};

/// The parts of an array, at most so many.
pub(super) fn array(reader: &mut Reader<'_>, most: usize, what: &'static str) -> Result<usize, Fault> {
    match reader.item()? {
        Item::Array(length) if length > most => Err(Fault::TooMany(what)),
        Item::Array(length) => Ok(length),
        _ => Err(Fault::Type(what)),
    }
}

pub(super) fn unsigned(mut reader: Reader<'_>, what: &'static str) -> Result<u64, Fault> {
    match reader.item()? {
        Item::Unsigned(number) => Ok(number),
        _ => Err(Fault::Type(what)),
    }
}

pub(super) fn small(reader: Reader<'_>, what: &'static str) -> Result<u32, Fault> {
    u32::try_from(unsigned(reader, what)?).map_err(|_| Fault::Value(what))
}

/// None for nil.
pub(super) fn optional<'b, T>(
    reader: Option<Reader<'b>>,
    read: impl FnOnce(Reader<'b>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let Some(reader) = reader else { return Ok(None) };
    if { reader }.item()? == Item::Nil { Ok(None) } else { read(reader).map(Some) }
}

pub(super) fn text<'b>(mut reader: Reader<'b>, what: &'static str) -> Result<&'b str, Fault> {
    match reader.item()? {
        Item::Text(text) if text.len() > MOST_NAME_BYTES => Err(Fault::TooMany("bytes of a name")),
        Item::Text(text) => Ok(text),
        _ => Err(Fault::Type(what)),
    }
}

pub(super) fn hash(reader: &mut Reader<'_>) -> Result<BlockHash, Fault> {
    match reader.item()? {
        Item::Unsigned(hash) => Ok(hash),
        Item::Signed(hash) => Ok(hash.cast_unsigned()),
        Item::Bytes(digest) => {
            let (_, low) = digest.split_last_chunk::<8>().ok_or(Fault::Value("a hash of less than 8 bytes"))?;
            Ok(u64::from_be_bytes(*low))
        }
        _ => Err(Fault::Type("a block's hash")),
    }
}

pub(super) fn hashes(mut reader: Reader<'_>) -> Result<Vec<BlockHash>, Fault> {
    let length = array(&mut reader, MOST_HASHES, "block hashes")?;
    (0..length).map(|_| hash(&mut reader)).collect()
}

/// Token ids. Where SGLang speculates with pairs, `[(a, b), (b, c)]` are the tokens a, b and, as what they are cached for,
/// c: one more than the blocks' sizes add up to, which is left out.
pub(super) fn tokens(mut reader: Reader<'_>) -> Result<Vec<u32>, Fault> {
    let length = array(&mut reader, MOST_TOKENS, "token ids")?;
    (0..length).map(|_| token(&mut reader)).collect()
}

fn token(reader: &mut Reader<'_>) -> Result<u32, Fault> {
    let id = |item: Item<'_>| match item {
        Item::Unsigned(id) => u32::try_from(id).map_err(|_| Fault::Value("a token id")),
        _ => Err(Fault::Type("a token id")),
    };
    match reader.item()? {
        Item::Array(2) => {
            let first = reader.item().and_then(id)?;
            reader.item().and_then(id)?;
            Ok(first)
        }
        item => id(item),
    }
}

/// One entry for each block.
pub(super) fn extras(mut reader: Reader<'_>) -> Result<Vec<Box<[Extra]>>, Fault> {
    let length = array(&mut reader, MOST_HASHES, "extra keys")?;
    let blocks = (0..length).map(|_| block_extras(reader.value()?)).collect::<Result<Vec<_>, _>>()?;
    Ok(if blocks.iter().all(|extras| extras.is_empty()) { Vec::new() } else { blocks })
}

fn block_extras(reader: Reader<'_>) -> Result<Box<[Extra]>, Fault> {
    let read = |mut reader: Reader<'_>| {
        let length = array(&mut reader, MOST_EXTRAS, "extra keys of a block")?;
        (0..length).map(|_| extra(reader.value()?)).collect::<Result<Box<[_]>, _>>()
    };
    Ok(optional(Some(reader), read)?.unwrap_or_default())
}

fn extra(mut reader: Reader<'_>) -> Result<Extra, Fault> {
    match { reader }.item()? {
        Item::Text(_) => Ok(Extra::Text(text(reader, "an extra key")?.into())),
        Item::Bytes(bytes) if bytes.len() <= MOST_NAME_BYTES => Ok(Extra::Bytes(bytes.into())),
        Item::Array(2) => {
            reader.item()?;
            let name = text(reader.value()?, "an extra key's name")?.into();
            match reader.item()? {
                Item::Unsigned(place) => Ok(Extra::Media(name, i64::try_from(place).unwrap_or(i64::MAX))),
                Item::Signed(place) => Ok(Extra::Media(name, place)),
                _ => Err(Fault::Type("an extra key's place")),
            }
        }
        _ => Err(Fault::Type("an extra key")),
    }
}
