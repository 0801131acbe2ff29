//! Token budgets of routes.

use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use super::Reason;
use super::field::{choice, number};
use super::path::{Path, Problems};
use crate::limits::MAX_NAME_BYTES;
use crate::proto;
use crate::snapshot::{RateLimit, RateStore, RateUnit, TokenLimit};

pub(super) fn rate_limit(problems: &mut Problems, at: &Path<'_>, wire: proto::RateLimit) -> RateLimit {
    let proto::RateLimit { input_tokens, output_tokens, unit: wire_unit, redis } = wire;
    let input = tokens(problems, &at.field("inputTokens"), input_tokens);
    let output = tokens(problems, &at.field("outputTokens"), output_tokens);
    let tokens = TokenLimit::new(input, output).unwrap_or_else(|| {
        problems.add(at, Reason::Missing("limit `inputTokens`, `outputTokens` or both, or leave the rate limit out"));
        TokenLimit::Input(NonZeroU32::MIN)
    });
    let store = match redis {
        None => RateStore::Local,
        Some(proto::RedisStore { address }) => {
            host_and_port(problems, &at.field("redis").field("address"), &address);
            RateStore::Redis(address.into())
        }
    };
    RateLimit { tokens, unit: unit(problems, at, wire_unit), store }
}

/// The placeholder for 0, after a problem, is 1.
fn tokens(problems: &mut Problems, at: &Path<'_>, wire: Option<u32>) -> Option<NonZeroU32> {
    let count = number(problems, at, Some(wire?), (1, 1..=u32::MAX));
    Some(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN))
}

fn unit(problems: &mut Problems, at: &Path<'_>, wire: i32) -> RateUnit {
    match choice(problems, &at.field("unit"), wire, "SECOND, MINUTE, HOUR, DAY, MONTH") {
        proto::rate_limit::Unit::Second => RateUnit::Second,
        proto::rate_limit::Unit::Minute => RateUnit::Minute,
        proto::rate_limit::Unit::Hour => RateUnit::Hour,
        proto::rate_limit::Unit::Day => RateUnit::Day,
        proto::rate_limit::Unit::Month => RateUnit::Month,
    }
}

fn host_and_port(problems: &mut Problems, at: &Path<'_>, address: &str) {
    let wanted = "it is host:port with a port of 1 to 65535, IPv6 in brackets: redis.default.svc:6379, [fd00::1]:6379";
    if address.is_empty() {
        problems.add(at, Reason::Missing("say where Redis listens, as host:port"));
    } else if address.len() > MAX_NAME_BYTES {
        problems.add(at, Reason::TooLong { found: address.len(), max: MAX_NAME_BYTES });
    } else if !is_host_and_port(address) {
        problems.add(at, Reason::Malformed { found: address.to_owned(), wanted });
    }
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    // `u16::from_str` takes a plus sign.
    let port_is_good = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    let host_is_good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    port_is_good && host_is_good
}
