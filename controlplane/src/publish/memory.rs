//! What one build leaves to the next. It changes what a build costs, keeps handles, and keeps an object's last good form
//! in force, see [`super::last_good`]; a world whose objects are all valid is built alike with any memory but for the handles'
//! numbers.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use serde::Serialize;

use super::endpoints::EndpointMemory;
use super::handles::Handles;
use super::last_good::{Fallback, is_kept_one_later};
use super::profile::AcceptedProfile;
use super::route::AcceptedRoute;
use super::server::Pool;
use crate::crd::{ModelRouteSpec, ModelServerSpec};
use crate::quarantine;
use crate::world::{Held, ObjectName};

/// Carried from build to build within an epoch.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) handles: Handles,
    pub(super) routes: Remembered<ModelRouteSpec, AcceptedRoute>,
    pub(super) servers: Remembered<ModelServerSpec, Pool>,
    pub(super) scheduler: Remembered<String, AcceptedProfile>,
    pub(super) endpoints: EndpointMemory,
}

impl Memory {
    /// After a build that panicked halfway. What is kept of each object is in order all the time; what of endpoints is half of a round,
    /// and saves work only.
    pub(crate) fn recover(&mut self) {
        self.endpoints = EndpointMemory::default();
    }
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
    in_force: Option<Good<S, A>>,
    /// What is said of that form while the newest is refused; it costs a serialisation, so it is done once.
    fallback: Option<Fallback>,
    /// The form that the source keeps, where it was found to be no good any more: it is judged once.
    passed_over: Option<(i64, Arc<S>)>,
}

/// A form that was accepted.
#[derive(Debug)]
struct Good<S: ?Sized, A> {
    generation: i64,
    spec: Arc<S>,
    accepted: Arc<A>,
}

/// An object as its source has it.
#[derive(Debug)]
pub(super) struct Said<'a, S: ?Sized> {
    pub(super) name: &'a ObjectName,
    pub(super) uid: &'a Arc<str>,
    pub(super) generation: i64,
    pub(super) spec: Result<&'a Arc<S>, &'a Sentences>,
    /// An earlier form that the source keeps, and its generation.
    pub(super) kept: Option<(i64, &'a Arc<S>)>,
}

impl<'a, S> Said<'a, S> {
    pub(super) fn of(name: &'a ObjectName, held: &'a Held<S>) -> Self {
        let Held { uid, generation, seniority: _, spec, last_good } = held;
        let kept = last_good.as_ref().map(|kept| (kept.generation, &kept.spec));
        Self { name, uid, generation: *generation, spec: spec.as_ref(), kept }
    }
}

/// What counts of an object, and what is wrong with its latest form.
#[derive(Debug)]
pub(super) struct Known<A> {
    /// Its latest form; its last good one where that is refused; none where it never had a good one.
    pub(super) in_force: Option<Arc<A>>,
    pub(super) refusal: Option<Sentences>,
    pub(super) fallback: Fallback,
}

impl<S: ?Sized + PartialEq + Serialize, A> Remembered<S, A> {
    /// Judges an object, unless it says what was judged last time: it is read anew for a status of ours, too.
    pub(super) fn judge(
        &mut self,
        said: &Said<'_, S>,
        accept: impl Fn(&ObjectName, &S) -> Result<A, Vec<String>>,
    ) -> Known<A> {
        let new = || Entry::new(said.uid);
        let entry = self.entries.entry(said.name.clone()).or_insert_with(new);
        if entry.uid != *said.uid {
            // Made again before anybody saw that it was gone, it starts without a past all the same.
            *entry = new();
        }
        let accept = |spec: &Arc<S>| {
            let judged = quarantine::guarded(said.name, || accept(said.name, spec));
            judged.unwrap_or_else(|sentence| Err(vec![sentence]))
        };
        entry.newest(said, accept);
        if entry.refusal.is_some() {
            entry.last_good(said, accept);
        }
        let in_force = entry.in_force.as_ref().map(|good| Arc::clone(&good.accepted));
        Known { in_force, refusal: entry.refusal.clone(), fallback: entry.fallback() }
    }

    /// Forgets objects that are gone: made again, they start without a past.
    pub(super) fn keep(&mut self, lives: impl Fn(&ObjectName) -> bool) {
        self.entries.retain(|name, _| lives(name));
    }
}

impl<S: ?Sized + PartialEq + Serialize, A> Entry<S, A> {
    fn new(uid: &Arc<str>) -> Self {
        let uid = Arc::clone(uid);
        Self { uid, source: None, refusal: None, in_force: None, fallback: None, passed_over: None }
    }

    fn newest(&mut self, said: &Said<'_, S>, accept: impl Fn(&Arc<S>) -> Result<A, Vec<String>>) {
        match said.spec {
            Ok(spec) if self.source.as_ref().is_some_and(|last| is_same(last, spec)) => {
                if let (None, Some(good)) = (&self.refusal, &mut self.in_force) {
                    good.generation = said.generation;
                }
            }
            Ok(spec) => {
                self.source = Some(Arc::clone(spec));
                match accept(spec) {
                    Ok(accepted) => {
                        self.take(said.generation, spec, accepted);
                        self.refusal = None;
                    }
                    Err(problems) => self.refusal = Some(problems.into()),
                }
            }
            Err(problems) => (self.source, self.refusal) = (None, Some(Arc::clone(problems))),
        }
    }

