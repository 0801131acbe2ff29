//! What the schema's CEL rules say, and what CEL cannot say.

use serde_json::Value;

use super::transfer::transfer;
use crate::crd::{BoosterBackend, BoosterBackendType, BoosterWorker, ModelBoosterSpec, WorkerType};
use crate::model_route;
use crate::naming::is_dns_label;
use crate::problem::{At, Problem, Problems, SPEC};
use crate::valid::Valid;

/// Where an engine listens unless its `config.port` says otherwise.
const ENGINE_PORT: u16 = 8000;
/// What took the place of release 0.1's list.
const BACKENDS: &str =
    "backends was replaced by backend: write its one entry as spec.backend, and a ModelBooster for each further one";

/// Checks all of a ModelBooster of this name.
pub fn validate(name: &str, spec: &ModelBoosterSpec) -> Result<Valid<ModelBoosterSpec>, Vec<Problem>> {
    let mut problems = Problems::default();
    match (&spec.backend, &spec.backends) {
        (_, Some(_)) => problems.add(&SPEC.field("backends"), BACKENDS),
        (None, None) => problems.add(&SPEC.field("backend"), "is missing: this field is required"),
        (Some(_), None) => {}
    }
    if let Some(wanted) = &spec.backend {
        backend(&mut problems, name, wanted);
    }
    if let Some(wanted) = &spec.model_match {
        model_route::check_match(&mut problems, &SPEC.field("modelMatch"), wanted);
    }
    problems.or(Valid::new(spec.clone()))
}

fn backend(problems: &mut Problems, name: &str, backend: &BoosterBackend) {
    let at = SPEC.field("backend");
    former_fields(problems, &at, backend);
    child_names(problems, &at, name, backend);
    worker_types(problems, &at, backend);
    workers(problems, &at.field("workers"), &backend.workers);
    volumes(problems, &at, backend);
    transfers(problems, &at.field("workers"), backend);
}

/// Of release 0.1: dropped without a word they would be missed.
fn former_fields(problems: &mut Problems, at: &At<'_>, backend: &BoosterBackend) {
    let BoosterBackend { min_replicas, max_replicas, route_weight, autoscaling_policy, .. } = backend;
    let range = "was replaced: set replicas, and for a range an AutoscalingPolicy whose homogeneousTarget names the ModelServing";
    problems.require(min_replicas.is_none(), &at.field("minReplicas"), range);
    problems.require(max_replicas.is_none(), &at.field("maxReplicas"), range);
    let weight = "was replaced: set weight on the targetModels of a ModelRoute";
    problems.require(route_weight.is_none(), &at.field("routeWeight"), weight);
    let policy = "was replaced: create an AutoscalingPolicy whose homogeneousTarget names the ModelServing";
    problems.require(autoscaling_policy.is_none(), &at.field("autoscalingPolicy"), policy);
}

/// What is made must have a name that Kubernetes takes: said here, not by a child that cannot be made.
fn child_names(problems: &mut Problems, at: &At<'_>, name: &str, backend: &BoosterBackend) {
    let roles: &[(&str, WorkerType)] = match backend.kind {
        BoosterBackendType::Vllm => &[("leader", WorkerType::Server)],
        BoosterBackendType::VllmDisaggregated => &[("prefill", WorkerType::Prefill), ("decode", WorkerType::Decode)],
    };
    for (role, kind) in roles {
        let worker = backend.workers.iter().find(|worker| worker.kind == *kind);
        let (replicas, pods) = worker.map_or((0, 0), |worker| (worker.replicas, worker.pods));
        let longest = format!("{name}-{}-{}-{role}-{replicas}-{}", backend.name, backend.replicas, (pods - 1).max(0));
        let sentence = format!(
            "pods would be called {longest}, which must begin with a letter and have at most 63 characters, not {}: shorten \
             metadata.name or backend.name",
            longest.len()
        );
        problems.require(name.is_empty() || is_dns_label(&longest), &at.field("name"), sentence);
    }
}

