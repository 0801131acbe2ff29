//! How far an object's newest form has come, over the data planes of all replicas: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::decode::Object;

use super::forms::Standing;
use super::key::{Key, Which};
use super::says::Counts;
use crate::peer::{Others, Part};
use crate::publish::serve::{Progress, Refused};

/// All data planes, as one replica knows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Fleet {
    /// Of this one.
    pub(super) own: Arc<Progress>,
    /// Of the other ones.
    pub(super) others: Arc<Others>,
}

impl Fleet {
    /// Nothing has been heard in between.
    pub(super) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.own, &other.own) && Arc::ptr_eq(&self.others, &other.others)
    }
}

/// How far an object's newest form has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Data planes do not get it as it is written.
    NotSent,
    /// There is no data plane.
    Nobody,
    /// Not all have answered.
    OnItsWay(Counts),
    /// All that are known have acknowledged it, but another replica is not heard that may have some.
    Unheard(Counts),
    /// Some refuse it.
    Refused { counts: Counts, reason: String },
    /// All that are connected have acknowledged it.
    Everywhere(Counts),
}

/// An object's newest form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest<'a> {
    pub(super) key: &'a Key,
    pub(super) which: Which<'a>,
    pub(super) generation: i64,
    /// Our round that had it first.
    pub(super) since: u64,
}

pub(super) fn reach(newest: Newest<'_>, fleet: &Fleet) -> Reach {
    let Fleet { own, others } = fleet;
    // Most of the time there is one replica and nothing is refused: then nothing need be named.
    let object = (!others.parts.is_empty() || !own.refused.is_empty()).then(|| newest.key.object());
    let mut parts = vec![of_own(own, newest.since)];
    if let Some(object) = &object {
        parts.extend(others.parts.iter().map(|part| of_other(part, object, newest)));
    }
    let object = object.as_ref();
    parts.iter().fold(Sum::default(), |sum, part| sum.with(part, object)).reach(others.unsure)
}

/// What one replica's data planes have of an object.
#[derive(Debug, Clone, Copy)]
struct Share<'a> {
    connected: usize,
    applied: usize,
    sent: bool,
    reached: bool,
    refused: &'a BTreeMap<Object, Refused>,
    stuck: Option<&'a str>,
}

fn of_own(progress: &Progress, since: u64) -> Share<'_> {
    let Progress { version: _, source, connected, applied, reached, refused, stuck } = progress;
    Share {
        connected: *connected,
        applied: *applied,
        sent: source.version >= since,
        reached: reached.is_some_and(|reached| reached.version >= since),
        refused,
        stuck: stuck.first().map(String::as_str),
    }
}

/// A replica that knows another generation, or does not have it sent as it is written, says nothing of this one.
fn of_other<'a>(part: &'a Part, object: &Object, newest: Newest<'_>) -> Share<'a> {
    let Part { connected, applied, newest: round, reached, stuck, standings, refused } = part;
    let same = |it: &&Standing| it.generation == newest.generation && it.uid == *newest.which.0;
    let since = standings.get(object).filter(same).map(|it| it.since);
    Share {
        connected: *connected,
        applied: *applied,
        sent: since.is_some_and(|since| *round >= since),
        reached: since.zip(*reached).is_some_and(|(since, reached)| reached >= since),
        refused,
        stuck: stuck.as_deref(),
    }
}

#[derive(Debug, Default)]
struct Sum<'a> {
    counts: Counts,
    refused: Option<&'a str>,
    on_its_way: bool,
}

impl<'a> Sum<'a> {
    fn with(mut self, share: &Share<'a>, object: Option<&Object>) -> Self {
        let Share { connected, applied, sent, reached, refused, stuck } = *share;
        // Without data planes nothing is held back.
        if connected == 0 {
            return self;
        }
        self.counts.connected += connected;
        let refused = object.filter(|_| sent).and_then(|object| refused.get(object));
        if let Some(Refused { by, reason }) = refused {
            self.counts.acknowledged += connected.saturating_sub(*by);
            self.refused = self.refused.or(Some(reason));
        } else if reached {
            self.counts.acknowledged += connected;
        } else {
            self.counts.acknowledged += if sent { applied } else { 0 };
            self.on_its_way = true;
            // A data plane that refuses a version as a whole stays with an older one, whatever else there is in the newer.
            self.refused = self.refused.or(stuck.filter(|_| sent));
        }
        self
    }

    fn reach(self, unsure: bool) -> Reach {
        let Self { counts, refused, on_its_way } = self;
        match refused {
            _ if counts.connected == 0 => Reach::Nobody,
            Some(reason) => Reach::Refused { counts, reason: reason.to_owned() },
            None if on_its_way => Reach::OnItsWay(counts),
            None if unsure => Reach::Unheard(counts),
            None => Reach::Everywhere(counts),
        }
    }
}
