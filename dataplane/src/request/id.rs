//! `x-request-id`: the client's where it is sane, else one made here. It is sent upstream and returned.

use std::sync::Arc;

/// Bytes of a client's id that are accepted; a longer one is replaced.
const MAX: usize = 128;

/// A request's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The client's, if it consists of visible ASCII; else a random UUID (version 4) made from the two numbers.
    pub(crate) fn new(sent: Option<&[u8]>, random: impl FnOnce() -> (u64, u64)) -> Self {
        let sane = sent.filter(|id| (1..=MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic));
        let kept = sane.and_then(|id| std::str::from_utf8(id).ok());
        Self(kept.map_or_else(|| uuid(random()), Arc::from))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

fn uuid((high, low): (u64, u64)) -> Arc<str> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    let number = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (place, byte) in number.into_iter().enumerate() {
        at += usize::from(matches!(place, 4 | 6 | 8 | 10));
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    std::str::from_utf8(&text).expect("hexadecimal digits are ASCII").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: Option<&[u8]>, expected: &str) {
        assert_eq!(RequestId::new(sent, || (u64::MAX, 0)).as_str(), expected);
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let made = "ffffffff-ffff-4fff-8000-000000000000";
        check(Some(b"abc-123"), "abc-123");
        check(None, made);
        check(Some(b""), made);
        check(Some(b"two words"), made);
        check(Some(&[0xff]), made);
        check(Some(&[b'a'; 129]), made);
    }
}
