//! A ModelRoute, judged alone and put into the contract's terms.

use std::collections::BTreeMap;

use api::limits::MAX_WEIGHT;
use api::proto;
use api::snapshot::{Route, Target};

use super::contract;
use super::server;
use super::verdict::Reason;
use crate::crd::{ModelMatch, ModelRouteSpec, StringMatch, TargetModel};
use crate::world::ObjectName;

/// A route that can be published.
#[derive(Debug)]
pub(super) struct AcceptedRoute {
    pub(super) route: Route,
    /// Where it answers.
    pub(super) places: Vec<Place>,
    /// What its rules send to, each once.
    pub(super) references: Vec<Reference>,
    /// What of it data planes of this release do not do, and what happens instead.
    pub(super) unserved: Option<(Reason, String)>,
}

/// Where a route answers: model names are unique at each place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// The data planes' own port.
    Port,
    /// A Gateway.
    Gateway(ObjectName),
}

/// What a target names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reference {
    Server(ObjectName),
    Provider(ObjectName),
}

impl AcceptedRoute {
    /// What data planes are told of it: nothing where it is attached to Gateways only.
    pub(super) fn published(&self) -> Option<&Route> {
        self.places.contains(&Place::Port).then_some(&self.route)
    }
}

/// Checks a route by its kind's rules and by the contract's.
pub(super) fn accept(name: &ObjectName, spec: &ModelRouteSpec) -> Result<AcceptedRoute, Vec<String>> {
    one_reference_each(spec)?;
    let rules = spec.rules.iter().map(|rule| {
        let (headers, uri, body_model) = conditions(rule.model_match.as_ref());
        let targets = rule.target_models.iter().map(|target| wire_target(name, target)).collect();
        proto::Rule { name: rule.name.clone().unwrap_or_default(), headers, uri, body_model, targets }
    });
    let wire = proto::Route {
        name: name.to_string(),
        model: spec.model_name.clone().unwrap_or_default(),
        adapters: once_each(spec.lora_adapters.iter().cloned()),
        rules: rules.collect(),
    };
    let mut route = contract::route(wire)?;
    let unserved = unserved(spec);
    if let Some((Reason::NotServed, _)) = unserved {
        refuse(name, &mut route);
    }
    let targets = spec.rules.iter().flat_map(|rule| &rule.target_models);
    Ok(AcceptedRoute {
        route,
        places: places(name, spec),
        references: once_each(targets.map(|target| reference(name, target))),
        unserved,
    })
}

const RATE_LIMITS: &str = "token-rate-limits";
const PROVIDERS: &str = "external-providers";

/// All requests that the route takes are answered 503.
fn refuse(name: &ObjectName, route: &mut Route) {
    for rule in &mut route.rules {
        let backend = server::refusal_name(name, RATE_LIMITS).into();
        rule.targets = vec![Target { backend, weight: MAX_WEIGHT }];
    }
}

/// What the contract's decoder cannot see, for it knows backends only.
fn one_reference_each(spec: &ModelRouteSpec) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    for (i, rule) in spec.rules.iter().enumerate() {
        for (j, target) in rule.target_models.iter().enumerate() {
            let is_named = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
            if is_named(&target.model_server_name) == is_named(&target.external_model_provider_name) {
                let sentence = "exactly one of modelServerName or externalModelProviderName must be set";
                problems.push(format!("rules[{i}].targetModels[{j}]: {sentence}"));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn unserved(spec: &ModelRouteSpec) -> Option<(Reason, String)> {
    if !spec.parent_refs.is_empty() {
        let sentence = "it is attached to Gateways, and data planes of this release have no Gateway listeners: remove \
                        parentRefs to have it answered on their own port";
        return Some((Reason::GatewayNotServed, sentence.to_owned()));
    }
    spec.rate_limit.as_ref().map(|_| {
        let sentence = "data planes of this release do not enforce rateLimit, and none goes without the limit that was \
                        asked for: requests are answered 503 until rateLimit is removed";
        (Reason::NotServed, sentence.to_owned())
    })
}

fn places(name: &ObjectName, spec: &ModelRouteSpec) -> Vec<Place> {
    if spec.parent_refs.is_empty() {
        return vec![Place::Port];
    }
    let gateways = spec.parent_refs.iter().map(|parent| {
        let namespace = parent.namespace.as_deref().unwrap_or(&name.namespace);
        Place::Gateway(ObjectName::new(namespace, parent.name.as_str()))
    });
    once_each(gateways)
}

type Conditions = (BTreeMap<String, proto::StringMatch>, Option<proto::StringMatch>, String);

/// As in Kthena, a StringMatch that says nothing is always true, and so is a body without a model.
fn conditions(model_match: Option<&ModelMatch>) -> Conditions {
    let Some(ModelMatch { headers, uri, body }) = model_match else { return Conditions::default() };
    let headers = headers.iter().filter_map(|(name, on)| Some((name.clone(), string_match(on)?)));
    let body_model = body.as_ref().and_then(|body| body.model.clone()).unwrap_or_default();
    (headers.collect(), uri.as_ref().and_then(string_match), body_model)
}

/// Of several members exact comes first, then prefix, as in Kthena.
fn string_match(on: &StringMatch) -> Option<proto::StringMatch> {
    use proto::string_match::Match;
    let StringMatch { exact, prefix, regex } = on.clone();
    let r#match = exact.map(Match::Exact).or(prefix.map(Match::Prefix)).or(regex.map(Match::Regex))?;
    Some(proto::StringMatch { r#match: Some(r#match) })
}

fn wire_target(route: &ObjectName, target: &TargetModel) -> proto::Target {
    let backend = match reference(route, target) {
        Reference::Server(name) => name.to_string(),
        Reference::Provider(_) => server::refusal_name(route, PROVIDERS),
    };
    proto::Target { backend, weight: Some(target.weight) }
}

fn reference(route: &ObjectName, target: &TargetModel) -> Reference {
    match (&target.model_server_name, &target.external_model_provider_name) {
        (Some(server), _) if !server.is_empty() => Reference::Server(route.sibling(server)),
        (_, provider) => Reference::Provider(route.sibling(provider.as_deref().unwrap_or_default())),
    }
}

fn once_each<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut list = Vec::new();
    for item in items {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    list
}
