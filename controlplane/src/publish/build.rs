//! World → Snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::id::BackendName;
use api::limits::{MAX_BACKENDS, MAX_ENDPOINTS, MAX_ROUTES};
use api::seen::Seen;
use api::snapshot::{Backend, Endpoint, Profile, Route, Snapshot, Version};

use super::conflicts::{Conflict, Owners};
use super::endpoints::{Maker, Members, PodIndex};
use super::last_good::Fallback;
use super::memory::{Known, Memory, Said, Sentences};
use super::route::{AcceptedRoute, Reference};
use super::server::Pool;
use super::verdict::{Condition, ObjectVerdict, Reason, RouteVerdict, SchedulerVerdict, ServerVerdict, Verdicts};
use super::{profile, provider, route, server};
use crate::object;
use crate::world::{Held, Kind, ObjectName, World};

/// What is not in the world and shows in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Salts every prefix hash; secret, and the same for the whole fleet.
    pub fleet_seed: u64,
}

/// What a world comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Built {
    /// What data planes are told. Its version is left at 0 for whoever publishes it.
    pub snapshot: Snapshot,
    /// What became of each object.
    pub verdicts: Verdicts,
}

/// Judges every object and puts together what data planes are told. It cannot fail: an object that cannot be published is
/// left out, or stays in its last good form, says so in its verdict, and takes nothing else with it.
pub fn build(world: &World, settings: &Settings, memory: &mut Memory) -> Built {
    let (profile, scheduler) = scheduler(world, memory);
    let (routes, route_verdicts) = routes(world, memory);
    let refusals = refusals(&routes);
    let room = MAX_BACKENDS - refusals.len().min(MAX_BACKENDS);
    let (mut backends, server_verdicts) = servers(world, memory, profile.as_ref(), room);
    backends.extend(refusals);
    memory.end_build(world);
    let snapshot = Snapshot {
        version: Version::default(),
        fleet_seed: settings.fleet_seed,
        routes,
        backends,
        profiles: profile.into_iter().collect(),
        // Whoever read the world says so.
        seen: Seen::default(),
    };
    let providers = world.providers.iter().map(|(name, held)| (name.clone(), provider::judge(name, held, world)));
    let verdicts = Verdicts {
        routes: route_verdicts,
        servers: server_verdicts,
        providers: providers.collect(),
        judged: judged_alone(world),
        scheduler,
    };
    Built { snapshot, verdicts }
}

/// Of the objects that decide nothing in data planes: no more is said of them than whether they are valid, which whoever read them knows.
pub(crate) fn judged_alone(world: &World) -> BTreeMap<(object::Kind, ObjectName), ObjectVerdict> {
    let verdict = |held: &Held<()>| {
        let accepted = judged(held.spec.as_ref().err(), &Fallback::Unneeded);
        ObjectVerdict { generation: held.generation, accepted }
    };
    world.judged.iter().map(|(key, held)| (key.clone(), verdict(held))).collect()
}

impl Memory {
    /// Forgets what this build did not see.
    fn end_build(&mut self, world: &World) {
        self.routes.keep(|name| world.routes.contains_key(name));
        self.servers.keep(|name| world.servers.contains_key(name));
        self.scheduler.keep(|name| world.scheduler.as_ref().is_some_and(|s| s.name == *name));
        self.endpoints.end_round();
        self.handles.forget_gone(world.pods.values().map(|pod| &pod.uid));
    }
}

fn scheduler(world: &World, memory: &mut Memory) -> (Option<Profile>, Option<SchedulerVerdict>) {
    let Some(scheduler) = &world.scheduler else { return (None, None) };
    let said = Said::of(&scheduler.name, &scheduler.held);
    let Known { in_force, refusal, fallback } = memory.scheduler.judge(&said, profile::accept);
    let accepted = judged_by(refusal.as_ref(), &fallback, "resourceVersion");
    let notes = in_force.as_ref().map(|accepted| accepted.notes.clone()).unwrap_or_default();
    let verdict = SchedulerVerdict { name: scheduler.name.clone(), accepted, notes, fallback };
    (in_force.map(|accepted| accepted.profile.clone()), Some(verdict))
}

