//! The rules of what is known by name, what may be stripped and what ends at this hop, in one place.

use super::field::Known;

/// The kind of a field, by its name in any case. Length and first letter leave one candidate.
#[inline]
pub(super) fn classify(name: &[u8]) -> Known {
    let Some(first) = name.first() else { return Known::Other };
    let (candidate, known) = match (name.len(), first | 0x20) {
        (2, b't') => ("te", Known::HopByHop),
        (4, b'h') => ("host", Known::Host),
        (6, b'c') => ("cookie", Known::Credential),
        (6, b'e') => ("expect", Known::Expect),
        (7, b'a') => ("api-key", Known::Credential),
        (7, b't') => ("trailer", Known::HopByHop),
        (7, b'u') => ("upgrade", Known::HopByHop),
        (9, b'x') => ("x-api-key", Known::Credential),
        (10, b'c') => ("connection", Known::Connection),
        (10, b'k') => ("keep-alive", Known::HopByHop),
        (11, b't') => ("traceparent", Known::Traceparent),
        (12, b'c') => ("content-type", Known::ContentType),
        (12, b'x') => ("x-request-id", Known::RequestId),
        (13, b'a') => ("authorization", Known::Authorization),
        (14, b'c') => ("content-length", Known::ContentLength),
        (14, b'h') => ("http2-settings", Known::HopByHop),
        (15, b'a') => ("accept-encoding", Known::AcceptEncoding),
        (15, b'x') => ("x-forwarded-for", Known::ForwardedFor),
        (16, b'c') => ("content-encoding", Known::ContentEncoding),
        (17, b't') => ("transfer-encoding", Known::TransferEncoding),
        (17, b'x') => ("x-forwarded-proto", Known::ForwardedProto),
        (20, b'x') => ("x-data-parallel-rank", Known::DataParallelRank),
        // `proxy-authorization`, `proxy-connection` and the rest of that family are of one hop.
        (_, b'p') if starts_with(name, "proxy-") => return Known::HopByHop,
        _ => return Known::Other,
    };
    if is_in_lower_case(name, candidate) { known } else { Known::Other }
}

/// Whether a token reads as `lower`, of the same length, in any case. Eight bytes at a time: every field name of every head
/// is compared here.
#[inline]
fn is_in_lower_case(name: &[u8], lower: &str) -> bool {
    const CASE: u64 = u64::from_le_bytes([0x20; 8]);
    let lower = lower.as_bytes();
    let word = |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    // In tokens only letters turn into letters, and nothing else into `-` or a digit.
    let same = |at: usize| match (word(name, at), word(lower, at)) {
        (Some(a), Some(b)) => a | CASE == b,
        _ => false,
    };
    match lower.len() {
        0..8 => name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b),
        // The last word overlaps the one before it.
        length @ 8..=16 => same(0) && same(length - 8),
        length => same(0) && same(8) && same(length - 8),
    }
}

impl Known {
    /// Fields that say one thing: two of them would be read as either by different servers.
    pub(super) fn is_single(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Expect
                | Self::ContentType
                | Self::Authorization
        )
    }

    /// The bit of this name in a set of names.
    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Never forwarded: framing is our own on each side, and the rest speaks about one connection.
pub(super) const HOP_BY_HOP: u32 = Known::HopByHop.bit()
    | Known::Connection.bit()
    | Known::TransferEncoding.bit()
    | Known::ContentLength.bit()
    | Known::Expect.bit();

/// Whether `Connection` may strip this field. What the proxy sets, trusts or routes by may not be.
pub(super) fn may_be_named(known: Known, name: &[u8]) -> bool {
    known == Known::Other && !is_trusted_family(name)
}

/// Whether a name that holds `_` reads as a name that is trusted or frames the message on servers that take `_` for `-`.
pub(super) fn confuses(name: &[u8]) -> bool {
    let mut folded = [0; 256];
    // Names are at most that long.
    let Some(folded) = folded.get_mut(..name.len()) else { return true };
    folded.copy_from_slice(name);
    folded.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
    classify(folded) != Known::Other || is_trusted_family(folded)
}

fn is_trusted_family(name: &[u8]) -> bool {
    starts_with(name, "x-forwarded-") || starts_with(name, "x-kthena-") || name.eq_ignore_ascii_case(b"x-real-ip")
}

fn starts_with(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::grammar;

    #[test]
    fn a_known_name_is_known_in_any_case_and_no_other_token_is() {
        let names = ["te", "host", "expect", "trailer", "x-api-key", "connection", "content-length", "http2-settings"];
        let longer = ["x-forwarded-for", "content-encoding", "transfer-encoding", "x-data-parallel-rank"];
        for name in names.into_iter().chain(longer) {
            let known = classify(name.as_bytes());
            assert_ne!(known, Known::Other, "{name}");
            assert_eq!(classify(name.to_ascii_uppercase().as_bytes()), known, "{name}");
            for at in 0..name.len() {
                for byte in (0..=u8::MAX).filter(|byte| grammar::is_token(*byte)) {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let same = other.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(classify(&other) == known, same, "{}", String::from_utf8_lossy(&other));
                }
            }
        }
    }
}
