//! A backend of many endpoints of which one changes: only that one is sent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use prost::Message as _;

use super::list;
use crate::decode::path::{Path, Problems};
use crate::decode::{self, Object, Reason};
use crate::id::BackendName;
use crate::snapshot::{Backend, Endpoint};
use crate::{encode, proto};

/// Endpoints that an edit places or removes at most: it has to fit one message. More of them and the whole backend is
/// sent, which can be split.
const MOST: usize = 1_024;
/// Bytes of an edit, for the same reason: endpoints carry all labels of their pods.
const MOST_BYTES: usize = 256 << 10;

/// How the new backend's endpoints differ; none where more than they differs, or too many do.
pub(super) fn edit(old: &Backend, new: &Backend) -> Option<proto::EndpointsEdit> {
    if !same_but_endpoints(old, new) {
        return None;
    }
    let change = list::diff(&old.endpoints, &new.endpoints, |old, new| Arc::ptr_eq(old, new) || old == new);
    if change.len() > MOST.min(new.endpoints.len().max(1)) {
        return None;
    }
    let upsert = |position, e: &Arc<_>| proto::EndpointUpsert { position, endpoint: Some(encode::endpoint(e)) };
    let edit = proto::EndpointsEdit {
        backend: new.name.to_string(),
        upserts: change.upserts(upsert),
        removals: change.removals,
    };
    (edit.encoded_len() <= MOST_BYTES).then_some(edit)
}

fn same_but_endpoints(old: &Backend, new: &Backend) -> bool {
    let Backend {
        name,
        engine,
        model,
        endpoints: _,
        profile,
        timeouts,
        retry,
        ejection,
        max_in_flight,
        usage,
        credentials,
        chat_template,
    } = old;
    (name, engine, model, profile, timeouts) == (&new.name, &new.engine, &new.model, &new.profile, &new.timeouts)
        && (retry, ejection, max_in_flight) == (&new.retry, &new.ejection, &new.max_in_flight)
        && (usage, credentials, chat_template) == (&new.usage, &new.credentials, &new.chat_template)
}

/// Carries edits out on backends that are in their new order; `placed` are those that came whole. Returns the endpoints that they place.
pub(super) fn apply(
    problems: &mut Problems,
    backends: &mut [Backend],
    edits: Vec<proto::EndpointsEdit>,
    mut placed: HashSet<BackendName>,
) -> Vec<Arc<Endpoint>> {
    let mut brought = Vec::new();
    if edits.is_empty() {
        return brought;
    }
    let places: HashMap<BackendName, usize> = backends.iter().enumerate().map(|(i, b)| (b.name.clone(), i)).collect();
    let root = Path::root();
    for (n, proto::EndpointsEdit { backend, upserts, removals }) in edits.into_iter().enumerate() {
        let at = root.item("endpointEdits", n);
        let name = BackendName::from(backend);
        problems.object = Some(Object::Backend(name.clone()));
        match places.get(&name).filter(|_| placed.insert(name.clone())) {
            None => problems.add(&at, Reason::Unfit("it edits a backend that is not held, is placed too, or twice")),
            Some(place) => {
                let mut decoded = Vec::new();
                for proto::EndpointUpsert { position, endpoint } in upserts {
                    let at = at.item("endpoints", position as usize);
                    let endpoint = decode::endpoint(problems, &at, endpoint.unwrap_or_default());
                    decoded.push((position, Arc::new(endpoint)));
                }
                brought.extend(decoded.iter().map(|(_, endpoint)| Arc::clone(endpoint)));
                let backend = &mut backends[*place];
                backend.endpoints = list::Edit { upserts: decoded, removals }.apply(problems, &at, &backend.endpoints);
            }
        }
        problems.object = None;
    }
    brought
}
