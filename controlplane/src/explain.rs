//! Which route and rule a request goes by, and why; the data plane's own walk (`dataplane-core::route`), told step by step.

use std::collections::BTreeMap;

use api::id::{BackendName, ModelName, RouteName};
use api::limits::MAX_REGEX_BYTES;
use api::snapshot::{Backend, Route, Rule, Snapshot, StringMatch};

mod text;

/// A request as routing sees it.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The model that the client asks for.
    pub model: String,
    /// Without the query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

/// The walk and where it ended.
#[derive(Debug)]
pub struct Explanation<'s> {
    /// What was asked.
    pub query: &'s Query,
    /// Routes in the order in which they were tried; the last one won where there is an end.
    pub tried: Vec<Tried<'s>>,
    /// Where the request goes; none is 404.
    pub end: Option<End<'s>>,
}

/// One route that has the model's name.
#[derive(Debug)]
pub struct Tried<'s> {
    /// The route.
    pub route: &'s RouteName,
    /// By which of its names it was found.
    pub named: Named,
    /// Its rules in the order in which they were tried: the label, and why it does not hold.
    pub rules: Vec<(&'s str, Option<Miss>)>,
}

/// By which of its names a route was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// `modelName`.
    Model,
    /// One of `loraAdapters`.
    Adapter,
}

/// The first condition of a rule that does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Miss {
    /// As `header user-type`.
    pub what: String,
    /// What the request has there.
    pub found: String,
    /// What the rule wants.
    pub wanted: StringMatch,
}

/// The rule that won.
#[derive(Debug)]
pub struct End<'s> {
    /// Of this route.
    pub route: &'s RouteName,
    /// From 0.
    pub rule: usize,
    /// Whether the client asked for an adapter, so that its model name is kept.
    pub named: Named,
    /// Where the weights may lead.
    pub choices: Vec<Choice<'s>>,
}

/// One weighted target.
#[derive(Debug)]
pub struct Choice<'s> {
    /// Its name.
    pub backend: &'s BackendName,
    /// Of the rule's requests, in percent.
    pub share: f64,
    /// None where there is none: requests are answered 404.
    pub found: Option<&'s Backend>,
}

/// Walks the snapshot as a data plane does.
pub fn explain<'s>(snapshot: &'s Snapshot, query: &'s Query) -> Explanation<'s> {
    let mut explanation = Explanation { query, tried: Vec::new(), end: None };
    for (route, named) in candidates(snapshot, &query.model) {
        let mut tried = Tried { route: &route.name, named, rules: Vec::new() };
        for (i, rule) in route.rules.iter().enumerate() {
            let miss = miss(rule, query);
            let holds = miss.is_none();
            tried.rules.push((rule.name.as_str(), miss));
            if holds {
                let choices = choices(snapshot, rule);
                explanation.end = Some(End { route: &route.name, rule: i, named, choices });
                break;
            }
        }
        explanation.tried.push(tried);
        if explanation.end.is_some() {
            break;
        }
    }
    explanation
}

/// Those that have the name as their model, then those that have it as an adapter; in each, the snapshot's order.
fn candidates<'s>(snapshot: &'s Snapshot, model: &'s str) -> impl Iterator<Item = (&'s Route, Named)> {
    let is = move |name: &ModelName| name.as_str() == model;
    let base = snapshot.routes.iter().filter(move |route| route.model.as_ref().is_some_and(is));
    let adapter = snapshot.routes.iter().filter(move |route| route.adapters.iter().any(is));
    base.map(|route| (route, Named::Model)).chain(adapter.map(|route| (route, Named::Adapter)))
}

fn miss(rule: &Rule, query: &Query) -> Option<Miss> {
    let wanted_model = rule.body_model.as_ref().filter(|model| model.as_str() != query.model);
    let model = wanted_model.map(|model| Miss {
        what: "model".to_owned(),
        found: query.model.clone(),
        wanted: StringMatch::Exact(model.to_string()),
    });
    let headers = rule.headers.iter().find_map(|(name, wanted)| {
        let found = query.headers.get(name).cloned().unwrap_or_default();
        (!holds(wanted, &found)).then(|| Miss { what: format!("header {name}"), found, wanted: wanted.clone() })
    });
    let uri = rule.uri.as_ref().filter(|wanted| !holds(wanted, &query.path)).map(|wanted| Miss {
        what: "path".to_owned(),
        found: query.path.clone(),
        wanted: wanted.clone(),
    });
    model.or(headers).or(uri)
}

fn holds(wanted: &StringMatch, found: &str) -> bool {
    match wanted {
        StringMatch::Exact(text) => found == text,
        StringMatch::Prefix(text) => found.starts_with(text),
        // A pattern that the contract's decoder took compiles; one that does not matches nothing, as in the data plane.
        StringMatch::Regex(pattern) => regex::bytes::RegexBuilder::new(pattern)
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES)
            .build()
            .is_ok_and(|regex| regex.is_match(found.as_bytes())),
    }
}

fn choices<'s>(snapshot: &'s Snapshot, rule: &'s Rule) -> Vec<Choice<'s>> {
    let sum: u32 = rule.targets.iter().map(|target| target.weight).sum();
    let choice = |target: &'s api::snapshot::Target| Choice {
        backend: &target.backend,
        share: f64::from(target.weight) * 100.0 / f64::from(sum.max(1)),
        found: snapshot.backends.iter().find(|backend| backend.name == target.backend),
    };
    rule.targets.iter().map(choice).collect()
}
