//! Which route, rule and backend a request goes to.

use std::sync::Arc;

use api::id::{BackendName, ModelName};
use thiserror::Error;

use crate::table::{BackendTable, CompiledRule, Named, RouteTable, Table};

/// The request's headers as routing sees them.
pub trait HeaderLookup {
    /// The first value of a header, by lower-case name.
    fn first(&self, lower_name: &str) -> Option<&[u8]>;
}

/// Small lists of pairs serve in tests and tools.
impl HeaderLookup for [(&str, &str)] {
    fn first(&self, lower_name: &str) -> Option<&[u8]> {
        self.iter().find(|(name, _)| name.eq_ignore_ascii_case(lower_name)).map(|(_, value)| value.as_bytes())
    }
}

/// What routing looks at.
#[derive(Debug)]
pub struct RouteQuery<'q, H: ?Sized> {
    /// The model that the client asks for.
    pub model: &'q str,
    /// The path without the query.
    pub path: &'q str,
    /// Its headers.
    pub headers: &'q H,
    /// Uniform over all `u64`; decides by weight.
    pub random: u64,
}

/// Where the request goes.
#[derive(Debug, Clone, Copy)]
pub struct Routed<'t> {
    /// The route that matched.
    pub route: &'t Arc<RouteTable>,
    /// Its rule.
    pub rule: &'t CompiledRule,
    /// The backend that the weights chose.
    pub backend: &'t Arc<BackendTable>,
    /// The name to put in place of the request's model; none leaves it as it is.
    pub served_model: Option<&'t ModelName>,
    /// The adapter that the client asked for; none where it asked for a base model.
    pub adapter: Option<&'t ModelName>,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteMiss {
    /// No route has the model, or no rule of those that have it matches: 404.
    #[error("route not found")]
    NoRoute,
    /// The rule's target is not in the table: 404.
    #[error("can't find model server: {0}")]
    BackendMissing(BackendName),
}

/// Finds the first route with the model's name that has a matching rule, and chooses one of that rule's targets. A
/// route without a matching rule gives way to the next one.
pub fn route<'t, H: HeaderLookup + ?Sized>(
    table: &'t Table,
    query: &RouteQuery<'_, H>,
) -> Result<Routed<'t>, RouteMiss> {
    for (route, named) in table.candidates(query.model) {
        let Some(rule) = route.rules.iter().find(|rule| holds(rule, query)) else { continue };
        let Some(target) = rule.pick(query.random) else { continue };
        let Some(backend) = &target.backend else {
            return Err(RouteMiss::BackendMissing(target.name.clone()));
        };
        let adapter = match named {
            Named::Base => None,
            Named::Adapter => route.adapters.iter().find(|name| name.as_str() == query.model),
        };
        let served_model = if adapter.is_some() { None } else { backend.model.as_ref() };
        return Ok(Routed { route, rule, backend, served_model, adapter });
    }
    Err(RouteMiss::NoRoute)
}

/// Whether all conditions of a rule hold. An absent header is the empty string.
fn holds<H: HeaderLookup + ?Sized>(rule: &CompiledRule, query: &RouteQuery<'_, H>) -> bool {
    rule.body_model.as_ref().is_none_or(|model| model.as_str() == query.model)
        && rule.headers.iter().all(|(name, on)| on.matches(query.headers.first(name).unwrap_or_default()))
        && rule.uri.as_ref().is_none_or(|on| on.matches(query.path.as_bytes()))
}

#[cfg(test)]
mod tests;
