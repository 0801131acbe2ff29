//! All files together: a world, and what is wrong with any of them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::file::{File, Placed};
use crate::source::manifest::{Custom, Identity, Manifest, SCHEDULER};
use crate::source::{Fault, MAX_FAULTS, Reading};
use crate::world::{Held, Kind, LastGood, ObjectName, Scheduler, Seniority};

/// The first of two objects of one name counts, by path and position; the other is a fault.
pub(super) fn merge(files: &BTreeMap<Arc<Path>, File>) -> Reading {
    let mut merge = Merge::default();
    for (path, file) in files {
        merge.reading.others += file.others;
        if let Some(sentence) = &file.fault {
            merge.fault(path, None, sentence.clone());
        }
        for placed in &file.objects {
            merge.add(path, placed);
        }
        let former = file.former();
        if !former.is_empty() {
            merge.reading.former.insert(Arc::clone(path), former);
        }
    }
    merge.reading
}

#[derive(Debug, Default)]
struct Merge<'f> {
    reading: Reading,
    first: HashMap<&'f Identity, Place<'f>>,
    first_uid: HashMap<Arc<str>, &'f Identity>,
}

type Place<'f> = (&'f Path, u32);

impl<'f> Merge<'f> {
    fn add(&mut self, path: &'f Arc<Path>, placed: &'f Placed) {
        for problem in &placed.problems {
            self.fault(path, Some(placed), problem.clone());
        }
        let Some(identity) = &placed.identity else { return };
        match self.first.entry(identity) {
            Entry::Occupied(first) => {
                let (file, position) = *first.get();
                let sentence = format!(
                    "is there already, as object {} of {}: remove one of them",
                    position + 1,
                    if file == &**path { "this file".to_owned() } else { file.display().to_string() }
                );
                return self.fault(path, Some(placed), sentence);
            }
            Entry::Vacant(place) => place.insert((path, placed.position)),
        };
        match &placed.manifest {
            Some(manifest) => self.put(path, placed, identity, manifest),
            None => self.put_refused(path, placed, identity),
        }
    }

    fn put(&mut self, path: &Arc<Path>, placed: &'f Placed, identity: &'f Identity, manifest: &Manifest) {
        let seniority = Seniority::Listed { file: Arc::clone(path), position: placed.position };
        let (problems, former) = (&placed.problems[..], placed.former.as_ref());
        let world = &mut self.reading.world;
        match manifest {
            Manifest::Route(custom) => {
                put(&mut world.routes, seniority, Forms { custom, problems, former: former.and_then(Manifest::route) });
            }
            Manifest::Server(custom) => {
                put(
                    &mut world.servers,
                    seniority,
                    Forms { custom, problems, former: former.and_then(Manifest::server) },
                );
            }
            Manifest::Provider(custom) => {
                put(&mut world.providers, seniority, Forms { custom, problems, former: None });
            }
            Manifest::Pod(pod) => match self.first_uid.entry(Arc::clone(&pod.uid)) {
                Entry::Occupied(first) => {
                    let sentence = format!("metadata.uid: {} is that of {} already", pod.uid, first.get());
                    self.fault(path, Some(placed), sentence);
                }
                Entry::Vacant(place) => {
                    place.insert(identity);
                    world.pods.insert(pod.name.clone(), Arc::clone(pod));
                }
            },
            Manifest::Node(name, labels) => {
                world.nodes.insert(Arc::clone(name), Arc::clone(labels));
            }
            Manifest::Secret(name, credentials) => {
                world.secrets.insert(name.clone(), Arc::clone(credentials));
            }
            Manifest::Scheduler(custom) => {
                let forms = Forms { custom, problems, former: former.and_then(Manifest::scheduler) };
                let scheduler = Scheduler { name: custom.name.clone(), held: held(seniority, forms) };
                self.configure(path, placed, scheduler);
            }
        }
    }

    /// There is one scheduler.
    fn configure(&mut self, path: &Arc<Path>, placed: &Placed, scheduler: Scheduler) {
        match &self.reading.world.scheduler {
            Some(first) => {
                let sentence = format!("the scheduler is configured by ConfigMap {} already", first.name);
                self.fault(path, Some(placed), sentence);
            }
            None => self.reading.world.scheduler = Some(scheduler),
        }
    }

    /// A custom resource that never was good is there all the same, so that its verdict says why it does nothing.
    fn put_refused(&mut self, path: &Arc<Path>, placed: &Placed, identity: &Identity) {
        let name = ObjectName::new(Arc::clone(&identity.namespace), Arc::clone(&identity.name));
        let seniority = Seniority::Listed { file: Arc::clone(path), position: placed.position };
        let problems: Arc<[String]> = placed.problems.clone().into();
        let world = &mut self.reading.world;
        match identity.kind {
            "ModelRoute" => refuse(&mut world.routes, name, seniority, problems),
            "ModelServer" => refuse(&mut world.servers, name, seniority, problems),
            "ExternalModelProvider" => refuse(&mut world.providers, name, seniority, problems),
            "ConfigMap" if *identity.name == *SCHEDULER.0 => {
                let scheduler = Scheduler { name, held: refused(seniority, problems) };
                self.configure(path, placed, scheduler);
            }
            _ => {}
        }
    }

    fn fault(&mut self, path: &Arc<Path>, placed: Option<&Placed>, sentence: String) {
        if self.reading.faults.len() < MAX_FAULTS {
            let position = placed.map(|placed| placed.position + 1);
            let object = placed.and_then(|placed| placed.identity.clone());
            self.reading.faults.push(Fault { file: Arc::clone(path), position, object, sentence });
        }
    }
}

/// Of one custom resource.
struct Forms<'a, T> {
    /// What counts of it: the latest form where nothing is wrong with that.
    custom: &'a Custom<T>,
    problems: &'a [String],
    /// Of another life of the process.
    former: Option<&'a Custom<T>>,
}

fn put<T>(kind: &mut Kind<T>, seniority: Seniority, forms: Forms<'_, T>) {
    kind.insert(forms.custom.name.clone(), held(seniority, forms));
}

/// In its latest form where that can be read. Where it cannot, the world says so, and what was published of it stays.
fn held<T>(seniority: Seniority, forms: Forms<'_, T>) -> Held<T> {
    let Forms { custom, problems, former } = forms;
    let (spec, former) = match problems {
        [] => (Ok(Arc::clone(&custom.spec)), former),
        problems => (Err(problems.into()), Some(custom)),
    };
    // Nobody counts here: whatever is remembered is later than what was kept.
    let last_good = former.map(|former| Arc::new(LastGood { generation: 0, spec: Arc::clone(&former.spec) }));
    Held { uid: "".into(), generation: custom.generation, seniority, spec, last_good }
}

fn refuse<T>(kind: &mut Kind<T>, name: ObjectName, seniority: Seniority, problems: Arc<[String]>) {
    kind.insert(name, refused(seniority, problems));
}

fn refused<T>(seniority: Seniority, problems: Arc<[String]>) -> Held<T> {
    Held { uid: "".into(), generation: 0, seniority, spec: Err(problems), last_good: None }
}
