//! Endpoints.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Reason;
use super::field::{choice, count, model, name, narrow, number, optional_text, text};
use super::path::{Path, Problems};
use crate::id::{EndpointKey, ModelName};
use crate::limits::{MAX_LABELS, MAX_LOADED_ADAPTERS, MAX_NAME_BYTES};
use crate::proto;
use crate::snapshot::{Endpoint, Role};

pub(crate) fn endpoint(problems: &mut Problems, at: &Path<'_>, wire: proto::Endpoint) -> Endpoint {
    name(problems, &at.field("name"), &wire.name);
    text(problems, &at.field("uid"), &wire.uid, MAX_NAME_BYTES);
    let address = address(problems, &at.field("address"), &wire.address);
    let rank = number(problems, &at.field("rank"), Some(wire.rank), (0, 0..=u16::MAX.into()));
    let name: Arc<str> = wire.name.into();
    let uid = if wire.uid.is_empty() { name.clone() } else { wire.uid.into() };
    let cache_range = (1, 1..=u64::MAX);
    Endpoint {
        handle: wire.handle,
        key: EndpointKey { uid, port: address.port(), rank: narrow(rank) },
        name,
        address,
        labels: labels(problems, at, wire.labels),
        role: role(problems, at, wire.role),
        group: optional_text(problems, &at.field("group"), wire.group),
        revision: optional_text(problems, &at.field("revision"), wire.revision),
        node: optional_text(problems, &at.field("node"), wire.node),
        zone: optional_text(problems, &at.field("zone"), wire.zone),
        adapters: wire.adapters.map(|wire| adapters(problems, &at.field("adapters"), wire)),
        cache_tokens: wire.cache_tokens.map(|n| number(problems, &at.field("cacheTokens"), Some(n), cache_range)),
    }
}

/// The placeholder after a problem has port 0, which no address that is accepted has.
fn address(problems: &mut Problems, at: &Path<'_>, text: &str) -> SocketAddr {
    let wanted = "endpoints are IP:port with a port of 1 to 65535, IPv6 in brackets: 10.0.0.1:8000, [fd00::1]:8000";
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let refusal = match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast() => {
            return address;
        }
        _ if text.is_empty() => Reason::Missing("endpoints are IP:port, IPv6 in brackets"),
        Err(_) if has_host_name(text) => Reason::HostName(text.to_owned()),
        _ => Reason::Malformed { found: text.to_owned(), wanted },
    };
    problems.add(at, refusal);
    nowhere
}

/// Whether what stands before the port can only be a name.
fn has_host_name(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    host.bytes().all(is_name) && host.bytes().any(|b| b.is_ascii_alphabetic())
}

fn labels(problems: &mut Problems, at: &Path<'_>, labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    count(problems, &at.field("labels"), labels.len(), ("labels", MAX_LABELS));
    for (key, value) in &labels {
        name(problems, &at.entry("labels", key), key);
        text(problems, &at.entry("labels", key), value, MAX_NAME_BYTES);
    }
    labels
}

fn role(problems: &mut Problems, at: &Path<'_>, wire: i32) -> Role {
    match choice(problems, &at.field("role"), wire, "BOTH, PREFILL, DECODE") {
        proto::endpoint::Role::Both => Role::Both,
        proto::endpoint::Role::Prefill => Role::Prefill,
        proto::endpoint::Role::Decode => Role::Decode,
    }
}

fn adapters(problems: &mut Problems, at: &Path<'_>, wire: proto::LoadedAdapters) -> Vec<ModelName> {
    count(problems, &at.field("names"), wire.names.len(), ("adapters", MAX_LOADED_ADAPTERS));
    wire.names.into_iter().enumerate().map(|(i, n)| model(problems, &at.item("names", i), n)).collect()
}
