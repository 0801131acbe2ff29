//! Seats: an endpoint while any table knows it. Readers map a seat to the present life of its cache, and that life back to
//! the seat, with two arrays of atomics.

use std::collections::HashMap;
use std::sync::Arc;

use api::id::EndpointKey;

use super::lives::{LifeView, Lives};
use super::sync::{AtomicU32, Ordering};
use super::types::{OwnerId, Seat};

/// What everyone reads.
#[derive(Debug)]
pub struct OwnerView {
    lives: Arc<LifeView>,
    /// By seat: its owner id plus one, 0 while the seat is free.
    owners: Box<[AtomicU32]>,
}

impl OwnerView {
    /// The present life of an endpoint's cache, as far as it is predicted.
    pub fn owner(&self, seat: Seat) -> Option<OwnerId> {
        self.owners.get(seat.0 as usize)?.load(Ordering::Acquire).checked_sub(1).map(OwnerId)
    }

    /// Whose cache it is; none when that life has ended.
    pub fn seat(&self, owner: OwnerId) -> Option<Seat> {
        self.lives.seat(owner)
    }
}

/// The writer's side: who sits where, and the lives of their predicted caches.
#[derive(Debug)]
pub(super) struct Owners {
    view: Arc<OwnerView>,
    by_key: HashMap<EndpointKey, Seat, ahash::RandomState>,
    free_seats: Vec<Seat>,
    next_seat: u32,
    pub(super) lives: Lives,
}

impl Owners {
    pub(super) fn new(max_seats: u32, max_owners: u32) -> Self {
        let lives = Lives::new(max_owners);
        let owners = (0..max_seats).map(|_| AtomicU32::new(0)).collect();
        Self {
            view: Arc::new(OwnerView { lives: Arc::clone(lives.view()), owners }),
            by_key: HashMap::default(),
            free_seats: Vec::new(),
            next_seat: 0,
            lives,
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

    /// Ends the present life of the seat's cache and begins another. Returns the ended one.
    pub(super) fn clear(&mut self, seat: Seat) -> Option<OwnerId> {
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

    fn begin(&mut self, seat: Seat) {
        // Without an id the endpoint has no predictions: it is scored by load alone.
        if let Some(id) = self.lives.begin(Some(seat)) {
            self.view.owners[seat.0 as usize].store(id.0 + 1, Ordering::Release);
        }
    }

    fn mask(&mut self, seat: Seat) -> Option<OwnerId> {
        let owner = self.view.owner(seat)?;
        self.view.owners[seat.0 as usize].store(0, Ordering::Release);
        self.lives.end(owner);
        Some(owner)
    }
}
