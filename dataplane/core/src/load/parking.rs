//! Reservations of requests that run on after their client left.

use std::collections::VecDeque;

use super::Reservation;

/// Most reservations that one core parks; beyond it the oldest is released.
pub const MAX_PARKED: usize = 4_096;

/// One core's parked reservations. The once-a-second sweep releases those that are due.
#[derive(Debug, Default)]
pub struct Parking {
    parked: VecDeque<(u64, Reservation)>,
}

impl Parking {
    /// Nothing parked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the endpoint counted until `until_ms`.
    pub fn abandon_until(&mut self, reservation: Reservation, until_ms: u64) {
        if self.parked.len() == MAX_PARKED {
            self.parked.pop_front();
        }
        self.parked.push_back((until_ms, reservation));
    }

    /// Releases what is due.
    pub fn sweep(&mut self, now_ms: u64) {
        self.parked.retain(|(until_ms, _)| *until_ms > now_ms);
    }

    /// How many are parked.
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether none is parked.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}
