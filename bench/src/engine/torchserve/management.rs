//! The management API: the only place that tells what waits and which workers live.

use serde::Serialize;

use super::predict::{Served, VERSION};
use super::{Asked, TorchServe, Whole};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'m> {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
    models: Vec<Entry<'m>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'m> {
    model_name: &'m str,
    model_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'m> {
    model_name: &'m str,
    model_version: &'static str,
    model_url: String,
    runtime: &'static str,
    min_workers: usize,
    max_workers: usize,
    batch_size: u32,
    max_batch_delay: u32,
    response_timeout: u64,
    startup_timeout: u32,
    max_retry_timeout_in_sec: u32,
    client_timeout_in_mills: u32,
    parallel_type: &'static str,
    parallel_level: u32,
    device_type: &'static str,
    continuous_batching: bool,
    use_job_ticket: bool,
    use_venv: bool,
    stateful: bool,
    sequence_max_idle_m_sec: u32,
    sequence_timeout_m_sec: u32,
    max_num_sequence: u32,
    max_sequence_job_queue_size: u32,
    loaded_at_startup: bool,
    workers: Vec<Worker>,
    job_queue_status: Queue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Worker {
    id: String,
    start_time: &'static str,
    status: &'static str,
    memory_usage: u64,
    pid: u32,
    gpu: bool,
    gpu_usage: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    remaining_capacity: usize,
    pending_requests: usize,
}

/// The real one's default.
const PAGE: usize = 100;

impl TorchServe {
    pub(super) fn manage(&self, asked: &Asked, path: &str) -> Whole {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (asked.method.as_str(), &parts[..]) {
            ("GET", ["models"]) => self.list(asked),
            ("GET", ["models", name] | ["models", name, VERSION | "all"]) => {
                self.model(name).map_or_else(|refusal| refusal, |model| pretty(&[description(model)]))
            }
            ("PUT", ["models", name] | ["models", name, VERSION]) => {
                self.model(name).map_or_else(|refusal| refusal, |model| scale(model, asked))
            }
            // Without enable_model_api, which is the default.
            (_, ["models", ..]) => Whole::not_allowed(),
            _ => Whole::not_found(),
        }
    }

    fn list(&self, asked: &Asked) -> Whole {
        let number = |name: &str| asked.query(name).and_then(|text| text.parse().ok());
        let (from, page) = (number("next_page_token").unwrap_or(0), number("limit").unwrap_or(PAGE).clamp(1, PAGE));
        let entry = |model: &'_ Served| (model.config.name.clone(), format!("{}.mar", model.config.name));
        let shown: Vec<_> = self.models.iter().skip(from).take(page).map(entry).collect();
        let more = self.models.len() > from.saturating_add(page);
        let models = shown.iter().map(|(name, url)| Entry { model_name: name, model_url: url.clone() }).collect();
        pretty(&List { next_page_token: more.then(|| (from + page).to_string()), models })
    }
}

fn description(model: &Served) -> Description<'_> {
    let state = model.seats.state();
    let worker = |n: usize| Worker {
        id: (9_000 + n).to_string(),
        start_time: "2026-11-23T23:28:17.501Z",
        status: "READY",
        memory_usage: 26_009_600,
        pid: std::process::id(),
        gpu: false,
        gpu_usage: "N/A",
    };
    Description {
        model_name: &model.config.name,
        model_version: VERSION,
        model_url: format!("{}.mar", model.config.name),
        runtime: "python",
        min_workers: state.seats,
        max_workers: state.seats,
        batch_size: 1,
        max_batch_delay: 100,
        response_timeout: model.config.response_timeout.as_secs(),
        startup_timeout: 120,
        max_retry_timeout_in_sec: 300,
        client_timeout_in_mills: 0,
        parallel_type: "",
        parallel_level: 0,
        device_type: "cpu",
        continuous_batching: false,
        use_job_ticket: false,
        use_venv: false,
        stateful: false,
        sequence_max_idle_m_sec: 0,
        sequence_timeout_m_sec: 0,
        max_num_sequence: 0,
        max_sequence_job_queue_size: 0,
        loaded_at_startup: true,
        workers: (0..state.seats).map(worker).collect(),
        job_queue_status: Queue {
            remaining_capacity: model.seats.queue().saturating_sub(state.waiting),
            pending_requests: state.waiting,
        },
    }
}

/// At once, whether it was asked to be waited for or not. A number that is none leaves all as it is, and is no error.
fn scale(model: &Served, asked: &Asked) -> Whole {
    let wanted = asked.query("min_worker").and_then(|text| text.parse::<usize>().ok());
    if let Some(workers) = wanted {
        model.seats.resize(workers.min(1_024));
    }
    let name = &model.config.name;
    if asked.query("synchronous") == Some("true") {
        let workers = model.seats.state().seats;
        return Whole::json(format!("{{\n  \"status\": \"Workers scaled to {workers} for model: {name}\"\n}}\n"));
    }
    let body = "{\n  \"status\": \"Processing worker updates...\"\n}\n";
    Whole { status: 202, reason: "Accepted", ..Whole::json(body) }
}

fn pretty(value: &impl Serialize) -> Whole {
    let text = serde_json::to_string_pretty(value).expect("these are structs of texts and numbers");
    Whole::json(text + "\n")
}
