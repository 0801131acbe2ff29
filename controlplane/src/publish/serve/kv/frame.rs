//! A message of the lane as it goes over the wire: a head of its own, and entries that many share.

use api::proto::KvUpdate;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::publish::serve::service::Frame;

/// `ToDataPlane.kv` and `KvUpdate.entries`.
const KV: u32 = 4;
const ENTRIES: u32 = 7;

/// The update with these entries in the place of its own.
pub(super) fn frame(update: &KvUpdate, entries: Bytes) -> Frame {
    let tail = match entries.len() {
        0 => 0,
        bytes => key_len(ENTRIES) + encoded_len_varint(bytes as u64) + bytes,
    };
    let mut head = BytesMut::with_capacity(64 + update.encoded_len());
    encode_key(KV, WireType::LengthDelimited, &mut head);
    encode_varint((update.encoded_len() + tail) as u64, &mut head);
    head.put_slice(&update.encode_to_vec());
    if tail > 0 {
        encode_key(ENTRIES, WireType::LengthDelimited, &mut head);
        encode_varint(entries.len() as u64, &mut head);
    }
    Frame::Two(head.freeze(), entries)
}
