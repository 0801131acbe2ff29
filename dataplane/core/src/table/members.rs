//! The other way round: endpoints, and the backends that they are members of. For what looks at all of them, off the cores.

use std::collections::HashMap;

use api::id::EndpointKey;

use super::{BackendTable, EndpointEntry, Table};

/// An endpoint, once, however many backends it is a member of.
#[derive(Debug)]
pub struct Membership<'t> {
    /// As the first of its backends sees it; its live numbers and its seat are the same in all of them.
    pub entry: &'t EndpointEntry,
    /// By name; at least one.
    pub backends: Vec<&'t BackendTable>,
}

impl Table {
    /// Every endpoint once, by the name of the first backend that has it and by the slot there.
    pub fn endpoints(&self) -> Vec<Membership<'_>> {
        let mut backends: Vec<&BackendTable> = self.backends().map(|backend| &**backend).collect();
        backends.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut places: HashMap<&EndpointKey, usize, ahash::RandomState> = HashMap::default();
        let mut endpoints: Vec<Membership<'_>> = Vec::new();
        for backend in backends {
            for entry in &backend.slots {
                let place = *places.entry(&entry.endpoint.key).or_insert(endpoints.len());
                match endpoints.get_mut(place) {
                    Some(known) => known.backends.push(backend),
                    None => endpoints.push(Membership { entry, backends: vec![backend] }),
                }
            }
        }
        endpoints
    }
}
