//! A ModelRoute, judged alone and put into the contract's terms.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::limits::MAX_WEIGHT;
use api::snapshot::{Route, Rule, Target};

use super::verdict::Reason;
use super::{contract, sentences, server};
use crate::crd::ModelRouteSpec;
use crate::model_route::{TargetName, ValidRoute, ValidRule, ValidTarget, validate};
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
    let valid = validate(spec).map_err(|problems| sentences(&problems))?;
    let (places, references, unserved) = (places(name, &valid), references(name, &valid), unserved(&valid));
    let ValidRoute { model, adapters, parents: _, rules, rate_limit: _ } = valid;
    let rules = rules.into_iter().map(|rule| published_rule(name, rule)).collect();
    // A route with a limit is refused as a whole, so its limit need not go along.
    let route = Route { name: name.to_string().into(), model, adapters, rules, rate_limit: None };
    let mut route = contract::route(route)?;
    if let Some((Reason::NotServed, _)) = unserved {
        refuse(name, &mut route);
    }
    Ok(AcceptedRoute { route, places, references, unserved })
}

const RATE_LIMITS: &str = "token-rate-limits";
const PROVIDERS: &str = "external-providers";
const UNKNOWN: &str = "unknown-to-the-data-plane";

/// All requests that the route takes are answered 503.
fn refuse(name: &ObjectName, route: &mut Route) {
    for rule in Arc::make_mut(&mut route.rules) {
        let backend = server::refusal_name(name, RATE_LIMITS).into();
        rule.targets = vec![Target { backend, weight: MAX_WEIGHT }];
    }
}

/// The same of a route of which a data plane does not know what it takes: all requests for its models.
pub(super) fn refused(route: &Route) -> Route {
    let (namespace, name) = route.name.as_str().split_once('/').unwrap_or_default();
    let backend = server::refusal_name(&ObjectName::new(namespace, name), UNKNOWN).into();
    let targets = vec![Target { backend, weight: MAX_WEIGHT }];
    let rule = Rule { name: String::new(), headers: BTreeMap::new(), uri: None, body_model: None, targets };
    let Route { name, model, adapters, rules: _, rate_limit: _ } = route.clone();
    Route { name, model, adapters, rules: [rule].into(), rate_limit: None }
}

fn unserved(route: &ValidRoute) -> Option<(Reason, String)> {
    if !route.parents.is_empty() {
        let sentence = "it is attached to Gateways, and data planes of this release have no Gateway listeners: remove \
                        parentRefs to have it answered on their own port";
        return Some((Reason::GatewayNotServed, sentence.to_owned()));
    }
    route.rate_limit.as_ref().map(|_| {
        let sentence = "data planes of this release do not enforce rateLimit, and none goes without the limit that was \
                        asked for: requests are answered 503 until rateLimit is removed";
        (Reason::NotServed, sentence.to_owned())
    })
}

fn places(name: &ObjectName, route: &ValidRoute) -> Vec<Place> {
    if route.parents.is_empty() {
        return vec![Place::Port];
    }
    let gateways = route.parents.iter().map(|parent| {
        let namespace = parent.namespace.as_deref().unwrap_or(&name.namespace);
        Place::Gateway(ObjectName::new(namespace, parent.name.as_str()))
    });
    once_each(gateways)
}

fn references(name: &ObjectName, route: &ValidRoute) -> Vec<Reference> {
    let targets = route.rules.iter().flat_map(|rule| &rule.targets);
    once_each(targets.map(|target| match &target.to {
        TargetName::ModelServer(server) => Reference::Server(name.sibling(server)),
        TargetName::ExternalModelProvider(provider) => Reference::Provider(name.sibling(provider)),
    }))
}

fn published_rule(route: &ObjectName, rule: ValidRule) -> Rule {
    let ValidRule { name, headers, uri, body_model, targets } = rule;
    let target = |ValidTarget { to, weight }| {
        let backend = match to {
            TargetName::ModelServer(server) => route.sibling(&server).to_string(),
            TargetName::ExternalModelProvider(_) => server::refusal_name(route, PROVIDERS),
        };
        Target { backend: backend.into(), weight }
    };
    Rule { name, headers, uri, body_model, targets: targets.into_iter().map(target).collect() }
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
