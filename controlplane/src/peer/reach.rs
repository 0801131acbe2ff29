//! How far each other replica's data planes are: what we tell of ours, and what we heard of theirs.
//!
//! Rounds are counted by each replica for itself, so a replica says since which of its rounds it has an object's generation, and
//! which round all of its data planes have in force: what is everywhere follows from the two. So an edit costs a line of that
//! object, and an answer, a join or a leave costs some numbers, however many objects there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::decode::Object;
use api::id::{BackendName, RouteName};
use api::limits::{MAX_BACKENDS, MAX_NAME_BYTES, MAX_ROUTES};
use api::proto::refusal::Kind;
use api::proto::{PeerObject, PeerProgress, PeerRefusal, PeerReport};

use super::wire::WireError;
use crate::publish::serve::{Progress, Refused};
use crate::status::{Standing, Standings};

/// Objects of one replica.
const MOST: usize = MAX_ROUTES + MAX_BACKENDS;
/// Bytes of a reason that are kept.
const REASON_BYTES: usize = 1024;
/// Bytes of objects or refusals in one message.
const IN_ONE: usize = 1 << 20;

/// What the data planes of another replica have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Data planes.
    pub connected: usize,
    /// Of these, those that have acknowledged its newest round.
    pub applied: usize,
    /// Its newest round.
    pub newest: u64,
    /// The round that all of them have at least; none where nobody is connected, or somebody has nothing yet.
    pub reached: Option<u64>,
    /// What one said that refused a round as a whole.
    pub stuck: Option<String>,
    /// What is sent as it is written.
    pub standings: Arc<Standings>,
    /// What is refused.
    pub refused: Arc<BTreeMap<Object, Refused>>,
}

impl Part {
    /// Takes in what is new.
    pub(super) fn take(&mut self, objects: Vec<PeerObject>, refusals: Vec<PeerRefusal>) -> Result<(), WireError> {
        if !objects.is_empty() {
            let standings = Arc::make_mut(&mut self.standings);
            for said in objects {
                let object = object_in(said.kind, said.name)?;
                let PeerObject { kind: _, name: _, withdrawn, uid, generation, since } = said;
                if uid.len() > MAX_NAME_BYTES {
                    return Err(WireError::LongName);
                }
                let standing = (!withdrawn).then(|| Standing { uid: uid.into(), generation, since });
                change(standings, object, standing);
            }
        }
        if !refusals.is_empty() {
            let refused = Arc::make_mut(&mut self.refused);
            for PeerRefusal { kind, name, by, reason } in refusals {
                let refusal = (by > 0).then(|| Refused { by: by as usize, reason: clipped(&reason) });
                change(refused, object_in(kind, name)?, refusal);
            }
        }
        Ok(())
    }

    pub(super) fn count(&mut self, PeerProgress { connected, applied, newest, reached, stuck }: PeerProgress) {
        (self.connected, self.applied) = (connected as usize, applied as usize);
        (self.newest, self.reached) = (newest, reached);
        self.stuck = (!stuck.is_empty()).then(|| clipped(&stuck));
    }
}

/// What is beyond the bound is not taken: then its object is not known to be in force, which is on the safe side. There are no more
/// refusals than objects.
fn change<T>(held: &mut BTreeMap<Object, T>, object: Object, now: Option<T>) {
    match now {
        Some(now) if held.len() < MOST || held.contains_key(&object) => drop(held.insert(object, now)),
        Some(_) => {}
        None => drop(held.remove(&object)),
    }
}

/// What one has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    standings: Arc<Standings>,
    refused: BTreeMap<Object, Refused>,
    progress: Option<PeerProgress>,
}

