//! All objects of a cluster, by kind and name: what was there before and is there after.

use std::collections::BTreeSet;

use kube::api::{Api, ListParams};
use kube::core::DynamicObject;
use kube::discovery::{Discovery, verbs};
use kube::{Client, ResourceExt};

/// What comes and goes by itself.
const PASSING: [&str; 3] = ["Event", "ComponentStatus", "IPAddress"];

pub async fn objects(client: &Client) -> BTreeSet<String> {
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let mut found = BTreeSet::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if PASSING.contains(&resource.kind.as_str()) || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            // A kind may go away while it is asked for.
            let Ok(list) = api.list(&ListParams::default()).await else { continue };
            let named = |object: DynamicObject| {
                let namespace = object.namespace().unwrap_or_default();
                format!("{}.{} {namespace}/{}", resource.kind, resource.group, object.name_any())
            };
            found.extend(list.items.into_iter().map(named));
        }
    }
    found
}
