//! A snapshot in few words: what is the default is not said.
#![expect(for_loops_over_fallibles, reason = "each part is written where there is one")]

use std::fmt::Write as _;

use api::limits;
use api::snapshot::{Backend, Endpoint, Role, Route, Rule, Snapshot, StringMatch};

pub(super) fn of(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for profile in &snapshot.profiles {
        writeln!(out, "profile {} {:?} {:?}", profile.name, profile.filters, profile.scorers).unwrap();
    }
    snapshot.routes.iter().for_each(|route| self::route(&mut out, route));
    snapshot.backends.iter().for_each(|backend| self::backend(&mut out, backend));
    out
}

fn route(out: &mut String, route: &Route) {
    write!(out, "route {}", route.name).unwrap();
    for model in &route.model {
        write!(out, " model {model}").unwrap();
    }
    for adapter in &route.adapters {
        write!(out, " adapter {adapter}").unwrap();
    }
    writeln!(out).unwrap();
    route.rules.iter().for_each(|rule| self::rule(out, rule));
}

fn rule(out: &mut String, rule: &Rule) {
    write!(out, "  rule").unwrap();
    if !rule.name.is_empty() {
        write!(out, " {:?}", rule.name).unwrap();
    }
    for (name, on) in &rule.headers {
        write!(out, " header {name} {}", self::on(on)).unwrap();
    }
    for uri in &rule.uri {
        write!(out, " path {}", on(uri)).unwrap();
    }
    for model in &rule.body_model {
        write!(out, " model = {model}").unwrap();
    }
    for target in &rule.targets {
        write!(out, " → {} {}", target.backend, target.weight).unwrap();
    }
    writeln!(out).unwrap();
}

fn on(on: &StringMatch) -> String {
    match on {
        StringMatch::Exact(text) => format!("= {text}"),
        StringMatch::Prefix(text) => format!("^ {text}"),
        StringMatch::Regex(text) => format!("~ {text}"),
    }
}

fn backend(out: &mut String, backend: &Backend) {
    write!(out, "backend {} {:?}", backend.name, backend.engine).unwrap();
    for model in &backend.model {
        write!(out, " serves {model}").unwrap();
    }
    for profile in &backend.profile {
        write!(out, " profile {profile}").unwrap();
    }
    let (timeouts, retry) = (&backend.timeouts, &backend.retry);
    for (name, value, default) in [
        ("first byte", timeouts.first_byte, limits::FIRST_BYTE_TIMEOUT),
        ("total", timeouts.total, limits::TOTAL_TIMEOUT),
        ("retry after", retry.interval, limits::RETRY_INTERVAL),
    ] {
        if value != default {
            write!(out, " {name} {value:?}").unwrap();
        }
    }
    if retry.attempts != limits::RETRY_ATTEMPTS {
        write!(out, " retries {}", retry.attempts).unwrap();
    }
    writeln!(out).unwrap();
    backend.endpoints.iter().for_each(|endpoint| self::endpoint(out, endpoint));
}

fn endpoint(out: &mut String, endpoint: &Endpoint) {
    write!(out, "  #{} {} {} uid {}", endpoint.handle, endpoint.name, endpoint.address, endpoint.key.uid).unwrap();
    let role = match endpoint.role {
        Role::Both => None,
        Role::Prefill => Some("prefill"),
        Role::Decode => Some("decode"),
    };
    for role in role {
        write!(out, " {role}").unwrap();
    }
    for (what, value) in [
        ("group", &endpoint.group),
        ("revision", &endpoint.revision),
        ("node", &endpoint.node),
        ("zone", &endpoint.zone),
    ] {
        for value in value {
            write!(out, " {what} {value}").unwrap();
        }
    }
    writeln!(out).unwrap();
}
