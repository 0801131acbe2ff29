//! From messages to a snapshot: each is decoded as it comes, after the last one all of it is applied to what is held, and the
//! answer says how it went.

use std::sync::Arc;

use api::decode::{Problem, Reason};
use api::delta::{ApplyError, Incoming};
use api::id::BackendName;
use api::limits::MAX_SNAPSHOT_BYTES;
use api::proto::config_ack::Result as Answer;
use api::proto::{Applied, ConfigUpdate, Refused, Resync, Version};
use api::snapshot::Snapshot;
use api::{encode, hash};

use crate::tables::Expected;

/// What is in force, and its content hash.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) content_hash: u64,
}

impl Held {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        let content_hash = hash::content_hash(&snapshot);
        Self { snapshot, content_hash }
    }

    /// As a subscription says it. The empty state of no version is nothing.
    pub(super) fn version(&self) -> Option<Version> {
        let version = self.snapshot.version;
        (version != api::snapshot::Version::default()).then(|| wire(version))
    }

    /// The answer once it is in force.
    pub(super) fn applied(&self) -> Answer {
        Answer::Applied(Applied { version: Some(wire(self.snapshot.version)), content_hash: self.content_hash })
    }
}

/// What a whole update comes to.
#[derive(Debug)]
pub(super) enum Decided {
    /// Put it in force, then say so.
    Install(Arc<Snapshot>),
    /// Stay with what is held, because of these.
    Refuse(Vec<Problem>),
    /// It was meant for someone who holds something else.
    Resync(Version),
}

impl Decided {
    /// The answer where what is held stays in force, which says what that is of the refused objects.
    pub(super) fn refusal(problems: &[Problem], held: &Snapshot) -> Answer {
        Answer::Refused(Refused { refusals: encode::refusals(problems, held) })
    }

    pub(super) fn resync(held: Version) -> Answer {
        Answer::Resync(Resync { held: Some(held) })
    }
}

/// Puts the messages of one update after the other together.
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// Of the update of which more is to come.
    nonce: Option<u64>,
    incoming: Incoming,
    too_large: bool,
}

impl Updates {
    /// Takes a message; the whole update's nonce and outcome after its last one.
    pub(super) fn take(&mut self, update: ConfigUpdate, held: &Held) -> Option<(u64, Decided)> {
        let ConfigUpdate { nonce, more, delta } = update;
        if self.nonce != Some(nonce) {
            *self = Self { nonce: Some(nonce), ..Self::default() };
        }
        if !self.too_large {
            self.too_large = !self.incoming.add(delta.unwrap_or_default());
        }
        if more {
            return None;
        }
        let Self { incoming, too_large, .. } = std::mem::take(self);
        Some((nonce, if too_large { Decided::Refuse(vec![too_large_problem()]) } else { decide(held, incoming) }))
    }

    /// Whether this one is of another update than the one of which more was to come.
    pub(super) fn breaks_off(&self, update: &ConfigUpdate) -> bool {
        self.nonce.is_some_and(|nonce| nonce != update.nonce)
    }

    /// What the message that was taken last has of backends and their endpoints, while others of its update are to come.
    pub(super) fn newest(&self) -> Vec<Expected> {
        let expected = |(backend, endpoints): (&BackendName, &[_])| Expected {
            backend: backend.clone(),
            endpoints: endpoints.to_vec(),
        };
        self.incoming.newest().map(expected).collect()
    }
}

fn decide(held: &Held, incoming: Incoming) -> Decided {
    match incoming.apply(&held.snapshot) {
        Ok(snapshot) => Decided::Install(Arc::new(snapshot)),
        Err(ApplyError::Refused(problems)) => Decided::Refuse(problems),
        Err(ApplyError::Base { held, .. }) => Decided::Resync(wire(held)),
    }
}

