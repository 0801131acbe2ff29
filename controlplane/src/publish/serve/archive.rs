//! What was published lately, and the changes between such states, each encoded once for all who need it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use api::proto::to_data_plane::Message;
use api::proto::{self, ConfigDelta, ConfigUpdate, ToDataPlane};
use api::seen::{Moved, News, Seen};
use api::snapshot::{Snapshot, Version};
use api::{delta, hash};
use bytes::Bytes;
use prost::Message as _;

use super::Counts;
use super::poison::Poison;
use super::told::{Foreign, Told};
use crate::publish::handles::Handles;
use crate::source::is_as_late;

/// States of late that are kept whoever needs them: a subscriber that comes back with one of these gets a change.
const STATES: usize = 24;
/// States that are kept at most, because subscribers need them: what each holds, and what is on its way to it. Of more than these
/// the oldest is let go, and whoever needed it gets a full state, without what it refused.
const MOST_STATES: usize = 64;
/// Changes to the newest version that are kept encoded: one for each state that subscribers hold.
const UPDATES: usize = 64;
/// A full state is given to new subscribers for so long, though there may be newer ones: they get the rest as a change.
/// Else each of many that join during a storm would hold a full state of its own.
const FULL: Duration = Duration::from_millis(500);

/// By what a state is known to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) version: Version,
    pub(super) content_hash: u64,
}

/// Who has one needs a state: it is kept, as far as there is room.
#[derive(Debug, Clone, Default)]
pub(super) struct Needed(Arc<()>);

impl Needed {
    fn by_anyone(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether it is one state, kept all the time.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A state with its version.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) mark: Mark,
    pub(super) snapshot: Arc<Snapshot>,
}

/// The state that everyone is to have.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) state: State,
    /// What its source calls it.
    pub(super) source: Version,
}

/// What a subscriber holds, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holds<'s> {
    pub(super) mark: Option<Mark>,
    /// What it had seen, of one that was told nothing yet.
    pub(super) newcomer: Option<&'s Seen>,
    /// That it got it here: what it was told of what had been seen was ours to tell, since the state is kept.
    pub(super) told: Option<&'s Needed>,
}

/// A change, as it goes over the wire.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) nonce: u64,
    /// Whether it is only for those who got their state here.
    news: bool,
    /// The target, which is kept for those who are sent this.
    pub(super) needed: Option<Needed>,
    /// What it is a change to; none for a full state.
    pub(super) base: Option<Mark>,
    /// What it leads to.
    pub(super) target: Mark,
    pub(super) frames: Box<[Bytes]>,
}

#[derive(Debug, PartialEq)]
struct ViewKey {
    current: Mark,
    held: Option<Mark>,
    poison: u64,
}

#[derive(Debug)]
struct Shelf {
    version: u64,
    nonce: u64,
    current: Option<u64>,
    states: VecDeque<Kept>,
    updates: VecDeque<Arc<Update>>,
    views: VecDeque<(ViewKey, State)>,
    full: Option<Full>,
    /// Forms that data planes hold of what they refused: a fleet of one age holds the same.
    told: HashMap<u64, Weak<Told>>,
    /// Of their endpoints.
    held: Handles,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            version: 0,
            nonce: 0,
            current: None,
            states: VecDeque::new(),
            updates: VecDeque::new(),
            views: VecDeque::new(),
            full: None,
            told: HashMap::new(),
            held: Handles::held(),
        }
    }
}

/// A full state that new subscribers share.
#[derive(Debug)]
struct Full {
    at: Instant,
    seen: Seen,
    update: Arc<Update>,
}

#[derive(Debug)]
struct Kept {
    content_hash: u64,
    snapshot: Arc<Snapshot>,
    needed: Needed,
    /// While it was kept.
    moved: Moved,
}

/// All of it; a look costs a lock that is held while a change is encoded, for whoever waits mostly wants the same one.
#[derive(Debug)]
pub(super) struct Archive {
    epoch: u64,
    message_bytes: usize,
    counts: Arc<Counts>,
    shelf: Mutex<Shelf>,
}

impl Archive {
    pub(super) fn new(epoch: u64, message_bytes: usize, counts: Arc<Counts>) -> Self {
        Self { epoch, message_bytes, counts, shelf: Mutex::default() }
    }

