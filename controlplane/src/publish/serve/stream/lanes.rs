//! What a stream sends of engines' caches: what engines report (the KV lane), and what the others' decisions left there.

use std::time::Duration;

use api::proto::Predictions;
use api::proto::to_data_plane::Message as Told;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::{Call, Stream, now, own};

/// Between two messages of the KV lane.
const KV_PAUSE: Duration = Duration::from_millis(5);

impl Stream {
    /// What the data plane runs now is what the handles of the lane mean something in.
    pub(super) fn begin_kv(&mut self) {
        let Some(held) = self.subscriber.held().filter(|held| held.version.epoch == self.hub.epoch) else { return };
        let Some(kv) = &mut self.kv else { return };
        if let Some(snapshot) = self.hub.archive.snapshot(held.content_hash) {
            kv.runs(held.content_hash, &snapshot, now());
            self.plan_kv();
        }
    }

    pub(super) fn plan_kv(&mut self) {
        let now = now();
        self.kv_due = Some(now + self.budget.wait_last(now).max(KV_PAUSE));
    }

    /// Gives way to all else: where there is no room it comes later, and says what is newest then.
    pub(super) fn send_kv(&mut self, call: &Call) {
        let now = now();
        self.kv_due = None;
        let Some(kv) = &mut self.kv else { return };
        let Ok(room) = call.outbound.try_reserve() else {
            self.kv_due = Some(now + KV_PAUSE);
            return;
        };
        match kv.next(now) {
            Some(frame) => {
                self.budget.spend(frame.len(), now);
                room.send(Ok(frame));
                self.plan_kv();
            }
            None => self.kv_due = kv.wakes(now),
        }
    }

    /// Until there is something to tell of predictions, and the time for it has come.
    pub(super) async fn predicted(&self, predicted: &mut watch::Receiver<u64>) {
        // An error means that the hub is gone, and with it the stream.
        let _ = predicted.wait_for(|logged| self.feed.is_behind(*logged)).await;
        sleep_until(self.feed.due().into()).await;
    }

    /// Where the data plane does not read they wait; once they are behind the log, it is told all again.
    pub(super) fn send_predictions(&mut self, call: &Call) {
        let now = now();
        let Ok(room) = call.outbound.try_reserve() else {
            return self.feed.postpone(now + self.hub.load_interval());
        };
        let warming = self.feed.is_warming();
        let marks = self.feed.next(&self.hub.predictions, now);
        if marks.is_empty() {
            return;
        }
        let entries = api::predictions::pack(marks);
        let frame = own(Told::Predictions(Predictions { epoch: self.hub.epoch, entries }));
        if !warming {
            self.budget.spend(frame.len(), now);
            self.feed.postpone(now + self.budget.wait(now));
        }
        room.send(Ok(frame));
    }
}
