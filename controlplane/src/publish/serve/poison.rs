//! Objects that a subscriber refused. They are sent to it in the form that it holds, as it acknowledged that or told it with its
//! refusal; where it has none, or refuses that too, as ones that answer 503, so that no other object answers in their place; and where it
//! refuses even these, they are left out. Once the object changes, the new form is tried.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use api::decode::Object;
use api::hash::content_hash;
use api::id::ProfileName;
use api::limits::{MAX_BACKENDS, MAX_HELD_BYTES};
use api::proto::Refusal;
use api::proto::refusal::Kind;
use api::snapshot::{Backend, Profile, Route, Snapshot};
use prost::Message as _;

use super::told::{Foreign, Newest, Told};
use crate::publish::build::refusals;
use crate::publish::route::refused;
use crate::publish::server::refusal;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Instead {
    /// The form that is held, or one that answers 503 where none is.
    Held,
    /// One that answers 503.
    Refusal,
    /// Nothing.
    Nothing,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Of the form that was refused.
    form: u64,
    instead: Instead,
    /// The form that is held, as was told with the refusal.
    told: Option<Arc<Told>>,
    reason: String,
}

/// What one subscriber refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Poison {
    entries: BTreeMap<Object, Entry>,
}

/// As much of a text as is kept for each object, whatever a data plane sends.
fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(512)]
}

impl Poison {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Objects and why they were refused.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (&Object, &str)> {
        self.entries.iter().map(|(object, entry)| (object, entry.reason.as_str()))
    }

    /// Takes in a refusal of `tried`; false where it names nothing that could be held back further. Told forms go through `share`.
    pub(super) fn refuse(
        &mut self,
        refusals: Vec<Refusal>,
        tried: &Snapshot,
        mut share: impl FnMut(Foreign) -> Option<Arc<Told>>,
    ) -> bool {
        let before: Vec<_> = self.entries.keys().cloned().collect();
        let forms = Forms::of(tried);
        let mut further = false;
        let kept = self.entries.values().filter_map(|entry| Some(entry.told.as_ref()?.bytes()));
        let mut room = MAX_HELD_BYTES.saturating_sub(kept.sum());
        for refusal in refusals {
            let Some(object) = object(&refusal) else { continue };
            let Some(form) = forms.find(&object).map(|form| form.hash()) else { continue };
            let again = before.binary_search(&object).is_ok();
            let reason = format!("{}: {}", clipped(&refusal.path), clipped(&refusal.reason));
            let entry = self.entries.entry(object).or_insert_with(|| {
                further = true;
                Entry { form, instead: Instead::Held, told: None, reason }
            });
            // No data plane of ours tells more than fits one refusal, and no other makes us keep more of it.
            if let Some(held) = refusal.held
                && held.encoded_len() <= room
            {
                entry.told = Foreign::new(held).and_then(&mut share);
                room -= entry.told.as_ref().map_or(0, |told| told.bytes());
            }
            if again {
                further |= entry.instead != Instead::Nothing;
                entry.instead = match entry.instead {
                    Instead::Held => Instead::Refusal,
                    Instead::Refusal | Instead::Nothing => Instead::Nothing,
                };
            }
        }
        further
    }

    /// Forgets what has changed since or is gone: it is tried again.
    pub(super) fn prune(&mut self, current: &Snapshot) {
        if !self.entries.is_empty() {
            let forms = Forms::of(current);
            self.entries.retain(|object, entry| forms.find(object).is_some_and(|form| form.hash() == entry.form));
        }
    }

