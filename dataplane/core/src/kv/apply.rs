//! One update: its ranks, then its entries.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use super::model::{Model, Rank};
use super::places::Places;
use super::{Counts, Hearing, Lane, MAX_WAITING};
use crate::index::{Inserted, Seat, Writer};
use api::kv::{Entry, Said, Trust, Update};

/// Entries whose cells are read before the first of them is changed.
const BATCH: usize = 64;
/// Entries after which the cores' rings are looked at: a message of 65,536 takes some ten milliseconds.
const DRAIN_EVERY: usize = 4_096;

impl Lane {
    /// Of a model that is known.
    pub(super) fn apply(&mut self, update: &Update, now_ms: u64, writer: &mut Writer) {
        let waiting = self.models.values().map(Model::waiting).sum();
        let Self { models, places, counts, epoch, .. } = self;
        let Some(model) = models.get_mut(&update.model) else { return };
        let ours = *epoch == Some(places.epoch());
        let mut apply = Apply { homes: Homes { model, places, ours, waiting, now_ms }, counts };
        for rank in &update.ranks {
            apply.rank(rank, writer);
        }
        let mut entries = update.entries.iter();
        let mut batch = [Entry { hash: 0, handle: 0, position: 0, said: Said::Held }; BATCH];
        let mut done = 0;
        loop {
            let mut taken = 0;
            // The batch first: the other way round an entry would be taken for which it has no room.
            for (to, entry) in batch.iter_mut().zip(entries.by_ref()) {
                *to = entry;
                taken += 1;
            }
            if taken == 0 {
                break;
            }
            writer.reported().warm(batch[..taken].iter().map(|entry| entry.hash));
            for entry in &batch[..taken] {
                apply.entry(entry, writer);
            }
            done += taken;
            if done >= DRAIN_EVERY {
                done = 0;
                writer.drain(now_ms);
            }
        }
        for rank in &update.ranks {
            self.tell(rank.handle, writer);
        }
    }

    /// Tells an endpoint's predictions on what terms they live.
    fn tell(&self, handle: u32, writer: &mut Writer) {
        let ranks = self.models.values().filter_map(|model| model.ranks.get(&handle));
        let told = ranks.filter_map(|rank| Some((rank.home.as_ref()?.1, self.terms(rank)))).reduce(both);
        if let Some((seat, Terms { capacity_tokens, brief })) = told {
            writer.tell(seat, capacity_tokens, brief);
        }
    }

    /// The same for every endpoint.
    pub(super) fn tell_all(&self, writer: &mut Writer) {
        let mut all: HashMap<Seat, Terms, ahash::RandomState> = HashMap::default();
        for rank in self.models.values().flat_map(Model::all) {
            if let Some((_, seat)) = rank.home {
                let terms = self.terms(rank);
                all.entry(seat).and_modify(|known| *known = both((seat, *known), (seat, terms)).1).or_insert(terms);
            }
        }
        for (seat, Terms { capacity_tokens, brief }) in all {
            writer.tell(seat, capacity_tokens, brief);
        }
    }

    fn terms(&self, rank: &Rank) -> Terms {
        Terms { capacity_tokens: rank.capacity_tokens, brief: self.believed(rank.trust) == Trust::Trusted }
    }

    /// Trust, and what is left of it while no stream is heard.
    pub(super) fn believed(&self, trust: Trust) -> Trust {
        match self.hearing {
            Hearing::Faded(_) if trust == Trust::Trusted => Trust::Gapped,
            _ => trust,
        }
    }
}

/// Of one endpoint in one model, or in all.
#[derive(Clone, Copy)]
struct Terms {
    capacity_tokens: Option<u64>,
    brief: bool,
}

/// One endpoint in two models.
fn both((seat, a): (Seat, Terms), (_, b): (Seat, Terms)) -> (Seat, Terms) {
    let capacity_tokens = a.capacity_tokens.max(b.capacity_tokens);
    (seat, Terms { capacity_tokens, brief: a.brief || b.brief })
}

struct Apply<'a> {
    homes: Homes<'a>,
    counts: &'a mut Counts,
}

impl Apply<'_> {
    fn rank(&mut self, told: &api::kv::Rank, writer: &mut Writer) {
        let api::kv::Rank { handle, trust, forget, emptied, capacity_tokens } = *told;
        let Some(rank) = self.homes.find(handle, writer) else { return };
        rank.trust = trust;
        rank.capacity_tokens = capacity_tokens.or(rank.capacity_tokens);
        let heard = trust != Trust::Predicted;
        if forget || !heard {
            rank.end(writer);
        }
        self.counts.forgotten += u64::from(forget);
        if emptied && let Some((_, seat)) = rank.home {
            writer.clear(seat);
        }
    }

    fn entry(&mut self, entry: &Entry, writer: &mut Writer) {
        let Entry { hash, handle, said, position: _ } = *entry;
        let Self { homes, counts } = self;
        let Some(rank) = homes.find(handle, writer) else {
            counts.homeless += 1;
            return;
        };
        match said {
            Said::Held => match held(rank, hash, writer) {
                Inserted::New => {
                    rank.xor ^= hash;
                    rank.blocks += 1;
                }
                Inserted::Known => {}
                Inserted::Refused => counts.refused += 1,
            },
            Said::Gone => {
                if rank.owner.is_some_and(|owner| writer.reported().remove(owner, hash)) {
                    rank.xor ^= hash;
                    rank.blocks -= 1;
                }
            }
        }
    }
}

fn held(rank: &mut Rank, hash: u64, writer: &mut Writer) -> Inserted {
    let reported = writer.reported();
    if rank.owner.is_none() {
        rank.owner = reported.begin(rank.home.as_ref().map(|(_, seat)| *seat));
    }
    rank.owner.map_or(Inserted::Refused, |owner| reported.insert(owner, hash))
}

/// The endpoints of one model, by handle.
struct Homes<'a> {
    model: &'a mut Model,
    places: &'a mut Places,
    /// The table's handles are the stream's.
    ours: bool,
    /// Handles that no table has yet.
    waiting: usize,
    now_ms: u64,
}

impl Homes<'_> {
    /// The endpoint's part of the model, begun where nothing was said of it before: heard, and nothing known yet. None where
    /// too many wait already.
    fn find(&mut self, handle: u32, writer: &mut Writer) -> Option<&mut Rank> {
        match self.model.ranks.entry(handle) {
            Occupied(known) => Some(known.into_mut()),
            Vacant(vacant) => {
                let key = if self.ours { self.places.key_of(handle) } else { None };
                let home = key.and_then(|key| Some((key.clone(), writer.seat(key)?)));
                if home.is_none() {
                    if self.waiting >= MAX_WAITING {
                        return None;
                    }
                    self.waiting += 1;
                }
                Some(vacant.insert(Rank { home, trust: Trust::Cold, since_ms: self.now_ms, ..Rank::default() }))
            }
        }
    }
}
