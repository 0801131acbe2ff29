//! What is built in the place of a world that makes a build panic, and what is said of its objects. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::build::judged_alone;
use super::last_good::Fallback;
use super::verdict::{Condition, ProviderVerdict, Reason, RouteVerdict, SchedulerVerdict, ServerVerdict, Verdicts};
use crate::world::{Held, Kind, LastGood, ObjectName, Scheduler, World};

/// The world without what has changed since the last one that was built: each object as it was there, and none that was not. Where none was
/// built yet, as after a start, each is as its source keeps it, and as it is now where that keeps nothing. All else is of now.
pub fn settled(world: &World, built: Option<&World>) -> World {
    let scheduler = world.scheduler.as_ref().and_then(|Scheduler { name, held }| {
        let before = built.map(|built| built.scheduler.as_ref().filter(|before| before.name == *name));
        let held = former(held, before.map(|before| before.map(|before| &before.held)))?;
        Some(Scheduler { name: name.clone(), held })
    });
    World {
        routes: formers(&world.routes, built.map(|built| &built.routes)),
        servers: formers(&world.servers, built.map(|built| &built.servers)),
        providers: formers(&world.providers, built.map(|built| &built.providers)),
        scheduler,
        ..world.clone()
    }
}

fn formers<T>(now: &Kind<T>, built: Option<&Kind<T>>) -> Kind<T> {
    let form = |(name, held): (&ObjectName, _)| Some((name.clone(), former(held, built.map(|built| built.get(name)))?));
    now.iter().filter_map(form).collect()
}

fn former<T>(now: &Held<T>, built: Option<Option<&Held<T>>>) -> Option<Held<T>> {
    match (built, &now.last_good) {
        // Another object of its name has nothing of it.
        (Some(built), _) => built.filter(|built| built.uid == now.uid).cloned(),
        (None, Some(kept)) if now.spec.is_ok() => {
            let LastGood { generation, spec } = &**kept;
            Some(Held { generation: *generation, spec: Ok(spec.clone()), last_good: None, ..now.clone() })
        }
        (None, _) => Some(now.clone()),
    }
}

/// Of a world that cannot be built, beside the last one that could: what has not changed since is as it was; of what has nothing is in
/// force but what was.
pub fn unbuilt(world: &World, (before, verdicts): (&World, &Verdicts), why: &str) -> Verdicts {
    let sentence = format!(
        "what is written now makes the control plane panic, by a fault of its own, so that it goes on without what has changed since: undo the last \
         change, and please report it ({why})"
    );
    let no = || Condition::no(Reason::NotBuilt, sentence.as_str());
    let routes = judged(&world.routes, &before.routes, &verdicts.routes, |generation, before| match before {
        Some((held, before)) => {
            RouteVerdict { generation, accepted: no(), fallback: fallback(held, &before.fallback), ..before.clone() }
        }
        None => {
            let (accepted, resolved_refs) = (no(), no());
            RouteVerdict { generation, accepted, resolved_refs, published: false, fallback: Fallback::Missing }
        }
    });
    let servers = judged(&world.servers, &before.servers, &verdicts.servers, |generation, before| match before {
        Some((held, before)) => {
            ServerVerdict { generation, accepted: no(), fallback: fallback(held, &before.fallback), ..before.clone() }
        }
        None => {
            let (accepted, ready, fallback) = (no(), no(), Fallback::Missing);
            ServerVerdict {
                generation,
                accepted,
                ready,
                endpoints: 0,
                left_out: Vec::new(),
                notes: Vec::new(),
                fallback,
            }
        }
    });
    let providers = judged(&world.providers, &before.providers, &verdicts.providers, |generation, before| {
        let credentials = before.map_or_else(no, |(_, before)| before.credentials.clone());
        ProviderVerdict { generation, accepted: no(), credentials }
    });
    let scheduler = world.scheduler.as_ref().map(|Scheduler { name, held }| {
        let before = before.scheduler.as_ref().filter(|before| before.name == *name).map(|before| &before.held);
        verdict(held, before.zip(verdicts.scheduler.as_ref()), |_, before| {
            let notes = before.map(|(_, before)| before.notes.clone()).unwrap_or_default();
            let fallback = before.map_or(Fallback::Missing, |(held, before)| fallback(held, &before.fallback));
            SchedulerVerdict { name: name.clone(), accepted: no(), notes, fallback }
        })
    });
    Verdicts { routes, servers, providers, judged: judged_alone(world), scheduler }
}

/// What is in force of an object that has changed since this was built.
fn fallback<T: Serialize>(built: &Held<T>, fallback: &Fallback) -> Fallback {
    match (&built.spec, fallback) {
        (Ok(spec), Fallback::Unneeded) => Fallback::to(built.generation, &**spec),
        (_, fallback) => fallback.clone(),
    }
}

fn judged<T: PartialEq, V: Clone>(
    now: &Kind<T>,
    before: &Kind<T>,
    verdicts: &BTreeMap<ObjectName, V>,
    changed: impl Fn(i64, Option<(&Held<T>, &V)>) -> V,
) -> BTreeMap<ObjectName, V> {
    let judge = |(name, held): (&ObjectName, &Held<T>)| {
        (name.clone(), verdict(held, before.get(name).zip(verdicts.get(name)), &changed))
    };
    now.iter().map(judge).collect()
}

fn verdict<T: PartialEq, V: Clone>(
    held: &Held<T>,
    before: Option<(&Held<T>, &V)>,
    changed: impl Fn(i64, Option<(&Held<T>, &V)>) -> V,
) -> V {
    // Another object of its name has nothing of it.
    match before.filter(|(before, _)| before.uid == held.uid) {
        Some((before, known)) if before == held => known.clone(),
        before => changed(held.generation, before),
    }
}
