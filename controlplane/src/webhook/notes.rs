//! What is said of an object that is taken: which of it has no effect.

use std::sync::Arc;

use serde_json::Value;

use crate::object::{self, Kind, Object, Unknown};
use crate::publish::{Condition, Memory, Reason, Settings, build};
use crate::world::{Held, ObjectName, Seniority, World};

/// Bounds what one object can make us say.
const MOST: usize = 16;

/// Fields that the API server's schema has and ours has not: its definitions are those of a newer release.
pub(super) fn unknown_fields(kind: Kind, object: &Value) -> Vec<String> {
    let mut known = object.clone();
    // After the unknown fields are dropped nothing is left to say that `admit` does not say.
    let strict = object::conform(kind, &mut known.clone(), Unknown::Refuse);
    let lenient = object::conform(kind, &mut known, Unknown::Drop);
    let unknown = strict.into_iter().filter(|problem| !lenient.contains(problem));
    let sentence = |path| format!("{path}: this release does not have the field, and passes over it");
    unknown.take(MOST).map(|problem| sentence(problem.path)).collect()
}

/// What becomes of an object if there is nothing else.
#[derive(Debug, Default)]
pub(super) struct Alone {
    /// Why it would never be published.
    pub(super) refusal: Option<String>,
    /// What of it would have no effect.
    pub(super) notes: Vec<String>,
}

/// Asks the publisher, in whose conditions the same would show later.
pub(super) fn alone(object: Object) -> Alone {
    let namespace = object.meta().namespace.clone().unwrap_or_else(|| "default".to_owned());
    let name = ObjectName::new(namespace, object.meta().name.clone().unwrap_or_default());
    let mut world = World::default();
    match object {
        Object::ModelRoute(route) => world.routes.insert(name, held(route.spec)).map(drop),
        Object::ModelServer(server) => world.servers.insert(name, held(server.spec)).map(drop),
        Object::ExternalModelProvider(provider) => world.providers.insert(name, held(provider.spec)).map(drop),
        Object::ModelServing(_)
        | Object::ModelBooster(_)
        | Object::AutoscalingPolicy(_)
        | Object::AutoscalingPolicyBinding(_) => return Alone::default(),
    };
    let verdicts = build(&world, &Settings::default(), &mut Memory::default()).verdicts;
    let mut alone = Alone::default();
    for verdict in verdicts.routes.into_values() {
        alone.condition(verdict.accepted);
    }
    for verdict in verdicts.servers.into_values() {
        alone.condition(verdict.accepted);
        alone.notes.extend(verdict.notes.into_iter().map(|note| format!("spec.{note}")));
    }
    for verdict in verdicts.providers.into_values() {
        alone.condition(verdict.accepted);
    }
    alone.notes.truncate(MOST);
    alone
}

impl Alone {
    fn condition(&mut self, accepted: Condition) {
        let Condition { holds, reason, message } = accepted;
        match reason {
            _ if holds => {}
            Reason::Invalid => self.refusal = Some(message),
            _ => self.notes.push(message),
        }
    }
}

fn held<T>(spec: T) -> Held<T> {
    Held { uid: "".into(), generation: 0, seniority: Seniority::Created(0), spec: Ok(Arc::new(spec)), last_good: None }
}