fn worker_types(problems: &mut Problems, at: &At<'_>, backend: &BoosterBackend) {
    let at = at.field("workers");
    let count = |kind| backend.workers.iter().filter(|worker| worker.kind == kind).count();
    match backend.kind {
        BoosterBackendType::Vllm => {
            let one = backend.workers.len() == 1 && count(WorkerType::Server) == 1;
            problems.require(one, &at, "type vLLM takes exactly one worker, of type server");
        }
        BoosterBackendType::VllmDisaggregated => {
            for (i, worker) in backend.workers.iter().enumerate() {
                let fits = matches!(worker.kind, WorkerType::Prefill | WorkerType::Decode);
                let sentence = "type vLLMDisaggregated takes workers of type prefill and decode only";
                problems.require(fits, &at.item(i).field("type"), sentence);
            }
            let pair = count(WorkerType::Prefill) == 1 && count(WorkerType::Decode) == 1;
            problems.require(
                pair,
                &at,
                "type vLLMDisaggregated takes exactly one prefill worker and one decode worker",
            );
        }
    }
}

fn workers(problems: &mut Problems, at: &At<'_>, workers: &[BoosterWorker]) {
    let mut first = None;
    for (i, worker) in workers.iter().enumerate() {
        let at = at.item(i);
        let usable =
            worker.image.as_ref().is_none_or(|image| !image.is_empty() && !image.contains(char::is_whitespace));
        problems.require(usable, &at.field("image"), "must be an image without white space, or left out");
        if !matches!(worker.kind, WorkerType::Server | WorkerType::Prefill | WorkerType::Decode) {
            continue;
        }
        let config_at = at.field("config");
        let port_at = config_at.key("port");
        match engine_port(worker) {
            None => problems.add(&port_at, "must be a port from 1 to 65535"),
            Some(port) if *first.get_or_insert(port) != port => {
                problems.add(
                    &port_at,
                    format!("all workers must have the same port: this is {port}, the first is {first:?}"),
                );
            }
            Some(_) => {}
        }
    }
}

/// The port in the engine's flags, or vLLM's own; none where it is no port.
pub fn engine_port(worker: &BoosterWorker) -> Option<u16> {
    let port = match worker.config.as_ref().map(|config| &config["port"]) {
        None | Some(Value::Null) => return Some(ENGINE_PORT),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(other) => other.as_u64().and_then(|number| u16::try_from(number).ok()),
    };
    port.filter(|port| *port != 0)
}

/// Weights on a volume are read where they lie, so that volume must be the cache too.
fn volumes(problems: &mut Problems, at: &At<'_>, backend: &BoosterBackend) {
    let Some(source) = backend.model_uri.strip_prefix("pvc://") else { return };
    let source_at = at.field("modelURI");
    let cache_at = at.field("cacheURI");
    problems.require(!source.split('/').any(|part| part == ".."), &source_at, "must not contain '..'");
    let Some(claim) = backend.cache_uri.as_deref().and_then(|uri| uri.strip_prefix("pvc://")) else {
        problems.add(
            &cache_at,
            "must be pvc://CLAIM with the claim of modelURI: weights on a volume are read where they lie",
        );
        return;
    };
    problems.require(!claim.contains('/'), &cache_at, "must be one claim name without '/'");
    let of_source = source.split('/').find(|part| !part.is_empty() && *part != ".").unwrap_or_default();
    let sentence = format!("is on claim {of_source:?}, cacheURI on {claim:?}: they must be the same");
    problems.require(of_source == claim, &source_at, sentence);
}

fn transfers(problems: &mut Problems, at: &At<'_>, backend: &BoosterBackend) {
    if backend.kind != BoosterBackendType::VllmDisaggregated {
        return;
    }
    let said: Vec<_> =
        (backend.workers.iter().enumerate()).map(|(i, worker)| (i, transfer(problems, &at.item(i), worker))).collect();
    let mut declared = said.iter().filter_map(|(i, transfer)| transfer.as_ref().map(|t| (*i, t.connector)));
    let Some((_, first)) = declared.next() else { return };
    for (i, transfer) in &said {
        let sentence = match transfer {
            None => "the other worker has a kv-transfer-config: both must have one, or none",
            Some(transfer) if transfer.connector != first => "prefill and decode must use the same connector",
            Some(_) => continue,
        };
        let item = at.item(*i);
        let config = item.field("config");
        problems.add(&config.key("kv-transfer-config"), sentence);
    }
}
