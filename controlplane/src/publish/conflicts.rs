//! Whom a model name belongs to: at each gateway, to the namespace of the oldest route that answers for it.

use std::collections::HashMap;

use api::id::ModelName;
use api::snapshot::Route;

use super::route::Place;
use crate::world::ObjectName;

/// Names that are taken, filled oldest route first.
#[derive(Debug, Default)]
pub(super) struct Owners<'r> {
    by_name: HashMap<(&'r Place, &'r ModelName), &'r ObjectName>,
}

/// A name that is another namespace's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) model: ModelName,
    /// The oldest route that answers for it.
    pub(super) owner: ObjectName,
}

impl<'r> Owners<'r> {
    /// Takes all names of a route, or none. A route that takes none is in nobody's way.
    pub(super) fn claim(
        &mut self,
        name: &'r ObjectName,
        places: &'r [Place],
        route: &'r Route,
    ) -> Result<(), Conflict> {
        let names = || route.model.iter().chain(&route.adapters);
        for place in places {
            for model in names() {
                if let Some(owner) = self.by_name.get(&(place, model))
                    && owner.namespace != name.namespace
                {
                    return Err(Conflict { model: model.clone(), owner: (*owner).clone() });
                }
            }
        }
        for place in places {
            for model in names() {
                self.by_name.entry((place, model)).or_insert(name);
            }
        }
        Ok(())
    }
}
