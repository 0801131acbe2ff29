//! The KV lane's way to the tables thread, and back.

use std::sync::Arc;

use api::kv::{Digests, Update};
use crossbeam::channel::TrySendError;
use dataplane_core::kv::{Counts, Look};

use super::{State, Tables, Work};

/// Predictions of one endpoint that are ended at a time.
const EXPIRE: usize = 16_384;

/// What the thread is told of the lane, in the order of the stream.
#[derive(Debug)]
pub(super) enum Told {
    /// A stream of this epoch is heard from now on.
    Opened(u64),
    /// There is no stream any more.
    Lost,
    /// One message.
    Update(Box<Update>),
}

/// What is held of the KV lane, and what came of it.
#[derive(Debug, Clone, Default)]
pub struct KvStats {
    /// What is held.
    pub look: Look,
    /// What has been counted.
    pub counts: Counts,
}

impl Tables {
    /// A stream of this epoch has begun: what it says follows, and what is left of an update of the stream before does not come.
    pub fn opened(&self, epoch: u64) {
        // The queue is emptied all the time; an error means that the thread ended, and the process with it.
        let _ = self.work.send(Work::Kv(Told::Opened(epoch)));
        self.wake();
    }

    /// The stream is gone, and there is no other: the rest of what it was in the middle of does not come.
    pub fn lost(&self) {
        let _ = self.work.send(Work::Kv(Told::Lost));
        self.wake();
    }

    /// Hands a message over; it comes back while there is no room.
    pub fn kv(&self, update: Box<Update>) -> Result<(), Box<Update>> {
        match self.work.try_send(Work::Kv(Told::Update(update))) {
            Err(TrySendError::Full(Work::Kv(Told::Update(update)))) => Err(update),
            _ => {
                self.wake();
                Ok(())
            }
        }
    }

    /// What the control plane is to be told of what is held, if anything.
    pub fn question(&self) -> Option<Digests> {
        self.questions.try_recv().ok()
    }

    /// The lane's, at most a second old.
    pub fn kv_stats(&self) -> Arc<KvStats> {
        self.kv.lock().expect("no thread panics while it holds the statistics").clone()
    }
}

impl State {
    pub(super) fn hear(&mut self, told: Told, now_ms: u64) {
        if !matches!(told, Told::Update(_)) {
            self.registry.expect_nothing();
        }
        let Self { lane, writer, .. } = self;
        let digests = match told {
            Told::Opened(epoch) => {
                self.tables.fleet.drop_news(writer);
                lane.opened(epoch, now_ms, writer)
            }
            Told::Lost => {
                lane.lost(now_ms);
                Vec::new()
            }
            Told::Update(update) => lane.take(&update, now_ms, writer).into_iter().collect(),
        };
        self.say(digests);
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        let digests = self.lane.tick(now_ms, &mut self.writer);
        self.say(digests);
        self.writer.expire(EXPIRE, now_ms);
    }

    /// A question that finds no room is lost with its stream, or asked again after the next gap.
    pub(super) fn say(&self, digests: Vec<Digests>) {
        for digests in digests {
            let _ = self.ends.ask.try_send(digests);
        }
    }

    pub(super) fn show(&self) {
        let stats = KvStats { look: self.lane.look(), counts: self.lane.counts() };
        *self.tables.kv.lock().expect("no thread panics while it holds the statistics") = Arc::new(stats);
    }
}