fn routes(world: &World, memory: &mut Memory) -> (Vec<Route>, BTreeMap<ObjectName, RouteVerdict>) {
    let known: Vec<_> = oldest_first(&world.routes)
        .map(|(name, held)| (name, held, memory.routes.judge(&Said::of(name, held), route::accept)))
        .collect();
    let (mut routes, mut verdicts) = (Vec::new(), BTreeMap::new());
    let mut owners = Owners::default();
    for (name, held, known) in &known {
        let (accepted, route) = match &known.in_force {
            None => (judged(known.refusal.as_ref(), &known.fallback), None),
            Some(route) => match owners.claim(name, &route.places, &route.route) {
                Err(conflict) => (conflicted(&conflict), None),
                Ok(()) => (accepted(known, route), route.published()),
            },
        };
        let full = route.is_some() && routes.len() == MAX_ROUTES;
        let accepted = if full { too_many("routes", MAX_ROUTES) } else { accepted };
        let route = if full { None } else { route };
        let resolved_refs = references(world, known.in_force.as_deref());
        let (generation, published, fallback) = (held.generation, route.is_some(), known.fallback.clone());
        let verdict = RouteVerdict { generation, accepted, resolved_refs, published, fallback };
        verdicts.insert((*name).clone(), verdict);
        routes.extend(route.cloned());
    }
    (routes, verdicts)
}

fn accepted(known: &Known<AcceptedRoute>, route: &AcceptedRoute) -> Condition {
    match (&route.unserved, &known.refusal) {
        (Some((reason, sentence)), None) => Condition::no(*reason, sentence.as_str()),
        (_, refusal) => judged(refusal.as_ref(), &known.fallback),
    }
}

fn references(world: &World, route: Option<&AcceptedRoute>) -> Condition {
    let missing = |reference: &Reference| match reference {
        Reference::Server(name) => (!world.servers.contains_key(name)).then(|| {
            let sentence = format!("there is no ModelServer {name}: requests for it are answered 404");
            (Reason::BackendNotFound, sentence)
        }),
        Reference::Provider(name) if !world.providers.contains_key(name) => {
            let sentence = format!("there is no ExternalModelProvider {name}: requests for it are answered 503");
            Some((Reason::ProviderNotFound, sentence))
        }
        Reference::Provider(name) => {
            let sentence = format!(
                "ExternalModelProvider {name}: data planes of this release do not call external providers, requests for \
                 it are answered 503"
            );
            Some((Reason::NotServed, sentence))
        }
    };
    let references = route.map(|route| route.references.as_slice()).unwrap_or_default();
    let mut missing = references.iter().filter_map(missing);
    match missing.next() {
        None => Condition::yes(Reason::ResolvedRefs, ""),
        Some((reason, first)) => {
            let all: Vec<String> = std::iter::once(first).chain(missing.map(|(_, sentence)| sentence)).collect();
            Condition::no(reason, all.join("; "))
        }
    }
}

/// What routes send to where this release's data planes could only do half of what was asked: a backend without endpoints,
/// which answers 503.
pub(super) fn refusals(routes: &[Route]) -> Vec<Backend> {
    let targets = routes.iter().flat_map(|route| &*route.rules).flat_map(|rule| &rule.targets);
    let names: BTreeSet<&BackendName> =
        targets.map(|target| &target.backend).filter(|name| server::is_refusal(name)).collect();
    names.into_iter().map(server::refusal).collect()
}

