//! What the schema's CEL rules say, and what CEL cannot say.

use std::collections::BTreeMap;
use std::time::Duration;

use api::id::ModelName;
use api::limits::{MAX_MODEL_NAME_BYTES, MAX_RETRY_ATTEMPTS, MAX_RETRY_INTERVAL, MAX_TIMEOUT};
use api::snapshot::Engine;
use api::template::ChatTemplate;

use super::{Connector, Disaggregation, MetricsAt, ValidRetry, ValidServer};
use crate::crd::{self, InferenceEngine, KvConnectorType, PortProtocol, duration};
use crate::naming::{is_label_key, is_label_value};
use crate::problem::{At, Problem, Problems, SPEC};

/// Where Triton exposes metrics.
const TRITON_METRICS: u16 = 8002;
/// Where TorchServe exposes metrics.
const TORCHSERVE_METRICS: u16 = 8082;
/// TorchServe's management API.
const TORCHSERVE_MANAGEMENT: u16 = 8081;

/// Checks all of a server and fills in what its engine has by default.
pub fn validate(spec: &crd::ModelServerSpec) -> Result<ValidServer, Vec<Problem>> {
    let mut problems = Problems::default();
    let engine = engine(spec.inference_engine);
    let selector_at = SPEC.field("workloadSelector");
    let labels_at = selector_at.field("matchLabels");
    if spec.workload_selector.match_labels.is_empty() {
        let sentence =
            "matchLabels must hold at least one label: without one it would select every pod of the namespace";
        problems.add(&labels_at, sentence);
    }
    labels(&mut problems, &labels_at, &spec.workload_selector.match_labels);
    model(&mut problems, spec);
    connector_fits(&mut problems, spec);
    let disaggregation = (spec.workload_selector.pd_group.as_ref())
        .map(|group| disaggregation(&mut problems, &selector_at.field("pdGroup"), group, spec));
    let management_port = management_port(&mut problems, spec);
    let (first_byte, retry) = traffic(&mut problems, spec.traffic_policy.as_ref());
    let valid = ValidServer {
        engine,
        model: spec.model.as_deref().filter(|name| !name.is_empty()).map(ModelName::from),
        labels: spec.workload_selector.match_labels.clone(),
        disaggregation,
        port: spec.workload_port.port,
        tls: spec.workload_port.protocol == PortProtocol::Https,
        metrics: metrics(&mut problems, spec),
        management_port,
        first_byte,
        retry,
        chat_template: spec.chat_template.as_ref().or(spec.found_template.as_deref()).map(chat_template),
    };
    problems.or(valid)
}

/// Whether it is any good is not asked here: one that cannot be rendered only costs the knowledge of its text.
fn chat_template(spec: &crd::ChatTemplate) -> ChatTemplate {
    let crd::ChatTemplate { template, tokens, prompt_prefix } = spec;
    ChatTemplate { tokens: tokens.clone(), bos: prompt_prefix.as_str().into(), ..ChatTemplate::new(template) }
}

fn engine(wanted: InferenceEngine) -> Engine {
    match wanted {
        InferenceEngine::Vllm => Engine::Vllm,
        InferenceEngine::Sglang => Engine::Sglang,
        InferenceEngine::Triton => Engine::Triton,
        InferenceEngine::TorchServe => Engine::Torchserve,
    }
}

fn model(problems: &mut Problems, spec: &crd::ModelServerSpec) {
    let length = spec.model.as_deref().unwrap_or_default().len();
    let sentence = format!("is {length} bytes long, at most {MAX_MODEL_NAME_BYTES} are allowed");
    problems.require(length <= MAX_MODEL_NAME_BYTES, &SPEC.field("model"), sentence);
}

fn labels(problems: &mut Problems, at: &At<'_>, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let at = at.key(key);
        problems.require(is_label_key(key), &at, "is no label key: write name or prefix/name, as on the pods");
        problems.require(is_label_value(value), &at, format!("{value:?} is no label value: no pod can have it"));
    }
}

fn connector_fits(problems: &mut Problems, spec: &crd::ModelServerSpec) {
    let Some(connector) = &spec.kv_connector else { return };
    let at = SPEC.field("kvConnector");
    match spec.inference_engine {
        InferenceEngine::Vllm => {}
        InferenceEngine::Sglang => {
            let fits = matches!(connector.kind, KvConnectorType::Http | KvConnectorType::Lmcache);
            let sentence =
                "is vLLM's: SGLang hands over by its own protocol whatever its transfer backend is, remove kvConnector";
            problems.require(fits, &at.field("type"), sentence);
        }
        InferenceEngine::Triton | InferenceEngine::TorchServe => {
            problems
                .add(&at, "is for vLLM and SGLang: Triton and TorchServe do not split prefill from decode, remove it");
        }
    }
}

