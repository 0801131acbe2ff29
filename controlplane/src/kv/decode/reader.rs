//! Pulls MessagePack apart, value by value, without building anything.

use rmp::Marker;
use rmp::decode::RmpRead;

use super::MOST_DEPTH;

/// Why bytes are not what an engine publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end within a value.
    #[error("the bytes end within a value")]
    Short,
    /// Bytes come after the value.
    #[error("bytes come after the last value")]
    Long,
    /// A marker that MessagePack does not use.
    #[error("byte 0xc1 is not MessagePack")]
    Reserved,
    /// A text that is none.
    #[error("a text is not UTF-8")]
    Text,
    /// Too much of something.
    #[error("more {0} than are taken")]
    TooMany(&'static str),
    /// Another kind of value than the field has.
    #[error("{0} is of another type than expected")]
    Type(&'static str),
    /// A field that there must be.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value that makes no sense.
    #[error("{0} cannot be")]
    Value(&'static str),
}

/// One value, or the head of a compound one: its parts come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item<'b> {
    Nil,
    Bool,
    Unsigned(u64),
    /// Below zero.
    Signed(i64),
    Float(f64),
    Text(&'b str),
    Bytes(&'b [u8]),
    Array(usize),
    Map(usize),
    Extension,
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn end(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::Long) }
    }

    pub(super) fn item(&mut self) -> Result<Item<'b>, Fault> {
        let marker = Marker::from_u8(self.0.read_u8().map_err(|_| Fault::Short)?);
        match marker {
            Marker::Null => Ok(Item::Nil),
            Marker::True | Marker::False => Ok(Item::Bool),
            Marker::Reserved => Err(Fault::Reserved),
            Marker::F32 => Ok(Item::Float(f64::from(f32::from_bits(self.number(4)? as u32)))),
            Marker::F64 => Ok(Item::Float(f64::from_bits(self.number(8)?))),
            Marker::FixPos(_) | Marker::FixNeg(_) => Ok(small(marker)),
            Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => Ok(Item::Unsigned(self.number(width(marker))?)),
            Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => self.signed(width(marker)),
            Marker::FixStr(length) => self.text(usize::from(length)),
            Marker::Str8 | Marker::Str16 | Marker::Str32 => self.length(width(marker)).and_then(|n| self.text(n)),
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let length = self.length(width(marker))?;
                self.take(length).map(Item::Bytes)
            }
            Marker::FixArray(length) => self.parts(usize::from(length), 1).map(Item::Array),
            Marker::Array16 | Marker::Array32 => {
                self.length(width(marker)).and_then(|n| self.parts(n, 1)).map(Item::Array)
            }
            Marker::FixMap(length) => self.parts(usize::from(length), 2).map(Item::Map),
            Marker::Map16 | Marker::Map32 => self.length(width(marker)).and_then(|n| self.parts(n, 2)).map(Item::Map),
            Marker::FixExt1 | Marker::FixExt2 | Marker::FixExt4 | Marker::FixExt8 | Marker::FixExt16 => {
                self.take(1 + width(marker)).map(|_| Item::Extension)
            }
            Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => {
                let length = self.length(width(marker))?;
                self.take(length).and_then(|_| self.take(1)).map(|_| Item::Extension)
            }
        }
    }

    /// The bytes of the next value, all that it contains included. Every value is walked once here, so that a strange one
    /// can be left out without losing one's place.
    pub(super) fn value(&mut self) -> Result<Reader<'b>, Fault> {
        let before = self.0;
        self.skip(0)?;
        Ok(Self(&before[..before.len() - self.0.len()]))
    }

    fn skip(&mut self, depth: u32) -> Result<(), Fault> {
        if depth >= MOST_DEPTH {
            return Err(Fault::TooMany("values within values"));
        }
        let parts = match self.item()? {
            Item::Array(length) => length,
            Item::Map(length) => 2 * length,
            _ => 0,
        };
        (0..parts).try_for_each(|_| self.skip(depth + 1))
    }

    /// Each part has a byte at least, so that no length is believed that the bytes cannot hold.
    fn parts(&self, length: usize, each: usize) -> Result<usize, Fault> {
        if length.saturating_mul(each) > self.0.len() { Err(Fault::Short) } else { Ok(length) }
    }

    fn text(&mut self, length: usize) -> Result<Item<'b>, Fault> {
        std::str::from_utf8(self.take(length)?).map(Item::Text).map_err(|_| Fault::Text)
    }

    fn signed(&mut self, bytes: usize) -> Result<Item<'b>, Fault> {
        let unused = 64 - 8 * bytes as u32;
        let value = (self.number(bytes)? << unused).cast_signed() >> unused;
        Ok(u64::try_from(value).map_or(Item::Signed(value), Item::Unsigned))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Fault> {
        usize::try_from(self.number(bytes)?).map_err(|_| Fault::Short)
    }

    /// Big-endian.
    fn number(&mut self, bytes: usize) -> Result<u64, Fault> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn small(marker: Marker) -> Item<'static> {
    match marker {
        Marker::FixPos(number) => Item::Unsigned(u64::from(number)),
        Marker::FixNeg(number) => Item::Signed(i64::from(number)),
        _ => Item::Nil,
    }
}

/// Bytes of the number, or of the length, that follows a marker.
fn width(marker: Marker) -> usize {
    match marker {
        Marker::U16 | Marker::I16 | Marker::Str16 | Marker::Bin16 | Marker::Array16 | Marker::Map16 => 2,
        Marker::U32 | Marker::I32 | Marker::Str32 | Marker::Bin32 | Marker::Array32 | Marker::Map32 => 4,
        Marker::Ext16 | Marker::FixExt2 => 2,
        Marker::Ext32 | Marker::FixExt4 => 4,
        Marker::U64 | Marker::I64 | Marker::FixExt8 => 8,
        Marker::FixExt16 => 16,
        _ => 1,
    }
}