impl Told {
    /// What is new: the numbers, and the rest in as many messages as it takes. In whatever order they come, an object that is not
    /// told yet counts as not in force.
    pub(super) fn news(
        &mut self,
        standings: &Arc<Standings>,
        progress: &Progress,
    ) -> (Option<PeerProgress>, Vec<PeerReport>) {
        let mut objects = Vec::new();
        if !Arc::ptr_eq(&self.standings, standings) {
            objects = changes(&self.standings, standings).map(|(object, now)| object_out(object, now)).collect();
            self.standings = standings.clone();
        }
        let mut refusals = Vec::new();
        if self.refused != progress.refused {
            refusals =
                changes(&self.refused, &progress.refused).map(|(object, now)| refusal_out(object, now)).collect();
            self.refused.clone_from(&progress.refused);
        }
        let mut reports: Vec<PeerReport> =
            in_parts(objects).map(|objects| PeerReport { objects, ..PeerReport::default() }).collect();
        reports.extend(in_parts(refusals).map(|refusals| PeerReport { refusals, ..PeerReport::default() }));
        let numbers = Some(numbers(progress));
        if self.progress == numbers {
            return (None, reports);
        }
        self.progress.clone_from(&numbers);
        (numbers, reports)
    }
}

/// What is new or other, and what is gone.
fn changes<'a, T: PartialEq>(
    before: &'a BTreeMap<Object, T>,
    now: &'a BTreeMap<Object, T>,
) -> impl Iterator<Item = (&'a Object, Option<&'a T>)> {
    let news = now.iter().filter(|(object, it)| before.get(object) != Some(it)).map(|(object, it)| (object, Some(it)));
    news.chain(before.keys().filter(|object| !now.contains_key(object)).map(|object| (object, None)))
}

fn in_parts<M: prost::Message>(all: Vec<M>) -> impl Iterator<Item = Vec<M>> {
    let mut all = all.into_iter().peekable();
    std::iter::from_fn(move || {
        all.peek()?;
        let (mut part, mut bytes) = (Vec::new(), 0);
        while bytes < IN_ONE
            && let Some(message) = all.next()
        {
            bytes += message.encoded_len();
            part.push(message);
        }
        Some(part)
    })
}

fn numbers(progress: &Progress) -> PeerProgress {
    let Progress { version: _, source, connected, applied, reached, refused: _, stuck } = progress;
    PeerProgress {
        connected: u32::try_from(*connected).unwrap_or(u32::MAX),
        applied: u32::try_from(*applied).unwrap_or(u32::MAX),
        newest: source.version,
        reached: reached.map(|reached| reached.version),
        stuck: stuck.first().map(|reason| clipped(reason)).unwrap_or_default(),
    }
}

fn object_out(object: &Object, standing: Option<&Standing>) -> PeerObject {
    let (kind, name) = named(object);
    let Some(Standing { uid, generation, since }) = standing else {
        return PeerObject { kind, name, withdrawn: true, ..PeerObject::default() };
    };
    PeerObject { kind, name, withdrawn: false, uid: uid.to_string(), generation: *generation, since: *since }
}

fn refusal_out(object: &Object, refused: Option<&Refused>) -> PeerRefusal {
    let (kind, name) = named(object);
    let Some(Refused { by, reason }) = refused else { return PeerRefusal { kind, name, ..PeerRefusal::default() } };
    PeerRefusal { kind, name, by: u32::try_from(*by).unwrap_or(u32::MAX), reason: clipped(reason) }
}

fn named(object: &Object) -> (i32, String) {
    match object {
        Object::Route(name) => (Kind::Route.into(), name.to_string()),
        Object::Backend(name) => (Kind::Backend.into(), name.to_string()),
        Object::Profile(name) => (Kind::Profile.into(), name.to_string()),
    }
}

fn object_in(kind: i32, name: String) -> Result<Object, WireError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(WireError::LongName);
    }
    match Kind::try_from(kind) {
        Ok(Kind::Route) => Ok(Object::Route(RouteName::from(name))),
        Ok(Kind::Backend) => Ok(Object::Backend(BackendName::from(name))),
        Ok(Kind::Profile) => Ok(Object::Profile(name.into())),
        Ok(Kind::Snapshot) | Err(_) => Err(WireError::NoObject),
    }
}

fn clipped(text: &str) -> String {
    text[..text.floor_char_boundary(REASON_BYTES)].to_owned()
}

#[cfg(test)]
mod tests;
