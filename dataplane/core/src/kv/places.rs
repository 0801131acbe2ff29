//! Whose a handle is, by the snapshot in force. The maps are made when they are first asked for: most processes are told
//! of no blocks, and a snapshot has to be in force within milliseconds.

use std::collections::HashMap;
use std::sync::Arc;

use api::id::EndpointKey;
use api::snapshot::{Endpoint, Snapshot};

#[derive(Debug, Default)]
pub(super) struct Places {
    snapshot: Arc<Snapshot>,
    maps: Option<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    by_handle: HashMap<u32, Arc<Endpoint>, ahash::RandomState>,
    by_key: HashMap<EndpointKey, u32, ahash::RandomState>,
}

impl Places {
    pub(super) fn of(snapshot: &Arc<Snapshot>) -> Self {
        Self { snapshot: snapshot.clone(), maps: None }
    }

    /// The epoch that its handles belong to.
    pub(super) fn epoch(&self) -> u64 {
        self.snapshot.version.epoch
    }

    pub(super) fn key_of(&mut self, handle: u32) -> Option<&EndpointKey> {
        self.maps().by_handle.get(&handle).map(|endpoint| &endpoint.key)
    }

    pub(super) fn handle_of(&mut self, key: &EndpointKey) -> Option<u32> {
        self.maps().by_key.get(key).copied()
    }

    fn maps(&mut self) -> &Maps {
        self.maps.get_or_insert_with(|| {
            let mut maps = Maps::default();
            for endpoint in self.snapshot.backends.iter().flat_map(|backend| &backend.endpoints) {
                maps.by_handle.insert(endpoint.handle, endpoint.clone());
                maps.by_key.insert(endpoint.key.clone(), endpoint.handle);
            }
            maps
        })
    }
}
