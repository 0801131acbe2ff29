//! What is to be kept: pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::publish::Fallback;
use crate::run::Round;
use crate::source::Reading;
use crate::source::manifest::{Identity, written, written_custom, written_scheduler};
use crate::world::{Held, ObjectName, Scheduler, Seniority};

/// Objects as they were when they were good, by file and by their place in it.
pub(super) type Wanted = BTreeMap<Arc<Path>, BTreeMap<u32, Value>>;

/// Forms that count in the place of what cannot be read, and those that do in the place of what was read and is refused. Of one
/// object that is both, the form that is in force.
pub(super) fn wanted(reading: &Reading, round: &Round) -> Wanted {
    let mut wanted = Wanted::new();
    for (file, forms) in &reading.former {
        let objects = forms.iter().map(|form| (form.position, written(&form.identity, &form.manifest)));
        wanted.insert(Arc::clone(file), objects.collect());
    }
    let Round { world, verdicts, snapshot: _ } = round;
    for (name, verdict) in &verdicts.routes {
        judged(&mut wanted, ("ModelRoute", name), world.routes.get(name), &verdict.fallback);
    }
    for (name, verdict) in &verdicts.servers {
        judged(&mut wanted, ("ModelServer", name), world.servers.get(name), &verdict.fallback);
    }
    if let (Some(Scheduler { name, held }), Some(verdict)) = (&world.scheduler, &verdicts.scheduler) {
        judged(&mut wanted, ("ConfigMap", name), Some(held), &verdict.fallback);
    }
    wanted.retain(|_, objects| !objects.is_empty());
    wanted
}

fn judged<T>(
    wanted: &mut Wanted,
    (kind, name): (&'static str, &ObjectName),
    held: Option<&Held<T>>,
    fallback: &Fallback,
) {
    let Some(Held { seniority: Seniority::Listed { file, position }, .. }) = held else { return };
    match fallback {
        Fallback::Unneeded => {}
        Fallback::Kept(good) => {
            let (namespace, name) = (Arc::clone(&name.namespace), Arc::clone(&name.name));
            let identity = Identity { kind, namespace, name };
            let object = match kind {
                "ConfigMap" => written_scheduler(&identity, good.spec.as_str().unwrap_or_default()),
                _ => written_custom(&identity, good.generation, good.spec.clone()),
            };
            wanted.entry(Arc::clone(file)).or_default().insert(*position, object);
        }
        Fallback::Missing | Fallback::TooLarge(_) => {
            wanted.get_mut(file).map(|objects| objects.remove(position));
        }
    }
}
