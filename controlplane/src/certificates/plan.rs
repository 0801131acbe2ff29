//! What is due, from what is held. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::Times;
use super::held::{Held, Leaf, Life};

/// What there is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Names and addresses that the leaf is for.
    pub(super) hosts: &'a BTreeSet<String>,
    pub(super) times: Times,
}

/// One write of the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is nothing that can be used: a CA and a leaf of it.
    BeginAnew,
    /// A new CA, which signs nothing yet.
    AddCa,
    /// A leaf by the newest CA.
    MakeLeaf,
    /// The newest CA alone stays.
    DropOldCa,
}

/// For how long things have been as they are, by a clock that never jumps: were it the wall clock, one that is set forward by an hour would
/// have nobody wait for anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stood {
    /// Everyone who gets the bundle is known to have been given it as it is now. None where not everyone is.
    pub(super) bundle: Option<Duration>,
    /// The Secret has had this leaf.
    pub(super) leaf: Duration,
}

/// What is to be done about what is held. None where nothing is due: look again later.
pub(super) fn due(held: &Held, stood: Stood, wanted: Wanted<'_>, now: Timestamp) -> Option<Step> {
    let Wanted { hosts, times } = wanted;
    let leaf = held.leaf.as_ref().filter(|leaf| now < leaf.life.until);
    let signer = held.signer.filter(|signer| !is_old(held.cas[*signer].life, now));
    let (leaf, signer) = match (leaf, signer) {
        (None, None) => return Some(Step::BeginAnew),
        // Nobody can verify what is served now, so nothing is lost by haste.
        (None, Some(_)) => return Some(Step::MakeLeaf),
        (Some(_), None) => return Some(Step::AddCa),
        (Some(leaf), Some(signer)) => (leaf, signer),
    };
    if leaf.issuer != signer {
        // Clients that do not know the new CA yet would refuse the leaf.
        let known = stood.bundle.is_some_and(|time| time >= times.settle);
        return known.then_some(Step::MakeLeaf);
    }
    if is_old(leaf.life, now) || !leaf.hosts.is_superset(hosts) {
        return Some(Step::MakeLeaf);
    }
    // A replica that has not seen the new leaf yet serves the old one.
    (held.cas.len() > 1 && stood.leaf >= times.settle).then_some(Step::DropOldCa)
}

/// The names of the next leaf. Between renewals it keeps those of the last one: two replicas that differ about the names, as
/// during an upgrade, would otherwise take turns.
pub(super) fn next_hosts(leaf: Option<&Leaf>, hosts: &BTreeSet<String>, now: Timestamp) -> BTreeSet<String> {
    const MOST: usize = 32;
    match leaf.filter(|leaf| !is_old(leaf.life, now)).map(|leaf| &leaf.hosts | hosts) {
        Some(both) if both.len() <= MOST => both,
        _ => hosts.clone(),
    }
}

/// After two thirds of its life there is time left to notice that renewing fails.
fn is_old(life: Life, now: Timestamp) -> bool {
    let whole = life.until.duration_since(life.from);
    now.duration_since(life.from) >= whole / 3 * 2
}