fn servers(
    world: &World,
    memory: &mut Memory,
    profile: Option<&Profile>,
    room: usize,
) -> (Vec<Backend>, BTreeMap<ObjectName, ServerVerdict>) {
    let known: Vec<_> = oldest_first(&world.servers)
        .map(|(name, held)| (name, held, memory.servers.judge(&Said::of(name, held), server::accept)))
        .collect();
    let pools = known.iter().filter_map(|(name, _, known)| Some((*name, known.in_force.as_deref()?)));
    let mut maker = Maker {
        world,
        index: PodIndex::new(world, pools),
        handles: &mut memory.handles,
        memory: &mut memory.endpoints,
        room: MAX_ENDPOINTS,
    };
    let (mut backends, mut verdicts) = (Vec::new(), BTreeMap::new());
    for (name, held, known) in &known {
        let pool = known.in_force.as_ref().filter(|_| backends.len() < room);
        let members = pool.map(|pool| maker.members(name, pool)).unwrap_or_default();
        let mut verdict = server_verdict(held, known, pool, &members);
        verdict.notes.extend(differing(world, &members));
        if let Some(pool) = pool {
            let profile = profile.map(|profile| profile.name.clone());
            let endpoints = if pool.unserved.is_some() { Vec::new() } else { members.endpoints };
            backends.push(Backend { endpoints, profile, ..pool.backend.clone() });
        }
        verdicts.insert((*name).clone(), verdict);
    }
    (backends, verdicts)
}

fn server_verdict<T>(
    held: &Held<T>,
    known: &Known<Pool>,
    pool: Option<&Arc<Pool>>,
    members: &Members,
) -> ServerVerdict {
    let accepted = match (pool, known.in_force.is_some()) {
        (None, true) => too_many("ModelServers", MAX_BACKENDS),
        (None, false) => judged(known.refusal.as_ref(), &known.fallback),
        (Some(pool), _) => match (&pool.unserved, &known.refusal) {
            (Some(sentence), None) => Condition::no(Reason::NotServed, sentence.as_str()),
            _ => judged(known.refusal.as_ref(), &known.fallback),
        },
    };
    ServerVerdict {
        generation: held.generation,
        accepted,
        ready: server::readiness(pool.map(|pool| &**pool), members),
        endpoints: members.endpoints.len(),
        left_out: members.left_out.clone(),
        notes: pool.map(|pool| pool.notes.clone()).unwrap_or_default(),
        fallback: known.fallback.clone(),
    }
}

/// Where engines write chats otherwise than data planes do, in a sentence.
fn differing(world: &World, members: &Members) -> Option<String> {
    let of = |endpoint: &Arc<Endpoint>| world.differing.get(&endpoint.key);
    let mut reasons = members.endpoints.iter().filter_map(of);
    let first = reasons.next()?;
    let (count, all) = (1 + reasons.count(), members.endpoints.len());
    Some(format!("what {count} of {all} engines cache is only predicted: {first}"))
}

fn oldest_first<T>(kind: &Kind<T>) -> impl Iterator<Item = (&ObjectName, &Held<T>)> {
    let mut objects: Vec<_> = kind.iter().collect();
    objects.sort_by(|(a, held_a), (b, held_b)| (&held_a.seniority, a).cmp(&(&held_b.seniority, b)));
    objects.into_iter()
}

fn judged(refusal: Option<&Sentences>, fallback: &Fallback) -> Condition {
    judged_by(refusal, fallback, "generation")
}

fn judged_by(refusal: Option<&Sentences>, fallback: &Fallback, counted: &str) -> Condition {
    match refusal {
        None => Condition::yes(Reason::Accepted, ""),
        Some(problems) => {
            let mut message = problems.join("; ");
            if let Some(sentence) = fallback.sentence(counted) {
                message.push_str(&format!(" ({sentence})"));
            }
            Condition::no(Reason::Invalid, message)
        }
    }
}

fn conflicted(conflict: &Conflict) -> Condition {
    let Conflict { model, owner } = conflict;
    let sentence = format!(
        "the model name {model:?} belongs to namespace {}, whose route {owner} is older: use another name, or move this \
         route there",
        owner.namespace
    );
    Condition::no(Reason::Conflicted, sentence)
}

fn too_many(what: &str, most: usize) -> Condition {
    Condition::no(Reason::TooMany, format!("there are more than {most} {what}, and this one is among the youngest"))
}
