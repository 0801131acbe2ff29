//! What happened to one request, kept while it runs and told once when it ends, however it ends: dropping it writes
//! the metrics, the access log and the decision's record.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::id::{BackendName, ModelName, RouteName};
use dataplane_core::plan::Decision;
use dataplane_core::sse::Usage;
use dataplane_core::table::BackendTable;

use super::id::RequestId;
use super::times::Times;
use crate::metrics::{Active, ActiveLabels, Labels, Side, StreamOutcome};
use crate::recorder::{Durations, ErrorRecord, Record};
use crate::refusal::{Reason, Refusal};
use crate::server::connection::Connection;
use crate::worker::Worker;

/// Bytes of a path, a model and a message that are logged.
const LOGGED: usize = 1024;

/// A request that runs.
pub(crate) struct Flight {
    worker: Rc<Worker>,
    start: Instant,
    record: Untold,
    path_label: &'static str,
    model_label: Option<Arc<str>>,
    active: Option<Arc<Active>>,
    /// An attempt is counted as under way.
    attempting: bool,
    /// Its last byte was here.
    whole: Option<Instant>,
    sent: Option<Instant>,
    answered: Option<Instant>,
    first_event: Option<Instant>,
    last_event: Option<Instant>,
    events: u64,
    stream: Option<StreamOutcome>,
}

/// A record until it is told: boxed, for it is large and goes to another thread then.
struct Untold(Option<Box<Record>>);

impl Deref for Untold {
    type Target = Record;

    fn deref(&self) -> &Record {
        self.0.as_ref().expect("a record is only taken when its flight is dropped")
    }
}

impl DerefMut for Untold {
    fn deref_mut(&mut self) -> &mut Record {
        self.0.as_mut().expect("a record is only taken when its flight is dropped")
    }
}

impl Flight {
    /// A request whose first byte is here.
    pub(crate) fn begin(connection: &Connection) -> Self {
        let worker = connection.worker.clone();
        worker.metrics.plain.active_requests.up();
        worker.shared.cores[worker.id].request(1);
        let mut record = Box::write(Box::new_uninit(), Record::empty());
        (record.start, record.client) = (SystemTime::now(), connection.peer);
        Self {
            worker,
            start: Instant::now(),
            record: Untold(Some(record)),
            path_label: "other",
            model_label: None,
            active: None,
            attempting: false,
            whole: None,
            sent: None,
            answered: None,
            first_event: None,
            last_event: None,
            events: 0,
            stream: None,
        }
    }

    /// Its head is here.
    pub(crate) fn head(&mut self, head: Head<'_>) {
        self.record.method = match head.method {
            b"POST" => "POST".into(),
            b"GET" => "GET".into(),
            other => String::from_utf8_lossy(other).into_owned().into(),
        };
        self.record.path =
            if head.path == head.path_label { head.path_label.into() } else { clipped(head.path).into() };
        self.record.protocol = head.protocol;
        self.record.request_id = head.id.shared();
        self.path_label = head.path_label;
    }