    /// Equal for equal poison.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (object, entry) in &self.entries {
            let told = entry.told.as_ref().map(|told| told.content_hash());
            (object, entry.form, entry.instead, told).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The state with what was refused replaced by what is held, by what answers 503, or left out.
    pub(super) fn view(&self, current: &Snapshot, held: Option<&Snapshot>) -> Snapshot {
        let nothing = Snapshot::default();
        let held = Forms::of(held.unwrap_or(&nothing));
        let instead = |object: Object| match self.entries.get(&object) {
            None => Choice::Current,
            Some(Entry { instead: Instead::Nothing, .. }) => Choice::Nothing,
            Some(Entry { instead: Instead::Refusal, .. }) => Choice::Refusal,
            Some(Entry { instead: Instead::Held, told, .. }) => {
                let told = || Forms::of(told.as_ref()?.objects()).find(&object);
                held.find(&object).or_else(told).map_or(Choice::Refusal, Choice::Held)
            }
        };
        let has = |name: &ProfileName| {
            matches!(instead(Object::Profile(name.clone())), Choice::Current | Choice::Held(Form::Profile(_)))
        };
        let is_refused = |backend: &Backend| self.entries.contains_key(&Object::Backend(backend.name.clone()));
        let newest = LazyCell::new(|| Newest::of(current, is_refused));
        let route = |route: &Route| match instead(Object::Route(route.name.clone())) {
            Choice::Current => Some(route.clone()),
            Choice::Held(Form::Route(held)) => Some(held.clone()),
            Choice::Refusal => Some(refused(route)),
            _ => None,
        };
        let backend = |backend: &Backend| {
            let backend = match instead(Object::Backend(backend.name.clone())) {
                Choice::Current => backend.clone(),
                Choice::Held(Form::Backend(held)) => newest.settle(held),
                Choice::Refusal => refusal(&backend.name),
                _ => return None,
            };
            // Without its profile it is served by the default one, which is better than not at all.
            let profile = backend.profile.clone().filter(has);
            Some(Backend { profile, ..backend })
        };
        let profile = |profile: &Profile| match instead(Object::Profile(profile.name.clone())) {
            Choice::Current => Some(profile.clone()),
            Choice::Held(Form::Profile(held)) => Some(held.clone()),
            _ => None,
        };
        let routes: Vec<_> = current.routes.iter().filter_map(route).collect();
        let mut backends: Vec<_> = current.backends.iter().filter_map(backend).collect();
        let known: HashSet<_> = backends.iter().map(|backend| backend.name.clone()).collect();
        // A held route may be one that answers 503, too.
        let refusals = refusals(&routes).into_iter().filter(|backend| !known.contains(&backend.name));
        backends.extend(refusals.take(MAX_BACKENDS.saturating_sub(known.len())));
        Snapshot {
            version: current.version,
            fleet_seed: current.fleet_seed,
            routes,
            backends,
            profiles: current.profiles.iter().filter_map(profile).collect(),
            seen: current.seen.clone(),
        }
    }
}

enum Choice<'a> {
    Current,
    Held(Form<'a>),
    Refusal,
    Nothing,
}

#[derive(Clone, Copy)]
enum Form<'a> {
    Route(&'a Route),
    Backend(&'a Backend),
    Profile(&'a Profile),
}

impl Form<'_> {
    fn hash(self) -> u64 {
        let mut alone = Snapshot::default();
        match self {
            Self::Route(route) => alone.routes.push(route.clone()),
            Self::Backend(backend) => alone.backends.push(backend.clone()),
            Self::Profile(profile) => alone.profiles.push(profile.clone()),
        }
        content_hash(&alone)
    }
}

/// A state's objects by name.
struct Forms<'a> {
    routes: HashMap<&'a str, &'a Route>,
    backends: HashMap<&'a str, &'a Backend>,
    profiles: HashMap<&'a str, &'a Profile>,
}

impl<'a> Forms<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            routes: snapshot.routes.iter().map(|r| (r.name.as_str(), r)).collect(),
            backends: snapshot.backends.iter().map(|b| (b.name.as_str(), b)).collect(),
            profiles: snapshot.profiles.iter().map(|p| (p.name.as_str(), p)).collect(),
        }
    }

    fn find(&self, object: &Object) -> Option<Form<'a>> {
        match object {
            Object::Route(name) => self.routes.get(name.as_str()).copied().map(Form::Route),
            Object::Backend(name) => self.backends.get(name.as_str()).copied().map(Form::Backend),
            Object::Profile(name) => self.profiles.get(name.as_str()).copied().map(Form::Profile),
        }
    }
}

fn object(refusal: &Refusal) -> Option<Object> {
    let name = refusal.name.as_str();
    match Kind::try_from(refusal.kind) {
        Ok(Kind::Route) => Some(Object::Route(name.into())),
        Ok(Kind::Backend) => Some(Object::Backend(name.into())),
        Ok(Kind::Profile) => Some(Object::Profile(name.into())),
        // A kind that a later data plane knows is of no object that is known here.
        Ok(Kind::Snapshot) | Err(_) => None,
    }
}
