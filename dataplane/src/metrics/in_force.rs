//! Which names the table in force has.

use std::collections::{HashMap, HashSet};

use api::id::ModelName;
use dataplane_core::table::Table;

/// What is no name of anything: that there is none, that it is not known, that there were too many, that it is not told.
const NO_NAMES: [&str; 4] = ["none", "unknown", "other", ""];

/// Names of a table.
#[derive(Debug, Default)]
pub struct InForce<'t> {
    models: HashSet<&'t str>,
    routes: HashSet<&'t str>,
    /// And under which model name each is asked, if it is asked under one.
    backends: HashMap<&'t str, Option<&'t str>>,
}

impl<'t> InForce<'t> {
    /// Those of this table.
    pub fn of(table: &'t Table) -> Self {
        Self {
            models: table.models().iter().map(|model| &**model).collect(),
            routes: table.routes().iter().map(|route| route.name.as_str()).collect(),
            backends: table.backends().map(|b| (b.name.as_str(), b.model.as_ref().map(ModelName::as_str))).collect(),
        }
    }

    pub(super) fn model(&self, name: &str) -> bool {
        NO_NAMES.contains(&name) || self.models.contains(name)
    }

    pub(super) fn route(&self, name: &str) -> bool {
        NO_NAMES.contains(&name) || self.routes.contains(name)
    }

    /// Whether there is this backend, and it is asked under this name.
    pub(super) fn backend(&self, name: &str, upstream_model: &str) -> bool {
        let unnamed = NO_NAMES.contains(&upstream_model);
        NO_NAMES.contains(&name)
            || self.backends.get(name).is_some_and(|model| unnamed || *model == Some(upstream_model))
    }
}

#[cfg(test)]
impl<'t> InForce<'t> {
    /// Of these names; backends are asked under the clients' names.
    pub(super) fn named(models: &[&'t str], routes: &[&'t str], backends: &[&'t str]) -> Self {
        Self {
            models: models.iter().copied().collect(),
            routes: routes.iter().copied().collect(),
            backends: backends.iter().map(|name| (*name, None)).collect(),
        }
    }
}