    /// Takes what the source keeps, where that is to be in force.
    fn last_good(&mut self, said: &Said<'_, S>, accept: impl Fn(&Arc<S>) -> Result<A, Vec<String>>) {
        let Some((generation, spec)) = said.kept else { return };
        let known = self.passed_over.as_ref().is_some_and(|(of, last)| *of == generation && is_same(last, spec));
        if known || !is_kept_one_later(generation, self.in_force.as_ref().map(|good| good.generation)) {
            return;
        }
        match accept(spec) {
            Ok(accepted) => self.take(generation, spec, accepted),
            Err(problems) => {
                let object = said.name;
                tracing::warn!(%object, generation, ?problems, "its last good form is good no more and counts for nothing");
                self.passed_over = Some((generation, Arc::clone(spec)));
            }
        }
    }

    fn take(&mut self, generation: i64, spec: &Arc<S>, accepted: A) {
        self.in_force = Some(Good { generation, spec: Arc::clone(spec), accepted: Arc::new(accepted) });
        self.fallback = None;
    }

    fn fallback(&mut self) -> Fallback {
        match (&self.refusal, &self.in_force) {
            (None, _) => Fallback::Unneeded,
            (Some(_), None) => Fallback::Missing,
            (Some(_), Some(good)) => {
                self.fallback.get_or_insert_with(|| Fallback::to(good.generation, &*good.spec)).clone()
            }
        }
    }
}

fn is_same<S: ?Sized + PartialEq>(last: &Arc<S>, now: &Arc<S>) -> bool {
    Arc::ptr_eq(last, now) || **last == **now
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

    #[test]
    fn what_the_source_keeps_counts_while_nothing_later_is_remembered() {
        let mut memory = Remembered::<str, usize>::default();
        let bad = "".into();
        // Another process has left the first one, and later the second one.
        assert_eq!(judge_kept(&mut memory, "a", &bad, None), (None, Fallback::Missing));
        assert_eq!(judge_kept(&mut memory, "a", &bad, Some((1, "good"))), (Some(4), kept(1, "good")));
        assert_eq!(judge_kept(&mut memory, "a", &bad, Some((3, "better"))), (Some(6), kept(3, "better")));
        // It goes by what it has taken, whatever becomes of what was left.
        assert_eq!(judge_kept(&mut memory, "a", &bad, Some((2, "old"))), (Some(6), kept(3, "better")));
        assert_eq!(judge_kept(&mut memory, "a", &bad, None), (Some(6), kept(3, "better")));
        // A good form needs nothing in its place.
        assert_eq!(judge_kept(&mut memory, "a", &"mended".into(), Some((3, "better"))), (Some(6), Fallback::Unneeded));
        assert_eq!(judge_kept(&mut memory, "a", &bad, Some((3, "better"))), (Some(6), kept(7, "mended")));
        // Another object of its name has none of it.
        assert_eq!(judge_kept(&mut memory, "b", &bad, None), (None, Fallback::Missing));
    }

    #[test]
    fn what_the_source_keeps_is_judged_as_any_form_and_once() {
        let mut memory = Remembered::<str, usize>::default();
        let asked = std::cell::Cell::new(0);
        let mut judge = |kept: &'static str| {
            let (kept, bad, uid): (Arc<str>, Arc<str>, Arc<str>) = (kept.into(), "".into(), "a".into());
            let said = Said { spec: Ok(&bad), kept: Some((1, &kept)), ..said(&uid) };
            let accept = |_: &ObjectName, text: &str| {
                asked.set(asked.get() + 1);
                if text.is_empty() { panic!("of the test") } else { Err::<usize, _>(vec!["no".to_owned()]) }
            };
            (memory.judge(&said, accept).fallback, asked.get())
        };
        assert_eq!(judge("bad"), (Fallback::Missing, 2));
        assert_eq!(judge("bad"), (Fallback::Missing, 2));
        assert_eq!(judge(""), (Fallback::Missing, 3), "one that makes us panic is one that is not good");
    }

    fn kept(generation: i64, text: &str) -> Fallback {
        Fallback::to(generation, text)
    }

    fn said(uid: &Arc<str>) -> Said<'_, str> {
        static NAME: std::sync::LazyLock<(ObjectName, Sentences)> =
            std::sync::LazyLock::new(|| (ObjectName::new("d", "r"), Arc::default()));
        Said { name: &NAME.0, uid, generation: 7, spec: Err(&NAME.1), kept: None }
    }

    /// What counts of an object that says this, which panics where that is nothing; and whether it is refused.
    fn judge(memory: &mut Remembered<str, usize>, uid: &str, text: &Arc<str>) -> (Option<usize>, bool) {
        let (in_force, fallback) = judge_kept(memory, uid, text, None);
        (in_force, fallback != Fallback::Unneeded)
    }

    /// The same where its source keeps an earlier form.
    fn judge_kept(
        memory: &mut Remembered<str, usize>,
        uid: &str,
        text: &Arc<str>,
        kept: Option<(i64, &str)>,
    ) -> (Option<usize>, Fallback) {
        let uid: Arc<str> = uid.into();
        let kept: Option<(i64, Arc<str>)> = kept.map(|(generation, text)| (generation, text.into()));
        let kept = kept.as_ref().map(|(generation, text)| (*generation, text));
        let known = memory.judge(&Said { spec: Ok(text), kept, ..said(&uid) }, |_, text| {
            if text.is_empty() { panic!("of the test") } else { Ok(text.len()) }
        });
        (known.in_force.map(|length| *length), known.fallback)
    }
}
