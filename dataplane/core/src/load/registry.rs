//! Which live numbers belong to whom. Cold path: only the thread that compiles tables uses it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::id::{BackendName, EndpointKey};
use regex::bytes::Regex;

use super::{BackendLive, Live};
use crate::table::Place;

/// Hands out the same numbers for the same key as long as a table or a request holds them.
#[derive(Debug, Default)]
pub struct LiveRegistry {
    endpoints: HashMap<EndpointKey, Weak<Live>, ahash::RandomState>,
    backends: HashMap<BackendName, Weak<BackendLive>, ahash::RandomState>,
    /// Compiled patterns by source, with whether the table being compiled uses them.
    patterns: HashMap<Box<str>, (Option<Regex>, bool)>,
    place: Place,
}

impl LiveRegistry {
    /// Knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows nobody but where this proxy runs, so that tables prefer what is near.
    pub fn at(place: Place) -> Self {
        Self { place, ..Self::default() }
    }

    /// Where this proxy runs.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Makes room for so many endpoints at once.
    pub(crate) fn reserve(&mut self, endpoints: usize) {
        self.endpoints.reserve(endpoints.saturating_sub(self.endpoints.len()));
    }

    /// The numbers of an endpoint.
    pub fn endpoint(&mut self, key: &EndpointKey) -> Arc<Live> {
        if let Some(live) = self.endpoints.get(key).and_then(Weak::upgrade) {
            return live;
        }
        let live = Arc::new(Live::new());
        self.endpoints.insert(key.clone(), Arc::downgrade(&live));
        live
    }

    /// The numbers of a backend.
    pub fn backend(&mut self, name: &BackendName) -> Arc<BackendLive> {
        if let Some(live) = self.backends.get(name).and_then(Weak::upgrade) {
            return live;
        }
        let live = Arc::new(BackendLive::new());
        self.backends.insert(name.clone(), Arc::downgrade(&live));
        live
    }

    /// A compiled pattern; none where it does not compile, which a decoded snapshot excludes.
    pub(crate) fn pattern(&mut self, source: &str) -> Option<Regex> {
        if let Some((regex, used)) = self.patterns.get_mut(source) {
            *used = true;
            return regex.clone();
        }
        let regex = api::decode::compile(source).ok();
        self.patterns.insert(source.into(), (regex.clone(), true));
        regex
    }

    /// Forgets what nobody holds and what the table just compiled does not use.
    pub(crate) fn prune(&mut self) {
        self.endpoints.retain(|_, live| live.strong_count() > 0);
        self.backends.retain(|_, live| live.strong_count() > 0);
        self.patterns.retain(|_, (_, used)| std::mem::take(used));
    }

    /// How many endpoints are known.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether no endpoint is known.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}
