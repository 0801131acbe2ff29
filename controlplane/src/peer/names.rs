//! Endpoints by handle and by key, as the newest snapshot has them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use api::id::EndpointKey;
use api::snapshot::Snapshot;
use tokio::sync::watch;

/// Of one snapshot.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Names {
    pub(super) keys: HashMap<u32, EndpointKey>,
    pub(super) handles: HashMap<EndpointKey, u32>,
}

impl Names {
    fn of(snapshot: &Snapshot) -> Self {
        let endpoints = snapshot.backends.iter().flat_map(|backend| &backend.endpoints);
        let mut names = Self::default();
        for endpoint in endpoints {
            if names.keys.insert(endpoint.handle, endpoint.key.clone()).is_none() {
                names.handles.insert(endpoint.key.clone(), endpoint.handle);
            }
        }
        names
    }
}

/// Of the newest one. They are made when they are asked for, once for all who ask.
#[derive(Debug)]
pub(super) struct Index {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    made: Mutex<(Option<Arc<Snapshot>>, Arc<Names>)>,
}

impl Index {
    pub(super) fn new(snapshots: watch::Receiver<Option<Arc<Snapshot>>>) -> Self {
        Self { snapshots, made: Mutex::default() }
    }

    /// The same ones for as long as no endpoint comes or goes.
    pub(super) fn newest(&self) -> Arc<Names> {
        let newest = self.snapshots.borrow().clone();
        let mut made = self.made.lock().expect("no thread panics while it makes names");
        if newest.as_ref().map(Arc::as_ptr) != made.0.as_ref().map(Arc::as_ptr) {
            let names = newest.as_deref().map(Names::of).unwrap_or_default();
            if *made.1 != names {
                made.1 = Arc::new(names);
            }
            made.0 = newest;
        }
        made.1.clone()
    }
}
