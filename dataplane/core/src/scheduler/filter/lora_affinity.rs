//! Kthena's filter: endpoints that have the adapter loaded. The adapter is the one asked for, never the route's model:
//! requests for a base model are not filtered, and endpoints that do not say what they have are kept.

use crate::scheduler::Scene;
use crate::table::Bitset;

pub(super) const NAME: &str = "lora-affinity";

pub(super) fn members<'a>(scene: &Scene<'a>) -> Option<&'a Bitset> {
    scene.request.adapter.map(|adapter| scene.backend.with_adapter(adapter))
}