fn too_large_problem() -> Problem {
    let reason = Reason::TooLong { found: MAX_SNAPSHOT_BYTES + 1, max: MAX_SNAPSHOT_BYTES };
    Problem { object: None, path: String::new(), reason }
}

fn wire(version: api::snapshot::Version) -> Version {
    Version { epoch: version.epoch, version: version.version }
}

#[cfg(test)]
mod tests {
    use api::delta;

    use super::*;

    fn snapshot(version: u64, models: &[&str]) -> Snapshot {
        let route = |model: &&str| {
            let rules = serde_json::json!([{"targets": [{"backend": "d/b"}]}]);
            serde_json::json!({"name": format!("d/{model}"), "model": model, "rules": rules})
        };
        let routes: Vec<_> = models.iter().map(route).collect();
        let text = serde_json::json!({"epoch": 1, "version": version, "routes": routes}).to_string();
        api::json::snapshot_from_json(text.as_bytes()).unwrap()
    }

    fn held(snapshot: &Snapshot) -> Held {
        Held::new(Arc::new(snapshot.clone()))
    }

    #[test]
    fn an_update_counts_when_its_last_message_has_come() {
        let new = snapshot(2, &["a", "b", "c"]);
        let mut parts = delta::split(delta::full(&new), 1).into_iter();
        let (mut updates, nothing) = (Updates::default(), held(&Snapshot::default()));
        let mut next = |more| updates.take(ConfigUpdate { nonce: 7, more, delta: parts.next() }, &nothing);
        assert!(next(true).is_none());
        assert!(next(true).is_none());
        let Some((7, Decided::Install(got))) = next(false) else { panic!("not installed") };
        assert_eq!(*got, new);
    }

    #[test]
    fn an_update_that_was_broken_off_leaves_nothing_behind() {
        let (old, new) = (snapshot(1, &["a"]), snapshot(2, &["b"]));
        let (mut updates, nothing) = (Updates::default(), held(&Snapshot::default()));
        let whole = |nonce, more, of| ConfigUpdate { nonce, more, delta: Some(delta::full(of)) };
        assert!(!updates.breaks_off(&whole(1, true, &old)));
        assert!(updates.take(whole(1, true, &old), &nothing).is_none());
        assert_eq!([1, 2].map(|nonce| updates.breaks_off(&whole(nonce, false, &new))), [false, true]);
        let Some((2, Decided::Install(got))) = updates.take(whole(2, false, &new), &nothing) else { panic!() };
        assert_eq!(*got, new);
        assert!(!updates.breaks_off(&whole(3, true, &old)), "that one was whole");
    }

    #[test]
    fn what_cannot_be_applied_is_answered_by_its_kind() {
        let (old, new) = (snapshot(1, &["a"]), snapshot(2, &["b"]));
        let mut updates = Updates::default();
        let delta = |delta| ConfigUpdate { nonce: 1, more: false, delta: Some(delta) };
        let wrong = updates.take(delta(delta::diff(&old, &new)), &held(&snapshot(9, &[])));
        let Some((1, Decided::Resync(Version { version: 9, .. }))) = wrong else { panic!("{wrong:?}") };
        let mut bad = new.clone();
        Arc::make_mut(&mut bad.routes[0].rules)[0].targets[0].weight = 0;
        let refused = updates.take(delta(delta::diff(&old, &bad)), &held(&old));
        let Some((1, Decided::Refuse(problems))) = refused else { panic!("{refused:?}") };
        let Answer::Refused(refused) = Decided::refusal(&problems, &old) else { panic!() };
        assert_eq!((refused.refusals.len(), &*refused.refusals[0].name), (1, "d/b"));
        assert_eq!(refused.refusals[0].held, None, "nothing is held under this name");
        let Answer::Refused(refused) = Decided::refusal(&problems, &snapshot(1, &["a", "b"])) else { panic!() };
        let told = refused.refusals[0].held.as_ref().map(|held| held.routes[0].model.as_str());
        assert_eq!(told, Some("b"));
    }
}
