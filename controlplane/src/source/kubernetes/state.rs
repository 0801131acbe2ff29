//! All lists together, as they were last said. Pure: a change goes in, a world comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Waiting;
use super::entry::Entry;
use super::watched::Watched;
use crate::crd::{ModelRouteSpec, ModelServerSpec};
use crate::object;
use crate::source::manifest::{Custom, Identity, Manifest};
use crate::source::reached::{Reach, Reached};
use crate::source::{Fault, MAX_FAULTS, Reading};
use crate::world::{Held, Kind, ObjectName, Scheduler, Seniority, World};

/// What a follower says. Its list is known by its place.
#[derive(Debug)]
pub(super) enum Change {
    /// These are all there are.
    Listed(usize, Vec<Entry>),
    /// One is new, or says something new.
    Put(usize, Entry),
    /// One is gone.
    Gone(usize, Identity),
    /// The list cannot be read, and why. What is held of it stays.
    Failed(usize, String),
    /// The list may not be read, and one can do without.
    Denied(usize),
}

/// What a follower says, and how far its list reaches by that.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) place: usize,
    /// None where it was about nothing that counts.
    pub(super) change: Option<Change>,
    pub(super) reach: Reach,
}

/// What is held.
#[derive(Debug)]
pub(super) struct State {
    lists: Vec<List>,
    world: World,
    faults: BTreeMap<Identity, Vec<String>>,
    reached: Reached,
}

#[derive(Debug)]
struct List {
    watched: Watched,
    /// None until it has been read once.
    held: Option<BTreeSet<Identity>>,
    /// Why it could not be read, the last time.
    failure: Option<String>,
}

impl State {
    pub(super) fn new(watched: Vec<Watched>) -> Self {
        let list = |watched| List { watched, held: None, failure: None };
        let reached = Reached::of(watched.iter().map(Watched::list));
        let lists = watched.into_iter().map(list).collect();
        Self { lists, world: World::default(), faults: BTreeMap::new(), reached }
    }

    /// Whether that is news for a reading.
    pub(super) fn hear(&mut self, step: Step) -> bool {
        let Step { place, change, reach } = step;
        let news = change.is_some_and(|change| self.apply(change));
        // Nobody who is told what is published need wait for the rest.
        if self.lists[place].watched.is_published() {
            self.reached.hear(place, reach, news);
        }
        news
    }

    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Listed(place, entries) => self.replace(place, entries),
            Change::Put(place, entry) => {
                self.lists[place].held.get_or_insert_default().insert(entry.identity.clone());
                self.put(entry)
            }
            Change::Gone(place, identity) => {
                self.lists[place].held.get_or_insert_default().remove(&identity) && self.remove(&identity)
            }
            Change::Failed(place, sentence) => {
                self.lists[place].failure = Some(sentence);
                false
            }
            Change::Denied(place) => {
                let list = &mut self.lists[place];
                let first = list.held.is_none();
                list.held.get_or_insert_default();
                first
            }
        }
    }

    /// How far all have been read.
    pub(super) fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Each list has been read once that what is published is made of.
    pub(super) fn is_complete(&self) -> bool {
        self.awaited().next().is_none()
    }

    fn awaited(&self) -> impl Iterator<Item = &List> {
        self.lists.iter().filter(|list| list.held.is_none() && list.watched.is_published())
    }

    /// The lists that have not been, with what is known of the reason.
    pub(super) fn waiting(&self) -> Waiting {
        let sentence = |list: &List| match &list.failure {
            Some(failure) => format!("{}: {failure}", list.watched),
            None => list.watched.to_string(),
        };
        self.awaited().map(sentence).collect()
    }

    /// What the cluster says. What is large is shared.
    pub(super) fn reading(&self) -> Reading {
        let faults = self.faults.iter().flat_map(|(object, sentences)| sentences.iter().map(move |s| (object, s)));
        let faults = faults.take(MAX_FAULTS).map(|(object, sentence)| Fault::of_object(object, sentence)).collect();
        Reading { world: self.world.clone(), faults, seen: self.reached.seen(), ..Reading::default() }
    }

    /// What was held and is not said any more was deleted while nobody looked.
    fn replace(&mut self, place: usize, entries: Vec<Entry>) -> bool {
        let now: BTreeSet<_> = entries.iter().map(|entry| entry.identity.clone()).collect();
        let list = &mut self.lists[place];
        list.failure = None;
        let before = list.held.replace(now.clone());
        let mut news = before.is_none();
        for identity in before.unwrap_or_default().difference(&now) {
            news |= self.remove(identity);
        }
        for entry in entries {
            news |= self.put(entry);
        }
        news
    }

    fn put(&mut self, entry: Entry) -> bool {
        let Entry { identity, uid, generation, created, says, last_good } = entry;
        let whose = Whose { uid, generation, seniority: Seniority::Created(created), last_good };
        let name = ObjectName::new(Arc::clone(&identity.namespace), Arc::clone(&identity.name));
        let world = &mut self.world;
        let (news, problems) = match says {
            Ok(Some(manifest)) => (put(world, manifest, whose), Vec::new()),
            Ok(None) => (judge(world, &identity, whose, Ok(Arc::new(()))), Vec::new()),
            Err(problems) => {
                let why: Arc<[String]> = problems.clone().into();
                let news = match identity.kind {
                    "ModelRoute" => hold(&mut world.routes, name, whose.route(Err(why))),
                    "ModelServer" => hold(&mut world.servers, name, whose.server(Err(why))),
                    "ExternalModelProvider" => hold(&mut world.providers, name, whose.object(Err(why))),
                    "Pod" => world.pods.remove(&name).is_some(),
                    "ConfigMap" => configure(world, name, whose.scheduler(Err(why))),
                    _ => judge(world, &identity, whose, Err(why)),
                };
                (news, problems)
            }
        };
        let before = match problems.is_empty() {
            true => self.faults.remove(&identity).unwrap_or_default(),
            false => self.faults.insert(identity, problems.clone()).unwrap_or_default(),
        };
        news || before != problems
    }

    fn remove(&mut self, identity: &Identity) -> bool {
        let name = ObjectName::new(Arc::clone(&identity.namespace), Arc::clone(&identity.name));
        let world = &mut self.world;
        let held = match identity.kind {
            "ModelRoute" => world.routes.remove(&name).is_some(),
            "ModelServer" => world.servers.remove(&name).is_some(),
            "ExternalModelProvider" => world.providers.remove(&name).is_some(),
            "Pod" => world.pods.remove(&name).is_some(),
            "Node" => world.nodes.remove(&identity.name).is_some(),
            "Secret" => world.secrets.remove(&name).is_some(),
            "ConfigMap" => world.scheduler.take().is_some(),
            _ => key(identity).is_some_and(|key| world.judged.remove(&key).is_some()),
        };
        self.faults.remove(identity).is_some() || held
    }
}

