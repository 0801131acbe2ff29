//! Routes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::field::{count, model, namespaced, needs, number, object, optional_model, text};
use super::path::{Path, Problems};
use super::rate::rate_limit;
use super::{Object, Reason, compile};
use crate::limits::{
    MAX_ADAPTERS, MAX_HEADER_MATCHES, MAX_NAME_BYTES, MAX_PATTERN_BYTES, MAX_RULES, MAX_TARGETS, MAX_WEIGHT,
};
use crate::proto;
use crate::snapshot::{Route, Rule, StringMatch, Target};

pub(crate) fn route(problems: &mut Problems, at: &Path<'_>, wire: proto::Route) -> Route {
    let proto::Route { name, model: wire_model, adapters, rules, rate_limit: wire_limit, needs: needed } = wire;
    problems.object = object(&name, Object::Route);
    needs(problems, at, needed);
    namespaced(problems, &at.field("name"), &name);
    count(problems, &at.field("adapters"), adapters.len(), ("adapters", MAX_ADAPTERS));
    count(problems, &at.field("rules"), rules.len(), ("rules", MAX_RULES));
    if wire_model.is_empty() && adapters.is_empty() {
        problems.add(&at.field("model"), Reason::Missing("a route answers for a model, for adapters, or for both"));
    }
    let route = Route {
        name: name.into(),
        model: optional_model(problems, &at.field("model"), wire_model),
        adapters: (adapters.into_iter().enumerate())
            .map(|(i, adapter)| model(problems, &at.item("adapters", i), adapter))
            .collect(),
        rules: rules.into_iter().enumerate().map(|(i, wire)| rule(problems, &at.item("rules", i), wire)).collect(),
        rate_limit: wire_limit.map(|wire| rate_limit(problems, &at.field("rateLimit"), wire)),
    };
    problems.object = None;
    route
}

fn rule(problems: &mut Problems, at: &Path<'_>, wire: proto::Rule) -> Rule {
    let proto::Rule { name, headers, uri, body_model, targets } = wire;
    text(problems, &at.field("name"), &name, MAX_NAME_BYTES);
    count(problems, &at.field("headers"), headers.len(), ("header conditions", MAX_HEADER_MATCHES));
    count(problems, &at.field("targets"), targets.len(), ("targets", MAX_TARGETS));
    if targets.is_empty() {
        problems.add(&at.field("targets"), Reason::Missing("name at least one backend"));
    } else if targets.iter().all(|t| t.weight == Some(0)) {
        problems.add(&at.field("targets"), Reason::NoWeight);
    }
    Rule {
        name,
        headers: header_matches(problems, at, headers),
        uri: uri.map(|wire| string_match(problems, &at.field("uri"), wire)),
        body_model: optional_model(problems, &at.field("bodyModel"), body_model),
        targets: (targets.into_iter().enumerate())
            .map(|(i, wire)| target(problems, &at.item("targets", i), wire))
            .collect(),
    }
}

fn header_matches(
    problems: &mut Problems,
    at: &Path<'_>,
    wire: BTreeMap<String, proto::StringMatch>,
) -> BTreeMap<String, StringMatch> {
    let mut headers = BTreeMap::new();
    for (name, condition) in wire {
        let at = at.entry("headers", &name);
        header_name(problems, &at, &name);
        let condition = string_match(problems, &at, condition);
        match headers.entry(name.to_ascii_lowercase()) {
            Entry::Vacant(slot) => {
                slot.insert(condition);
            }
            Entry::Occupied(other) => {
                let first = format!("the same name in other case, {:?}", other.key());
                problems.add(&at, Reason::Duplicate { what: "header", found: name.clone(), first });
            }
        }
    }
    headers
}

/// RFC 9110 section 5.6.2: a token.
fn header_name(problems: &mut Problems, at: &Path<'_>, name: &str) {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.len() > MAX_NAME_BYTES {
        problems.add(at, Reason::TooLong { found: name.len(), max: MAX_NAME_BYTES });
    } else if name.is_empty() || !name.bytes().all(is_token) {
        let wanted = "a header name has letters, digits and !#$%&'*+-.^_`|~ only";
        problems.add(at, Reason::Malformed { found: name.to_owned(), wanted });
    }
}

fn string_match(problems: &mut Problems, at: &Path<'_>, wire: proto::StringMatch) -> StringMatch {
    use proto::string_match::Match;
    let value = match wire.r#match {
        Some(Match::Exact(value)) => StringMatch::Exact(value),
        Some(Match::Prefix(value)) => StringMatch::Prefix(value),
        Some(Match::Regex(value)) => StringMatch::Regex(value),
        None => {
            problems.add(at, Reason::Missing("say `exact`, `prefix` or `regex`"));
            return StringMatch::Exact(String::new());
        }
    };
    let (StringMatch::Exact(pattern) | StringMatch::Prefix(pattern) | StringMatch::Regex(pattern)) = &value;
    if pattern.len() > MAX_PATTERN_BYTES {
        problems.add(at, Reason::TooLong { found: pattern.len(), max: MAX_PATTERN_BYTES });
    } else if let StringMatch::Regex(pattern) = &value
        && let Err(error) = compile(pattern)
    {
        problems.add(&at.field("regex"), Reason::Regex(error.to_string()));
    }
    value
}

fn target(problems: &mut Problems, at: &Path<'_>, wire: proto::Target) -> Target {
    let proto::Target { backend, weight } = wire;
    namespaced(problems, &at.field("backend"), &backend);
    Target {
        backend: backend.into(),
        weight: number(problems, &at.field("weight"), weight, (MAX_WEIGHT, 0..=MAX_WEIGHT)),
    }
}
