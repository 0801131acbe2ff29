//! Forms of refused objects that a data plane tells that it holds, perhaps from another process of the control plane; and what
//! becomes of the endpoints of held forms in the newest state.

use std::collections::HashMap;
use std::sync::Arc;

use api::hash::content_hash;
use api::id::EndpointKey;
use api::snapshot::{Backend, Endpoint, Snapshot};
use api::{decode, proto};
use prost::Message as _;

use crate::publish::handles::Handles;

/// What was told with one refusal.
#[derive(Debug)]
pub(super) struct Told {
    objects: Snapshot,
    content_hash: u64,
    /// As it came.
    bytes: usize,
}

impl Told {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn objects(&self) -> &Snapshot {
        &self.objects
    }

    /// Equal for equal forms.
    pub(super) fn content_hash(&self) -> u64 {
        self.content_hash
    }
}

/// The same as it was told: its handles may be of another epoch, and would name other endpoints here.
#[derive(Debug)]
pub(super) struct Foreign {
    objects: Snapshot,
    bytes: usize,
}

impl Foreign {
    /// None where it makes no sense here: a later data plane may hold what is not known yet.
    pub(super) fn new(wire: proto::Snapshot) -> Option<Self> {
        let bytes = wire.encoded_len();
        let objects = decode::objects_alone(wire).ok()?;
        Some(Self { objects, bytes })
    }

    /// With handles that name nothing else here, whichever form an endpoint is in; none where there are none left.
    pub(super) fn adopt(self, handles: &mut Handles) -> Option<Told> {
        let Self { mut objects, bytes } = self;
        for endpoint in objects.backends.iter_mut().flat_map(|backend| &mut backend.endpoints) {
            let handle = handles.of(&endpoint.key)?;
            Arc::make_mut(endpoint).handle = handle;
        }
        let content_hash = content_hash(&objects);
        Some(Told { objects, content_hash, bytes })
    }
}

/// The newest state's endpoints. Those that only refused backends have lend nothing but their handle, for they may be what was
/// refused.
pub(super) struct Newest<'a>(HashMap<&'a EndpointKey, (&'a Arc<Endpoint>, bool)>);

impl<'a> Newest<'a> {
    pub(super) fn of(current: &'a Snapshot, is_refused: impl Fn(&Backend) -> bool) -> Self {
        let (refused, good): (Vec<_>, Vec<_>) = current.backends.iter().partition(|backend| is_refused(backend));
        let of = |backends: Vec<&'a Backend>, good| {
            let endpoints = backends.into_iter().flat_map(|backend| &backend.endpoints);
            endpoints.map(move |endpoint| (&endpoint.key, (endpoint, good)))
        };
        // Of two the later one stays.
        Self(of(refused, false).chain(of(good, true)).collect())
    }

    /// The form of a backend that is held, in agreement with the others about endpoints that are theirs too.
    pub(super) fn settle(&self, held: &Backend) -> Backend {
        let settled = |member: &Arc<Endpoint>| match self.0.get(&member.key) {
            None => member.clone(),
            Some((newest, true)) => unless_equal(member, as_seen(member, newest)),
            Some((newest, false)) => {
                unless_equal(member, Endpoint { handle: newest.handle, ..Endpoint::clone(member) })
            }
        };
        Backend { endpoints: held.endpoints.iter().map(settled).collect(), ..held.clone() }
    }
}

/// An endpoint's own facts as they are now, and how a backend sees its member as it did.
fn as_seen(member: &Endpoint, newest: &Endpoint) -> Endpoint {
    let Endpoint { labels, role, group, revision, .. } = member.clone();
    Endpoint { labels, role, group, revision, ..newest.clone() }
}

fn unless_equal(old: &Arc<Endpoint>, new: Endpoint) -> Arc<Endpoint> {
    if **old == new { old.clone() } else { Arc::new(new) }
}

#[cfg(test)]
mod tests;