/// Which object of its name it is, and which form of it.
struct Whose {
    uid: Arc<str>,
    generation: i64,
    seniority: Seniority,
    last_good: Option<Manifest>,
}

type Spec<T> = Result<Arc<T>, Arc<[String]>>;

impl Whose {
    fn route(self, spec: Spec<ModelRouteSpec>) -> Held<ModelRouteSpec> {
        let last_good = self.last_good.as_ref().and_then(Manifest::route).map(Custom::former);
        Held { last_good, ..self.object(spec) }
    }

    fn server(self, spec: Spec<ModelServerSpec>) -> Held<ModelServerSpec> {
        let last_good = self.last_good.as_ref().and_then(Manifest::server).map(Custom::former);
        Held { last_good, ..self.object(spec) }
    }

    fn scheduler(self, spec: Spec<String>) -> Held<String> {
        let last_good = self.last_good.as_ref().and_then(Manifest::scheduler).map(Custom::former);
        Held { last_good, ..self.object(spec) }
    }

    fn object<T>(self, spec: Spec<T>) -> Held<T> {
        let Self { uid, generation, seniority, last_good: _ } = self;
        Held { uid, generation, seniority, spec, last_good: None }
    }
}

/// Whether it says something else than before. Most that is written to pods and nodes is a status that nobody here reads.
fn put(world: &mut World, manifest: Manifest, whose: Whose) -> bool {
    match manifest {
        Manifest::Route(Custom { name, generation: _, spec }) => hold(&mut world.routes, name, whose.route(Ok(spec))),
        Manifest::Server(Custom { name, generation: _, spec }) => {
            hold(&mut world.servers, name, whose.server(Ok(spec)))
        }
        Manifest::Provider(Custom { name, generation: _, spec }) => {
            hold(&mut world.providers, name, whose.object(Ok(spec)))
        }
        Manifest::Pod(pod) => world.pods.insert(pod.name.clone(), pod.clone()) != Some(pod),
        Manifest::Node(name, labels) => world.nodes.insert(name, labels.clone()) != Some(labels),
        Manifest::Secret(name, credentials) => world.secrets.insert(name, credentials.clone()) != Some(credentials),
        Manifest::Scheduler(Custom { name, generation: _, spec }) => configure(world, name, whose.scheduler(Ok(spec))),
    }
}

/// One of those of which no more counts than whether they are valid.
fn key(identity: &Identity) -> Option<(object::Kind, ObjectName)> {
    let kind = object::Kind::ALL.into_iter().find(|kind| kind.name() == identity.kind && !kind.is_published())?;
    Some((kind, ObjectName::new(Arc::clone(&identity.namespace), Arc::clone(&identity.name))))
}

fn judge(world: &mut World, identity: &Identity, whose: Whose, spec: Spec<()>) -> bool {
    let Some(key) = key(identity) else { return false };
    let held = whose.object(spec);
    world.judged.insert(key, held.clone()).as_ref() != Some(&held)
}

fn configure(world: &mut World, name: ObjectName, held: Held<String>) -> bool {
    let scheduler = Some(Scheduler { name, held });
    std::mem::replace(&mut world.scheduler, scheduler.clone()) != scheduler
}

fn hold<T: PartialEq>(kind: &mut Kind<T>, name: ObjectName, held: Held<T>) -> bool {
    kind.insert(name, held.clone()).as_ref() != Some(&held)
}

#[cfg(test)]
mod tests;