fn disaggregation(
    problems: &mut Problems,
    at: &At<'_>,
    group: &crd::PdGroup,
    spec: &crd::ModelServerSpec,
) -> Disaggregation {
    let crd::PdGroup { group_key, prefill_labels, decode_labels } = group;
    let splits = matches!(spec.inference_engine, InferenceEngine::Vllm | InferenceEngine::Sglang);
    let sentence =
        "pdGroup needs inferenceEngine vLLM or SGLang: Triton and TorchServe do not split prefill from decode";
    problems.require(splits, at, sentence);
    problems.require(is_label_key(group_key), &at.field("groupKey"), "must be a label key: name or prefix/name");
    for (name, wanted) in [("prefillLabels", prefill_labels), ("decodeLabels", decode_labels)] {
        problems.require(!wanted.is_empty(), &at.field(name), "must hold at least one label");
        labels(problems, &at.field(name), wanted);
    }
    let all_prefill_are_decode = decode_labels.iter().all(|(key, value)| prefill_labels.get(key) == Some(value));
    problems.require(
        !all_prefill_are_decode,
        &at.field("decodeLabels"),
        "decodeLabels must hold a label that prefillLabels does not: decode is tried first, so no pod would be prefill",
    );
    let connector = match (spec.inference_engine, &spec.kv_connector) {
        (InferenceEngine::Sglang, _) => Connector::Sglang,
        (_, connector) => Connector::Of(connector.as_ref().map_or(KvConnectorType::Http, |c| c.kind)),
    };
    Disaggregation {
        group_key: group_key.as_str().into(),
        prefill: prefill_labels.clone(),
        decode: decode_labels.clone(),
        connector,
    }
}

fn management_port(problems: &mut Problems, spec: &crd::ModelServerSpec) -> Option<u16> {
    if spec.inference_engine == InferenceEngine::TorchServe {
        return Some(spec.management_port.unwrap_or(TORCHSERVE_MANAGEMENT));
    }
    if spec.management_port.is_some() {
        let sentence = "managementPort is TorchServe's management API: remove it, or set inferenceEngine: TorchServe";
        problems.add(&SPEC.field("managementPort"), sentence);
    }
    None
}

fn metrics(problems: &mut Problems, spec: &crd::ModelServerSpec) -> MetricsAt {
    let default_port = match spec.inference_engine {
        InferenceEngine::Vllm | InferenceEngine::Sglang => spec.workload_port.port,
        InferenceEngine::Triton => TRITON_METRICS,
        InferenceEngine::TorchServe => TORCHSERVE_METRICS,
    };
    let Some(crd::MetricsEndpoint { port, path }) = &spec.metrics else {
        return MetricsAt { port: default_port, path: "/metrics".into() };
    };
    let at = SPEC.field("metrics");
    problems.require(path.starts_with('/'), &at.field("path"), "path must begin with /, such as /metrics");
    MetricsAt { port: port.unwrap_or(default_port), path: path.as_str().into() }
}

/// What is longer or more often than the data plane allows counts as the most that it allows: Kthena took it.
fn traffic(problems: &mut Problems, wanted: Option<&crd::TrafficPolicy>) -> (Option<Duration>, Option<ValidRetry>) {
    let Some(crd::TrafficPolicy { timeout, retry }) = wanted else { return (None, None) };
    let at = SPEC.field("trafficPolicy");
    let mut length = |at: &At<'_>, text: &str| {
        let parsed = duration::parse(text);
        problems.require(parsed.is_some(), at, format!("{text:?} must be a duration such as 10s, 1m30s or 100ms"));
        parsed.unwrap_or_default()
    };
    let first_byte = timeout.as_deref().map(|text| length(&at.field("timeout"), text).min(MAX_TIMEOUT));
    let retry = retry.as_ref().map(|crd::RetryPolicy { attempts, retry_interval }| ValidRetry {
        attempts: (*attempts).clamp(0, i32::from(MAX_RETRY_ATTEMPTS)) as u8,
        interval: length(&at.field("retry").field("retryInterval"), retry_interval).min(MAX_RETRY_INTERVAL),
    });
    (first_byte.filter(|length| !length.is_zero()), retry)
}

#[cfg(test)]
mod tests;
