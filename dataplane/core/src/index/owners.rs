//! Seats and owner ids. A seat is an endpoint while any table knows it; an owner id is one life of its cache. Readers
//! map one to the other with two arrays of atomics; a masked id maps to no seat.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use api::id::EndpointKey;

use super::sync::{AtomicU32, Ordering};
use super::types::{OwnerId, Seat};

/// What everyone reads.
#[derive(Debug)]
pub struct OwnerView {
    /// By owner id: its seat plus one, 0 while masked.
    seats: Box<[AtomicU32]>,
    /// By seat: its owner id plus one, 0 while the seat is free.
    owners: Box<[AtomicU32]>,
}

impl OwnerView {
    fn new(max_seats: u32, max_owners: u32) -> Self {
        let zeros = |len: u32| (0..len).map(|_| AtomicU32::new(0)).collect();
        Self { seats: zeros(max_owners), owners: zeros(max_seats) }
    }

    /// The present life of an endpoint's cache.
    pub fn owner(&self, seat: Seat) -> Option<OwnerId> {
        self.owners.get(seat.0 as usize)?.load(Ordering::Acquire).checked_sub(1).map(OwnerId)
    }

    /// Whose cache it is; none when that life has ended.
    pub fn seat(&self, owner: OwnerId) -> Option<Seat> {
        self.seats.get(owner.0 as usize)?.load(Ordering::Acquire).checked_sub(1).map(Seat)
    }

    fn begin(&self, seat: Seat, owner: OwnerId) {
        self.seats[owner.0 as usize].store(seat.0 + 1, Ordering::Release);
        self.owners[seat.0 as usize].store(owner.0 + 1, Ordering::Release);
    }

    fn end(&self, seat: Seat, owner: OwnerId) {
        self.owners[seat.0 as usize].store(0, Ordering::Release);
        self.seats[owner.0 as usize].store(0, Ordering::Release);
    }
}

/// The writer's side: who sits where, which ids are free, and which are on their way to it.
#[derive(Debug)]
pub(super) struct Owners {
    view: Arc<OwnerView>,
    by_key: HashMap<EndpointKey, Seat, ahash::RandomState>,
    free_seats: Vec<Seat>,
    next_seat: u32,
    free_ids: VecDeque<OwnerId>,
    next_id: u32,
    /// Masked since the running sweep began, or before it.
    masked: Vec<OwnerId>,
    /// Masked before the running sweep began: it takes them out of every cell.
    sweeping: Vec<OwnerId>,
    /// In no cell any more; free when every core has turned.
    resting: Vec<OwnerId>,
}

impl Owners {
    pub(super) fn new(max_seats: u32, max_owners: u32) -> Self {
        Self {
            view: Arc::new(OwnerView::new(max_seats, max_owners)),
            by_key: HashMap::default(),
            free_seats: Vec::new(),
            next_seat: 0,
            free_ids: VecDeque::new(),
            next_id: 0,
            masked: Vec::new(),
            sweeping: Vec::new(),
            resting: Vec::new(),
        }
    }

    pub(super) fn view(&self) -> &Arc<OwnerView> {
        &self.view
    }

    /// The key's seat, a new one if it has none; none when the bound is reached.
    pub(super) fn seat(&mut self, key: &EndpointKey) -> Option<Seat> {
        if let Some(&seat) = self.by_key.get(key) {
            if self.view.owner(seat).is_none() {
                self.begin(seat);
            }
            return Some(seat);
        }
        let seat = match self.free_seats.pop() {
            Some(seat) => seat,
            None if (self.next_seat as usize) < self.view.owners.len() => {
                self.next_seat += 1;
                Seat(self.next_seat - 1)
            }
            None => return None,
        };
        self.by_key.insert(key.clone(), seat);
        self.begin(seat);
        Some(seat)
    }

    /// Ends the present life of the endpoint's cache and begins another. Returns the ended one.
    pub(super) fn clear(&mut self, key: &EndpointKey) -> Option<OwnerId> {
        let seat = *self.by_key.get(key)?;
        let ended = self.mask(seat);
        self.begin(seat);
        ended
    }

    pub(super) fn seat_of(&self, key: &EndpointKey) -> Option<Seat> {
        self.by_key.get(key).copied()
    }

    /// The endpoint left. Returns the life that ended.
    pub(super) fn release(&mut self, key: &EndpointKey) -> Option<OwnerId> {
        let seat = self.by_key.remove(key)?;
        let ended = self.mask(seat);
        self.free_seats.push(seat);
        ended
    }

    pub(super) fn retiring(&self) -> usize {
        self.masked.len() + self.sweeping.len() + self.resting.len()
    }

    /// True while the running sweep has something to take out; begins one if ids wait for it.
    pub(super) fn begin_sweep(&mut self) -> bool {
        if self.sweeping.is_empty() && self.resting.is_empty() {
            std::mem::swap(&mut self.sweeping, &mut self.masked);
        }
        !self.sweeping.is_empty()
    }

    /// Every cell was looked at: what was being swept is named by none.
    pub(super) fn end_sweep(&mut self) {
        self.resting.append(&mut self.sweeping);
    }

    pub(super) fn resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Every core has turned since the sweep ended, and nothing older waits in a ring.
    pub(super) fn free_rested(&mut self) {
        self.free_ids.extend(self.resting.drain(..));
    }

    fn begin(&mut self, seat: Seat) {
        // Never used ids first, then the one that has rested longest.
        let id = if (self.next_id as usize) < self.view.seats.len() {
            self.next_id += 1;
            Some(OwnerId(self.next_id - 1))
        } else {
            self.free_ids.pop_front()
        };
        // Without an id the endpoint has no predictions: it is scored by load alone.
        if let Some(id) = id {
            self.view.begin(seat, id);
        }
    }

    fn mask(&mut self, seat: Seat) -> Option<OwnerId> {
        let owner = self.view.owner(seat)?;
        self.view.end(seat, owner);
        self.masked.push(owner);
        Some(owner)
    }
}
