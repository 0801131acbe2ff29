//! Which live numbers belong to whom. Cold path: only the thread that compiles tables uses it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use api::id::{BackendName, EndpointKey};
use api::limits::{MAX_BACKENDS, MAX_ENDPOINTS};
use api::snapshot::Endpoint;
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
    /// What the next table is likely to have, in its order; it lives until then, or until the rest of it no longer comes.
    expected: VecDeque<Expected>,
    expected_backends: Vec<Arc<BackendLive>>,
    place: Place,
}

/// An endpoint that the next table is likely to have as it is, with what it is then asked for.
#[derive(Debug)]
pub(crate) struct Expected {
    endpoint: Arc<Endpoint>,
    pub(crate) live: Arc<Live>,
    pub(crate) seat: Option<u32>,
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

    /// From the next table on this proxy runs there.
    pub fn move_to(&mut self, place: Place) {
        self.place = place;
    }

    /// Where this proxy runs.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Makes room for so many endpoints at once.
    pub(crate) fn reserve(&mut self, endpoints: usize) {
        self.endpoints.reserve(endpoints.saturating_sub(self.endpoints.len()));
    }

    /// Makes the numbers of an endpoint before a table asks for them: for ten thousand that takes milliseconds. A seat is its own
    /// until [`prune`](Self::prune) is called.
    pub fn expect(&mut self, endpoint: &Arc<Endpoint>, seat: Option<u32>) {
        // A snapshot has no more.
        if self.expected.len() < MAX_ENDPOINTS {
            let live = self.endpoint(&endpoint.key);
            self.expected.push_back(Expected { endpoint: Arc::clone(endpoint), live, seat });
        }
    }

    /// The rest of what the next table was to have does not come: another one comes in its place, of which nothing is expected yet. Whatever
    /// stays in front would hide it.
    pub fn expect_nothing(&mut self) {
        (self.expected, self.expected_backends) = (VecDeque::new(), Vec::new());
    }

    /// The next of those that were expected, where it is this one: it is not looked for among all.
    pub(crate) fn take_expected(&mut self, endpoint: &Arc<Endpoint>) -> Option<Expected> {
        self.expected.pop_front_if(|expected| Arc::ptr_eq(&expected.endpoint, endpoint))
    }

    /// The same for a backend.
    pub fn expect_backend(&mut self, name: &BackendName) {
        if self.expected_backends.len() < MAX_BACKENDS {
            let live = self.backend(name);
            self.expected_backends.push(live);
        }
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

    /// Forgets what nobody holds and what the table that was compiled last does not use.
    pub fn prune(&mut self) {
        self.expect_nothing();
        self.endpoints.retain(|_, live| live.strong_count() > 0);
        self.backends.retain(|_, live| live.strong_count() > 0);
        self.patterns.retain(|_, (_, used)| std::mem::take(used));
    }

    /// How many endpoints are known.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// How many compiled patterns are kept.
    #[cfg(test)]
    pub(crate) fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Whether no endpoint is known.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}