    /// Gives a snapshot its version: the one before where the content is the same.
    pub(super) fn publish(&self, snapshot: &Snapshot) -> Published {
        let source = snapshot.version;
        let content_hash = hash::content_hash(snapshot);
        let mut shelf = self.shelf();
        if shelf.current != Some(content_hash) {
            shelf.version += 1;
            shelf.current = Some(content_hash);
            shelf.updates.clear();
            shelf.views.clear();
            shelf.full.take_if(|full| full.at.elapsed() >= FULL);
            self.counts.published.fetch_add(1, Relaxed);
        }
        let version = Version { epoch: self.epoch, version: shelf.version };
        let snapshot = Arc::new(Snapshot { version, ..snapshot.clone() });
        shelf.keep(content_hash, &snapshot);
        Published { state: State { mark: Mark { version, content_hash }, snapshot }, source }
    }

    /// What a subscriber is to have of what is published, given what it refused.
    pub(super) fn view(&self, current: &State, held: Option<Mark>, poison: &Poison) -> State {
        if poison.is_empty() {
            return current.clone();
        }
        let key = ViewKey { current: current.mark, held, poison: poison.digest() };
        let mut shelf = self.shelf();
        if let Some((_, state)) = shelf.views.iter().find(|(known, _)| *known == key) {
            return state.clone();
        }
        let last = held.and_then(|held| shelf.state(held.content_hash));
        let snapshot = Arc::new(poison.view(&current.snapshot, last.as_deref()));
        let content_hash = hash::content_hash(&snapshot);
        shelf.keep(content_hash, &snapshot);
        let state = State { mark: Mark { version: current.mark.version, content_hash }, snapshot };
        push(&mut shelf.views, STATES, (key, state.clone()));
        state
    }

    /// A form that was told, once for all who told it.
    pub(super) fn share(&self, told: Foreign) -> Option<Arc<Told>> {
        let mut shelf = self.shelf();
        let told = told.adopt(&mut shelf.held)?;
        let content_hash = told.content_hash();
        if let Some(known) = shelf.told.get(&content_hash).and_then(Weak::upgrade) {
            return Some(known);
        }
        let told = Arc::new(told);
        shelf.told.insert(content_hash, Arc::downgrade(&told));
        shelf.forget_untold();
        Some(told)
    }

    /// Keeps a state for who holds it, or is sent it; none where it is not known here.
    pub(super) fn need(&self, content_hash: u64) -> Option<Needed> {
        self.shelf().kept(content_hash).map(|kept| kept.needed.clone())
    }

    /// A state that was published lately, or is needed.
    pub(super) fn snapshot(&self, content_hash: u64) -> Option<Arc<Snapshot>> {
        self.shelf().state(content_hash)
    }

    /// The change from what is held to the target; the full state where what is held is not known here. A newcomer, of whom it is known
    /// what it has seen, may get a full state that is a little older than the target, but not older than that.
    pub(super) fn update(&self, holds: Holds<'_>, target: &State) -> Arc<Update> {
        let mut shelf = self.shelf();
        let base = holds.mark.and_then(|mark| Some((mark, shelf.kept(mark.content_hash)?)));
        let from = base.map(|(mark, _)| mark);
        let news = base.is_some_and(|(_, kept)| holds.told.is_some_and(|told| told.is(&kept.needed)));
        let fits = |u: &&Arc<Update>| u.base == from && u.news == news && u.target == target.mark;
        if let Some(update) = shelf.updates.iter().find(fits) {
            return update.clone();
        }
        if let (None, Some(wanted), Some(full)) = (from, holds.newcomer, &shelf.full)
            && full.at.elapsed() < FULL
            && is_as_late(&full.seen, wanted)
        {
            return full.update.clone();
        }
        let change = match base {
            None => delta::full(&target.snapshot),
            Some((mark, Kept { snapshot, moved, .. })) => {
                let news = if news { News::Since(moved) } else { News::All };
                let change = delta::diff_for(snapshot, &target.snapshot, news);
                ConfigDelta { base: Some(wire(mark.version)), ..change }
            }
        };
        let needed = shelf.kept(target.mark.content_hash).map(|kept| kept.needed.clone());
        shelf.nonce += 1;
        let frames = self.frames(shelf.nonce, change);
        let update = Arc::new(Update { nonce: shelf.nonce, news, needed, base: from, target: target.mark, frames });
        push(&mut shelf.updates, UPDATES, update.clone());
        if from.is_none() && holds.newcomer.is_some() {
            let seen = target.snapshot.seen.clone();
            shelf.full = Some(Full { at: Instant::now(), seen, update: update.clone() });
        }
        update
    }

