//! Builds to look at.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::publish::{Memory, Settings, build};
use crate::run::Round;
use crate::world::{Held, Life, ObjectName, Pod, Seniority, World};

/// A build of these servers, by name and spec, and of a ready pod at each address that has the label `app: x`.
pub(crate) fn round(servers: &[(String, Value)], pods: &[IpAddr]) -> Round {
    built(world(servers, pods))
}

/// What it is the build of.
pub(crate) fn world(servers: &[(String, Value)], pods: &[IpAddr]) -> World {
    let mut world = World::default();
    for (name, spec) in servers {
        let spec = Ok(Arc::new(serde_json::from_value(spec.clone()).unwrap()));
        let held = Held { uid: "u".into(), generation: 1, seniority: Seniority::Created(0), spec, last_good: None };
        world.servers.insert(ObjectName::new("default", name.as_str()), held);
    }
    for ip in pods {
        let name = ObjectName::new("default", ip.to_string());
        let labels = BTreeMap::from([("app".to_owned(), "x".to_owned())]);
        let uid = Arc::clone(&name.name);
        let pod = Pod { name: name.clone(), uid, labels, node: None, ips: vec![*ip], life: Life::Ready, started: None };
        world.pods.insert(name, Arc::new(pod));
    }
    world
}

/// The build of a world, with no build before it.
pub(crate) fn built(world: World) -> Round {
    let built = build(&world, &Settings { fleet_seed: 1 }, &mut Memory::default());
    Round { world, verdicts: built.verdicts, snapshot: Arc::new(built.snapshot) }
}
