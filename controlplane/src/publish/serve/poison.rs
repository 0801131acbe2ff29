//! Objects that a subscriber refused. They are sent to it in the form that it last acknowledged; where it has none, or
//! refuses that too, they are left out. Once the object changes, the new form is tried.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use api::decode::Object;
use api::hash::content_hash;
use api::proto::Refusal;
use api::proto::refusal::Kind;
use api::snapshot::{Backend, Profile, Route, Snapshot};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Instead {
    /// The form that is held.
    Held,
    /// Nothing.
    Nothing,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Of the form that was refused.
    form: u64,
    instead: Instead,
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

    /// Takes in a refusal of `tried`; false where it names nothing that could be held back further.
    pub(super) fn refuse(&mut self, refusals: &[Refusal], tried: &Snapshot) -> bool {
        let before: Vec<_> = self.entries.keys().cloned().collect();
        let forms = Forms::of(tried);
        let mut further = false;
        for refusal in refusals {
            let Some(object) = object(refusal) else { continue };
            let Some(form) = forms.find(&object).map(|form| form.hash()) else { continue };
            let again = before.binary_search(&object).is_ok();
            let reason = format!("{}: {}", clipped(&refusal.path), clipped(&refusal.reason));
            let entry = self.entries.entry(object).or_insert_with(|| {
                further = true;
                Entry { form, instead: Instead::Held, reason }
            });
            if again && entry.instead == Instead::Held {
                entry.instead = Instead::Nothing;
                further = true;
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
            (object, entry.form, entry.instead).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The state with what was refused replaced by what is held, or left out.
    pub(super) fn view(&self, current: &Snapshot, held: Option<&Snapshot>) -> Snapshot {
        let nothing = Snapshot::default();
        let held = Forms::of(held.unwrap_or(&nothing));
        let instead = |object: Object| match self.entries.get(&object) {
            None => Choice::Current,
            Some(Entry { instead: Instead::Nothing, .. }) => Choice::Nothing,
            Some(_) => held.find(&object).map_or(Choice::Nothing, Choice::Held),
        };
        let route = |route: &Route| match instead(Object::Route(route.name.clone())) {
            Choice::Current => Some(route.clone()),
            Choice::Held(Form::Route(held)) => Some(held.clone()),
            _ => None,
        };
        let backend = |backend: &Backend| match instead(Object::Backend(backend.name.clone())) {
            Choice::Current => Some(backend.clone()),
            Choice::Held(Form::Backend(held)) => Some(held.clone()),
            _ => None,
        };
        let profile = |profile: &Profile| match instead(Object::Profile(profile.name.clone())) {
            Choice::Current => Some(profile.clone()),
            Choice::Held(Form::Profile(held)) => Some(held.clone()),
            _ => None,
        };
        Snapshot {
            version: current.version,
            fleet_seed: current.fleet_seed,
            routes: current.routes.iter().filter_map(route).collect(),
            backends: current.backends.iter().filter_map(backend).collect(),
            profiles: current.profiles.iter().filter_map(profile).collect(),
        }
    }
}

enum Choice<'a> {
    Current,
    Held(Form<'a>),
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
