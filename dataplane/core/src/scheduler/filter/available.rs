//! Places in flight and passive health: always on.

use super::Standing;
use crate::load::Live;
use crate::scheduler::{Rng, Scene};

pub(super) fn standing(live: &Live, scene: &Scene<'_>, rng: &mut Rng) -> Standing {
    if live.in_flight() >= scene.backend.max_in_flight {
        return Standing::Full;
    }
    let share = live.health().share(&scene.backend.ejection, scene.now_ms);
    if share >= 1.0 || (share > 0.0 && rng.unit() < share) { Standing::Ready } else { Standing::Unwell }
}
