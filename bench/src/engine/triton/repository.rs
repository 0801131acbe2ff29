//! The model repository: what is loaded, and what is ready.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use super::{Asked, Media, Model, Triton, Whole};
use crate::engine::seats::Seats;

pub(super) const SERVER: &str = r#"{"name":"triton","version":"2.51.0","extensions":["classification","sequence","model_repository","model_repository(unload_dependents)","schedule_policy","model_configuration","system_shared_memory","cuda_shared_memory","binary_tensor_data","parameters","statistics","trace","logging"]}"#;

/// A model and what has happened to it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Model,
    pub(super) seats: Seats,
    pub(super) counters: Counters,
    state: AtomicU8,
}

/// Since the model was loaded.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) success: AtomicU64,
    /// Executions that raised.
    pub(super) backend: AtomicU64,
    /// Time-outs in the queue; what found it full is in no metric.
    pub(super) rejected: AtomicU64,
    pub(super) executed: AtomicU64,
    pub(super) queue_us: AtomicU64,
    pub(super) infer_us: AtomicU64,
}

const READY: u8 = 0;
const UNLOADED: u8 = 1;
const FAILED: u8 = 2;

impl Loaded {
    pub(super) fn new(config: Model) -> Self {
        let state = if config.loads { READY } else { FAILED };
        let seats = Seats::new(config.instances, config.queue);
        Self { config, seats, counters: Counters::default(), state: AtomicU8::new(state) }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state.load(Relaxed) == READY
    }

    fn entry(&self) -> Value {
        let name = &self.config.name;
        match self.state.load(Relaxed) {
            READY => json!({"name": name, "version": "1", "state": "READY"}),
            UNLOADED => json!({"name": name, "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}),
            _ => {
                json!({"name": name, "version": "1", "state": "UNAVAILABLE", "reason": "Internal: RuntimeError: does not load"})
            }
        }
    }
}

impl Triton {
    /// Strict: a model that failed to load keeps it from being ready, one that was unloaded does not.
    pub(super) fn is_ready(&self) -> bool {
        self.models.iter().all(|model| model.state.load(Relaxed) != FAILED)
    }

    pub(super) fn index(&self, asked: &Asked) -> Whole {
        if asked.method != "POST" {
            return Whole::not_allowed(Media::Json);
        }
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let only_ready = body["ready"] == json!(true);
        let listed = self.models.iter().filter(|model| !only_ready || model.is_ready());
        Whole::json(200, Value::Array(listed.map(Loaded::entry).collect()).to_string())
    }

    pub(super) fn load(&self, asked: &Asked, name: &str, load: bool) -> Whole {
        if asked.method != "POST" {
            return Whole::not_allowed(Media::Json);
        }
        match (self.model(name), load) {
            (Some(model), true) if model.config.loads => model.state.store(READY, Relaxed),
            (Some(_), true) => {
                let message = format!(
                    "load failed for model '{name}': version 1 is at UNAVAILABLE state: Internal: RuntimeError: does not load\n"
                );
                return Whole::error(400, Media::Json, &message);
            }
            (Some(model), false) => model.state.store(UNLOADED, Relaxed),
            (None, true) => {
                let message = format!("failed to load '{name}', failed to poll from model repository");
                return Whole::error(500, Media::Json, &message);
            }
            (None, false) => {}
        }
        Whole::json(200, "")
    }

    pub(super) fn metadata(&self, name: &str) -> Whole {
        let Some(model) = self.model(name) else {
            return Whole::error(404, Media::Json, &unknown(name, "is not found"));
        };
        let input = |name: &str, kind: &str| json!({"name": name, "datatype": kind, "shape": [1]});
        let inputs = model.inputs().map(|(name, kind)| input(name, kind));
        let body = json!({"name": name, "versions": ["1"], "platform": "python",
            "inputs": inputs.collect::<Vec<_>>(), "outputs": [input("text_output", "BYTES")]});
        Whole::json(200, body.to_string())
    }
}

impl Loaded {
    pub(super) fn inputs(&self) -> impl ExactSizeIterator<Item = (&'static str, &'static str)> {
        const UNARY: [(&str, &str); 2] = [("text_input", "BYTES"), ("delay_ms", "INT32")];
        const STREAMING: [(&str, &str); 3] = [("text_input", "BYTES"), ("max_tokens", "INT32"), ("itl_ms", "INT32")];
        if self.config.decoupled { STREAMING.iter().copied() } else { UNARY.iter().copied() }
    }
}

pub(super) fn unknown(name: &str, what: &str) -> String {
    format!("Request for unknown model: '{name}' {what}")
}
