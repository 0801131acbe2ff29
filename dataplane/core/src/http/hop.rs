//! The rules of what is known by name, what may be stripped and what ends at this hop, in one place.

use super::field::Known;

/// The kind of a field, by its name in any case.
pub(super) fn classify(name: &[u8]) -> Known {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let pick = |names: &[(&str, Known)]| names.iter().find(|(n, _)| is(n)).map_or(Known::Other, |(_, k)| *k);
    match name.len() {
        2 => pick(&[("te", Known::HopByHop)]),
        4 => pick(&[("host", Known::Host)]),
        6 => pick(&[("cookie", Known::Credential), ("expect", Known::Expect)]),
        7 => pick(&[("api-key", Known::Credential), ("trailer", Known::HopByHop), ("upgrade", Known::HopByHop)]),
        9 => pick(&[("x-api-key", Known::Credential)]),
        10 => pick(&[("connection", Known::Connection), ("keep-alive", Known::HopByHop)]),
        11 => pick(&[("traceparent", Known::Traceparent)]),
        12 => pick(&[("content-type", Known::ContentType), ("x-request-id", Known::RequestId)]),
        13 => pick(&[("authorization", Known::Authorization)]),
        14 => pick(&[("content-length", Known::ContentLength), ("http2-settings", Known::HopByHop)]),
        15 => pick(&[("accept-encoding", Known::AcceptEncoding), ("x-forwarded-for", Known::ForwardedFor)]),
        17 => pick(&[("transfer-encoding", Known::TransferEncoding), ("x-forwarded-proto", Known::ForwardedProto)]),
        20 => pick(&[("x-data-parallel-rank", Known::DataParallelRank)]),
        16 if is("content-encoding") => Known::ContentEncoding,
        _ => Known::Other,
    }
    .or_proxy(name)
}

impl Known {
    /// `proxy-authorization`, `proxy-connection` and the rest of that family are of one hop.
    fn or_proxy(self, name: &[u8]) -> Self {
        if self == Self::Other && starts_with(name, "proxy-") { Self::HopByHop } else { self }
    }

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

/// Whether a name with `_` reads as a name that is trusted or frames the message on servers that take `_` for `-`.
pub(super) fn confuses(name: &[u8]) -> bool {
    let mut folded = [0; 256];
    if !name.contains(&b'_') || name.len() > folded.len() {
        return false;
    }
    let folded = &mut folded[..name.len()];
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
