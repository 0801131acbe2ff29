//! Between one core and the writer: a bounded ring of events one way, and two counters that say how far each side is.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::sync::{AtomicU64, Ordering};
use super::types::Event;

/// Shared by a reader and the writer.
#[derive(Debug)]
pub(super) struct Link {
    ring: ArrayQueue<Event>,
    /// Events that the writer has taken and made visible.
    applied: AtomicU64,
    /// Events that did not fit.
    overflow: AtomicU64,
    /// The last turn of the writer's that the core has seen between two requests.
    turn: AtomicU64,
}

impl Link {
    pub(super) fn new(ring: usize) -> Arc<Self> {
        Arc::new(Self {
            ring: ArrayQueue::new(ring.max(1)),
            applied: AtomicU64::new(0),
            overflow: AtomicU64::new(0),
            turn: AtomicU64::new(0),
        })
    }

    /// The core's. False when the ring is full; nobody is woken.
    pub(super) fn send(&self, event: Event) -> bool {
        self.ring.push(event).is_ok()
    }

    /// So many events were not sent, because the ring was full.
    pub(super) fn lose(&self, events: u64) {
        self.overflow.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub(super) fn see_turn(&self, turn: u64) {
        self.turn.store(turn, Ordering::Release);
    }

    /// The writer's.
    pub(super) fn take(&self) -> Option<Event> {
        self.ring.pop()
    }

    pub(super) fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    pub(super) fn add_applied(&self, events: u64) {
        self.applied.fetch_add(events, Ordering::Release);
    }

    pub(super) fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }

    pub(super) fn turn_seen(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }
}
