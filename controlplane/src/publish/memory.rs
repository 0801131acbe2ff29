//! What one build leaves to the next. It changes what a build costs, keeps handles, and keeps an object's last good form
//! in force; a world whose objects are all valid is built alike with any memory but for the handles' numbers.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::endpoints::EndpointMemory;
use super::handles::Handles;
use super::profile::AcceptedProfile;
use super::route::AcceptedRoute;
use super::server::Pool;
use crate::crd::{ModelRouteSpec, ModelServerSpec};
use crate::quarantine;
use crate::world::ObjectName;

/// Carried from build to build within an epoch.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) handles: Handles,
    pub(super) routes: Remembered<ModelRouteSpec, AcceptedRoute>,
    pub(super) servers: Remembered<ModelServerSpec, Pool>,
    pub(super) scheduler: Remembered<str, AcceptedProfile>,
    pub(super) endpoints: EndpointMemory,
}

/// Problems, as sentences.
pub(super) type Sentences = Arc<[String]>;

/// What each object of a kind last amounted to.
#[derive(Debug)]
pub(super) struct Remembered<S: ?Sized, A> {
    entries: HashMap<ObjectName, Entry<S, A>>,
}

impl<S: ?Sized, A> Default for Remembered<S, A> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

#[derive(Debug)]
struct Entry<S: ?Sized, A> {
    /// Of the object; empty where nobody says.
    uid: Arc<str>,
    /// Held, so that no other object can come to lie at its address.
    source: Option<Arc<S>>,
    refusal: Option<Sentences>,
    in_force: Option<Arc<A>>,
}

/// What counts of an object, and what is wrong with its latest form.
#[derive(Debug)]
pub(super) struct Known<A> {
    /// Its latest form; its last good one where that is refused; none where it never had a good one.
    pub(super) in_force: Option<Arc<A>>,
    pub(super) refusal: Option<Sentences>,
}

impl<S: ?Sized + PartialEq, A> Remembered<S, A> {
    /// Judges an object, unless it says what was judged last time: it is read anew for a status of ours, too.
    pub(super) fn judge(
        &mut self,
        (name, uid): (&ObjectName, &Arc<str>),
        spec: &Result<Arc<S>, Sentences>,
        accept: impl FnOnce(&ObjectName, &S) -> Result<A, Vec<String>>,
    ) -> Known<A> {
        let new = || Entry { uid: Arc::clone(uid), source: None, refusal: None, in_force: None };
        let entry = self.entries.entry(name.clone()).or_insert_with(new);
        if entry.uid != *uid {
            // Made again before anybody saw that it was gone, it starts without a past all the same.
            *entry = new();
        }
        match spec {
            Ok(spec) if entry.source.as_ref().is_some_and(|last| Arc::ptr_eq(last, spec) || **last == **spec) => {}
            Ok(spec) => {
                entry.source = Some(Arc::clone(spec));
                let judged = quarantine::guarded(name, || accept(name, spec));
                match judged.unwrap_or_else(|sentence| Err(vec![sentence])) {
                    Ok(accepted) => (entry.in_force, entry.refusal) = (Some(Arc::new(accepted)), None),
                    Err(problems) => entry.refusal = Some(problems.into()),
                }
            }
            Err(problems) => (entry.source, entry.refusal) = (None, Some(Arc::clone(problems))),
        }
        Known { in_force: entry.in_force.clone(), refusal: entry.refusal.clone() }
    }

    /// Forgets objects that are gone: made again, they start without a past.
    pub(super) fn keep(&mut self, lives: impl Fn(&ObjectName) -> bool) {
        self.entries.retain(|name, _| lives(name));
    }
}

/// A map whose entries are dropped when a whole round has not asked for them.
#[derive(Debug)]
pub(super) struct Rounds<K, V> {
    last: HashMap<K, V>,
    now: HashMap<K, V>,
}

impl<K, V> Default for Rounds<K, V> {
    fn default() -> Self {
        Self { last: HashMap::new(), now: HashMap::new() }
    }
}

impl<K: Hash + Eq, V> Rounds<K, V> {
    /// What was put under the key in the last round; it must be put again to stay.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        self.last.remove(key)
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        self.now.insert(key, value);
    }

    pub(super) fn end_round(&mut self) {
        self.last = std::mem::take(&mut self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c09_an_object_that_makes_us_panic_stays_in_its_last_good_form_until_it_is_edited() {
        let mut memory = Remembered::<str, usize>::default();
        let (good, bad) = ("good".into(), "".into());
        assert_eq!(judge(&mut memory, "a", &good), (Some(4), false));
        assert_eq!([judge(&mut memory, "a", &bad), judge(&mut memory, "a", &bad)], [(Some(4), true); 2]);
        assert_eq!(judge(&mut memory, "a", &"better".into()), (Some(6), false));
    }

    #[test]
    fn c11_another_object_of_its_name_starts_without_a_past_even_if_nobody_saw_the_first_one_go() {
        let mut memory = Remembered::<str, usize>::default();
        assert_eq!(judge(&mut memory, "a", &"good".into()), (Some(4), false));
        assert_eq!(judge(&mut memory, "b", &"".into()), (None, true));
    }

    /// What counts of an object that says this, which panics where that is nothing; and whether it is refused.
    fn judge(memory: &mut Remembered<str, usize>, uid: &str, text: &Arc<str>) -> (Option<usize>, bool) {
        let spec = Ok(Arc::clone(text));
        let known = memory.judge((&ObjectName::new("d", "r"), &uid.into()), &spec, |_, text| {
            if text.is_empty() { panic!("of the test") } else { Ok(text.len()) }
        });
        (known.in_force.map(|length| *length), known.refusal.is_some())
    }
}