    /// Its body is here.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.record.bytes.0 = bytes as u64;
        self.whole = Some(Instant::now());
    }

    /// The model it asks for; `known` as the table holds it.
    pub(crate) fn model(&mut self, requested: &str, known: Option<&Arc<str>>) {
        self.record.model = known.cloned().unwrap_or_else(|| clipped(requested).into());
        self.model_label = known.cloned();
    }

    /// Where it goes.
    pub(crate) fn bound(&mut self, route: &RouteName, backend: &BackendName, upstream_model: Option<&ModelName>) {
        let labels = ActiveLabels {
            model: self.model_label.as_deref().unwrap_or("unknown"),
            route: route.as_str(),
            backend: backend.as_str(),
            upstream_model: upstream_model.map_or("none", ModelName::as_str),
        };
        let active = self.worker.metrics.active.of(&labels);
        active.downstream.up();
        self.active = Some(active);
        self.record.route = Some(route.clone());
        self.record.backend = Some(backend.clone());
        self.record.upstream_model = upstream_model.cloned();
    }

    /// Its prompt, as counted.
    pub(crate) fn prompt(&mut self, tokens: u64, blocks: usize) {
        self.record.input_tokens = tokens;
        self.record.blocks.0 = blocks as u32;
    }

    /// It was decided, and took so long.
    pub(crate) fn decided(&mut self, decision: &Arc<Decision>, backend: &Arc<BackendTable>, times: &Times) {
        let best = decision.candidates.iter().map(|c| c.matched_blocks).max().unwrap_or(0);
        let given_up = best.saturating_sub(decision.chosen().matched_blocks);
        self.worker.metrics.plain.locality_given_up.add(given_up.into());
        if let Some(active) = &self.active {
            active.schedule.observe(times.whole());
            times.stages.iter().for_each(|(stage, took)| active.observe_stage(*stage, *took));
            if self.record.blocks.0 > 0 {
                let share = f64::from(best) / f64::from(self.record.blocks.0);
                active.match_ratio.observe(Duration::from_secs_f64(share.min(1.0)));
            }
        }
        self.record.decision = Some((decision.clone(), Arc::downgrade(backend)));
    }

    /// An attempt begins.
    pub(crate) fn attempt(&mut self, endpoint: &api::snapshot::Endpoint, cached_blocks: u32) {
        self.record.attempts += 1;
        self.record.endpoint = Some((endpoint.name.clone(), endpoint.address));
        self.record.blocks.1 = cached_blocks;
        if self.record.attempts > 1 {
            self.worker.metrics.plain.retries.add(1);
        }
        self.set_attempting(true);
        self.sent.get_or_insert_with(Instant::now);
    }

    /// It failed.
    pub(crate) fn attempt_failed(&mut self, status: Option<u16>) {
        self.record.upstream_status = status.or(self.record.upstream_status);
        self.set_attempting(false);
    }

    /// The engine's head is here; the attempt goes on until the answer has ended.
    pub(crate) fn answered(&mut self, status: u16) {
        self.record.upstream_status = Some(status);
        self.answered = Some(Instant::now());
    }

    fn set_attempting(&mut self, attempting: bool) {
        let Some(active) = &self.active else { return };
        match (self.attempting, attempting) {
            (false, true) => active.upstream.up(),
            (true, false) => active.upstream.down(),
            _ => {}
        }
        self.attempting = attempting;
    }

    /// The status that the client sees.
    pub(crate) fn status(&mut self, status: u16) {
        self.record.status = status;
    }

    /// Bytes of the answer's body went to the client, with so many events so far.
    pub(crate) fn relayed(&mut self, bytes: usize, events: u64) {
        self.record.bytes.1 += bytes as u64;
        if events > self.events {
            let now = Instant::now();
            if let Some(active) = &self.active {
                let together = events - self.events - 1;
                active.gap.observe_nothing(together);
                if let Some(last) = self.last_event {
                    active.gap.observe(now - last);
                }
            }
            self.first_event.get_or_insert(now);
            self.last_event = Some(now);
            self.events = events;
        }
    }

    /// The answer's tokens, as the engine counted them.
    pub(crate) fn usage(&mut self, usage: &Usage) {
        self.record.output_tokens = usage.completion.unwrap_or(0);
    }

    /// How many of the prompt's tokens were cached, as the engine says, beside what it was chosen for. The latter is known in
    /// bytes, and of the prompt only how many tokens it has in all, so these are taken to be equally long. Over many requests
    /// that is right to 2 %; of single ones it says less (bench/tests/accuracy.rs has both).
    pub(crate) fn cached(&self, prompt_bytes: u32, usage: &Usage) {
        let (Some(active), Some(tokens), Some(cached)) = (&self.active, usage.prompt, usage.cached) else { return };
        if prompt_bytes > 0 {
            let predicted = u64::from(self.record.blocks.1) * api::limits::BLOCK_BYTES as u64;
            let tokens = tokens.min(u32::MAX.into());
            active.predicted_tokens.add((predicted * tokens / u64::from(prompt_bytes)).min(tokens));
            active.cached_tokens.add(cached);
        }
    }

    /// How the answer ended, if it was a stream of events.
    pub(crate) fn stream_if(&mut self, is_events: bool, outcome: StreamOutcome) {
        self.stream = is_events.then_some(outcome);
    }

    /// It was refused.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.record.status = refusal.status;
        let upstream =
            matches!(refusal.reason, Reason::UpstreamTransport | Reason::UpstreamResponse | Reason::UpstreamTimeout);
        self.failed(refusal.reason, &refusal.message, if upstream { "upstream" } else { "router" });
    }

    /// It failed after its answer began, or because the client left.
    pub(crate) fn failed(&mut self, reason: Reason, message: &str, origin: &'static str) {
        let side = reason.side(self.record.status);
        self.record.error = Some(ErrorRecord { kind: reason.label(), message: clipped(message), origin, side });
    }

    fn count(&mut self, end: Instant) {
        let r = &self.record;
        let labels = Labels {
            model: self.model_label.as_deref().unwrap_or("unknown"),
            path: self.path_label,
            status: r.status,
            error_type: match &r.error {
                Some(error) => error.kind,
                None if r.status < 400 => "successful_request",
                None => "request_failed",
            },
            route: r.route.as_ref().map_or("none", RouteName::as_str),
            backend: r.backend.as_ref().map_or("none", BackendName::as_str),
            upstream_model: r.upstream_model.as_ref().map_or("none", ModelName::as_str),
        };
        let side = r.error.as_ref().map_or_else(|| Side::of_answer(r.status), |error| Some(error.side));
        if let Some(side) = side {
            self.worker.metrics.error(side);
        }
        let series = self.worker.metrics.series.of(&labels);
        series.requests.add(1);
        series.duration.observe(end - self.start);
        series.input_tokens.add(r.input_tokens);
        series.output_tokens.add(r.output_tokens);
        if let Some(first) = self.first_event {
            series.ttft.observe(first - self.start);
        }
        if let Some(sent) = self.sent {
            series.added.observe(sent - self.whole.unwrap_or(self.start));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let end = Instant::now();
        self.count(end);
        self.set_attempting(false);
        let worker = &self.worker;
        if let Some(active) = &self.active {
            active.downstream.down();
        }
        if let Some(outcome) = self.stream {
            worker.metrics.stream(outcome);
        }
        worker.metrics.plain.active_requests.down();
        worker.shared.cores[worker.id].request(-1);
        let Some(mut record) = self.record.0.take() else { return };
        record.ttft = self.first_event.map(|first| first - self.start);
        let sent = self.sent.unwrap_or(end);
        let answered = self.answered.unwrap_or(end).max(sent);
        record.durations = Durations {
            total: end - self.start,
            request: sent - self.start,
            upstream: answered - sent,
            response: end - answered,
        };
        if !worker.shared.recorder.push(record) {
            worker.metrics.plain.records_dropped.add(1);
        }
    }
}

/// What a head says about the request.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) path: &'a str,
    pub(crate) path_label: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) id: &'a RequestId,
}

fn clipped(text: &str) -> String {
    let mut end = text.len().min(LOGGED);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
