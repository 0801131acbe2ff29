//! Which endpoints are scored: the best matches and a few random ones.

use api::snapshot::Scorers;
use smallvec::SmallVec;

use super::filter::{Admission, Standing};
use super::guess::guess;
use super::{
    Held, MANY_PROXIES, MATCHED_CANDIDATES, NoEndpoint, RANDOM_CANDIDATES, RANDOM_CANDIDATES_OF_MANY, Rng,
    SCORE_ALL_UP_TO, Scene,
};
use crate::plan::{Considered, Regard};

/// Draws per wanted random endpoint before the slots are walked instead.
const DRAWS: usize = 4;
/// Slots that one walk looks at: with one endpoint in a hundred free it finds one but for 1 in 10⁹ times.
const WALK: usize = 2_048;

pub(super) type Candidates = SmallVec<[Considered; 16]>;

/// What was drawn.
pub(super) struct Drawn {
    pub(super) candidates: Candidates,
    pub(super) health: Regard,
    /// The slot of the client's session, which is then among the candidates.
    pub(super) session: Option<u32>,
}

/// At least one candidate, or why there is none.
pub(super) fn draw(scene: &Scene<'_>, admission: &Admission<'_>, rng: &mut Rng) -> Result<Drawn, NoEndpoint> {
    let members = admission.slots().count() as usize;
    let wanted = wanted(scene, members);
    let mut slots = Slots::new();
    let mut target = members.min(wanted);
    let session = session(scene, admission, rng);
    if wanted < members {
        slots.extend(session);
        matched(scene, admission, &mut slots, rng);
        target = members.min(slots.len() + wanted);
        random(admission, target, &mut slots, rng);
    }
    let mut health = Regard::Considered;
    if slots.len() < target || slots.is_empty() {
        health = walk(admission, target, &mut slots, rng)?;
    }
    let mut candidates: Candidates = slots.iter().map(|slot| scene.consider(*slot)).collect();
    guess(scene, &mut candidates, rng);
    Ok(Drawn { candidates, health, session })
}

type Slots = SmallVec<[u32; 64]>;

fn wanted(scene: &Scene<'_>, members: usize) -> usize {
    let all = matches!(scene.backend.profile.scorers, Scorers::Weighted(_)) && members <= SCORE_ALL_UP_TO;
    // A small backend is looked at as a whole: two of four endpoints at random are balanced worse than it is worth. What keeps
    // many proxies apart there is that each guesses differently at what the others have done unheard.
    match scene.request.peers > MANY_PROXIES && members > MATCHED_CANDIDATES + RANDOM_CANDIDATES {
        _ if all => members,
        true => RANDOM_CANDIDATES_OF_MANY,
        false => RANDOM_CANDIDATES,
    }
}

/// The first of the session's endpoints that is ready.
fn session(scene: &Scene<'_>, admission: &Admission<'_>, rng: &mut Rng) -> Option<u32> {
    let mut places = scene.backend.session_places(scene.request.session?);
    places.find(|slot| admission.standing(*slot, rng) == Standing::Ready)
}

/// The endpoints that hold most, ties at random.
fn matched(scene: &Scene<'_>, admission: &Admission<'_>, slots: &mut Slots, rng: &mut Rng) {
    let mut held: SmallVec<[(u32, u32, u32); 8]> = SmallVec::new();
    held.extend(scene.matches.held.iter().map(|Held { slot, blocks }| (*blocks, rng.next_u64() as u32, *slot)));
    held.sort_unstable_by(|a, b| b.cmp(a));
    let mut left = MATCHED_CANDIDATES;
    for (.., slot) in held {
        if left > 0 && !slots.contains(&slot) && admission.standing(slot, rng) == Standing::Ready {
            slots.push(slot);
            left -= 1;
        }
    }
}

/// Random ready endpoints beside those already there. Most draws succeed, so no set is built or walked.
fn random(admission: &Admission<'_>, target: usize, slots: &mut Slots, rng: &mut Rng) {
    let universe = admission.slots().len();
    for _ in 0..DRAWS * (target - slots.len()) {
        let slot = rng.below(universe);
        if !slots.contains(&slot) && admission.standing(slot, rng) == Standing::Ready {
            slots.push(slot);
            if slots.len() == target {
                return;
            }
        }
    }
}

/// Fills up from a random slot on: small backends, rare adapters, and fleets in which few are ready. Where nobody is
/// ready, those that failed lately are better than nobody.
fn walk(admission: &Admission<'_>, target: usize, slots: &mut Slots, rng: &mut Rng) -> Result<Regard, NoEndpoint> {
    let mut unwell = Slots::new();
    let mut best = Standing::Out;
    let start = rng.below(admission.slots().len());
    for slot in admission.slots().iter_from(start).take(WALK) {
        if slots.contains(&slot) {
            continue;
        }
        let standing = admission.standing(slot, rng);
        best = best.min(standing);
        match standing {
            Standing::Ready => slots.push(slot),
            Standing::Unwell if unwell.len() < target => unwell.push(slot),
            _ => {}
        }
        if slots.len() == target {
            break;
        }
    }
    if !slots.is_empty() {
        return Ok(Regard::Considered);
    }
    if unwell.is_empty() {
        return Err(admission.refusal(best));
    }
    // One in slow start has not failed since; one that fails looks idle, and would be scored best.
    let fewest = unwell.iter().map(|slot| admission.failures(*slot)).min().unwrap_or(0);
    unwell.retain(|slot| admission.failures(*slot) == fewest);
    *slots = unwell;
    Ok(Regard::Ignored)
}
