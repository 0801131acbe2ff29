//! The prefix table: which endpoint holds which prompt prefix, as hints. One writer (a thread of the shell drives a
//! [`Writer`]) updates cells in place; every core reads through its own [`Reader`] without a lock or an allocation.
//!
//! - [`map`](self): u64 → u64 in 256 segments, each an arc-swapped generation of open-addressed atomic cells.
//! - holders: the owners of a key, three inline in the cell, more in chained records.
//! - owners: [`OwnerId`]s are what cells name; a [`Seat`] is what the rest of the program calls an endpoint. A restart
//!   gives the seat a new owner id and masks the old one, which is reused only when nothing can name it any more.
//! - recency: what each owner was last asked for, so that predictions leave in the order in which its cache evicts.
//! - uses: how often a mark was asked for lately.
//!
//! Keys are hashes: a collision, a lost mark or an eviction too early costs a worse choice, never correctness.

mod types;

pub use types::{Config, Event, Match, Matches, OwnerId, Placement, Query, Seat, Stats, UseSample};

// The rest of the public surface, filled in by the next commits:
//
// impl Writer {                                   // the `tables` thread's
//     pub fn new(config: Config) -> Self;
//     pub fn reader(&mut self) -> Reader;          // one per core, Send
//     pub fn owners(&self) -> Arc<OwnerView>;      // seat ↔ owner for anyone
//     pub fn seat(&mut self, key: &EndpointKey) -> Option<Seat>;   // assigns; the same key, the same seat
//     pub fn release(&mut self, key: &EndpointKey);                // the endpoint left: masked at once
//     pub fn clear(&mut self, seat: Seat);                         // its cache was lost: a new owner id
//     pub fn set_cache_tokens(&mut self, seat: Seat, tokens: u64); // default limits::CACHE_TOKENS
//     pub fn drain(&mut self, now_ms: u64) -> usize;               // every core's ring, each ms while active
//     pub fn apply(&mut self, event: Event, now_ms: u64);
//     pub fn insert(&mut self, owner: OwnerId, key: u64) -> bool;  // KV events: not under recency
//     pub fn remove(&mut self, owner: OwnerId, key: u64) -> bool;
//     pub fn sweep_slice(&mut self, budget: usize, now_ms: u64);   // cells looked at; frees owner ids
//     pub fn stats(&mut self) -> Stats;
// }
// impl Reader {
//     pub fn lookup(&mut self, query: &Query<'_>, eligible: impl Fn(Seat) -> bool) -> Matches;
//     pub fn depth(&mut self, chain: &[u64], seat: Seat) -> u32;   // blocks that one endpoint holds
//     pub fn place(&mut self, placement: &Placement<'_>);          // after the decision
//     pub fn turn(&mut self);                      // once per loop turn, outside any look-up
//     pub fn refresh(&mut self);                   // the once-a-second sweep: pins no old generation
// }
// impl OwnerView { pub fn owner(&self, seat: Seat) -> Option<OwnerId>; pub fn seat(&self, owner: OwnerId) -> Option<Seat>; }
