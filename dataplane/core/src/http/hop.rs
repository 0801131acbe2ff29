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
    if name.eq_ignore_ascii_case(candidate.as_bytes()) { known } else { Known::Other }
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