    fn frames(&self, nonce: u64, change: ConfigDelta) -> Box<[Bytes]> {
        let parts = delta::split(change, self.message_bytes);
        let last = parts.len() - 1;
        let frame = |(n, part)| {
            let update = ConfigUpdate { nonce, more: n < last, delta: Some(part) };
            Bytes::from(ToDataPlane { message: Some(Message::Config(update)) }.encode_to_vec())
        };
        let frames: Box<[Bytes]> = parts.into_iter().enumerate().map(frame).collect();
        self.counts.encoded.fetch_add(1, Relaxed);
        self.counts.encoded_bytes.fetch_add(frames.iter().map(|f| f.len() as u64).sum(), Relaxed);
        frames
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("no thread panics while it holds the archive")
    }
}

impl Shelf {
    /// As the newest one.
    fn keep(&mut self, content_hash: u64, snapshot: &Arc<Snapshot>) {
        let known = self.states.iter().position(|kept| kept.content_hash == content_hash);
        let (needed, moved) = match known.and_then(|place| self.states.remove(place)) {
            Some(Kept { snapshot: before, needed, mut moved, .. }) => {
                moved.note(&before.seen, &snapshot.seen);
                (needed, moved)
            }
            None => Default::default(),
        };
        self.states.push_back(Kept { content_hash, snapshot: snapshot.clone(), needed, moved });
        let mut late = self.states.len().saturating_sub(STATES);
        self.states.retain(|kept| {
            let goes = late > 0 && !kept.needed.by_anyone();
            late = late.saturating_sub(1);
            !goes
        });
        if self.states.len() > MOST_STATES {
            self.states.pop_front();
        }
    }

    /// Forms that nobody holds any more, and whose endpoints they were.
    fn forget_untold(&mut self) {
        self.told.retain(|_, told| told.strong_count() > 0);
        let held: Vec<Arc<Told>> = self.told.values().filter_map(Weak::upgrade).collect();
        let endpoints = held.iter().flat_map(|told| &told.objects().backends).flat_map(|backend| &backend.endpoints);
        let live: Vec<&Arc<str>> = endpoints.map(|endpoint| &endpoint.key.uid).collect();
        self.held.forget_gone(live.into_iter());
    }

    fn kept(&self, content_hash: u64) -> Option<&Kept> {
        self.states.iter().find(|kept| kept.content_hash == content_hash)
    }

    fn state(&self, content_hash: u64) -> Option<Arc<Snapshot>> {
        self.kept(content_hash).map(|kept| kept.snapshot.clone())
    }
}

fn push<T>(list: &mut VecDeque<T>, most: usize, value: T) {
    if list.len() == most {
        list.pop_front();
    }
    list.push_back(value);
}

fn wire(version: Version) -> proto::Version {
    proto::Version { epoch: version.epoch, version: version.version }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(archive: &Archive, number: u64) -> u64 {
        let snapshot = Snapshot { fleet_seed: number, ..Snapshot::default() };
        archive.publish(&snapshot).state.mark.content_hash
    }

    #[test]
    fn a_state_that_is_needed_outlasts_those_of_late() {
        let archive = Archive::new(1, 1 << 16, Arc::default());
        let (first, second) = (publish(&archive, 1), publish(&archive, 2));
        let needed = archive.need(first);
        (10..10 + STATES as u64).for_each(|number| _ = publish(&archive, number));
        assert!(archive.snapshot(first).is_some() && archive.snapshot(second).is_none());
        drop(needed);
        publish(&archive, 100);
        assert!(archive.snapshot(first).is_none(), "nobody needs it any more");
    }

    #[test]
    fn what_is_needed_is_bounded() {
        let archive = Archive::new(1, 1 << 16, Arc::default());
        let needed: Vec<_> = (0..200).map(|number| archive.need(publish(&archive, number))).collect();
        assert_eq!((archive.shelf().states.len(), needed.iter().flatten().count()), (MOST_STATES, 200));
    }
}
