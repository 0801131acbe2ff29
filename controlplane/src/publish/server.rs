//! A ModelServer, judged alone and put into the contract's terms.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use api::id::BackendName;
use api::limits::{MAX_RETRY_ATTEMPTS, MAX_RETRY_INTERVAL, MAX_TIMEOUT, TOTAL_TIMEOUT};
use api::proto;
use api::snapshot::{Backend, Role};

use super::endpoints::Members;
use super::verdict::{Condition, Reason};
use super::{contract, duration};
use crate::crd::{InferenceEngine, ModelServerSpec, PortProtocol, TrafficPolicy};
use crate::world::ObjectName;

/// A server that can be published, without its endpoints.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) backend: Backend,
    /// Labels that its pods have.
    pub(super) selects: BTreeMap<String, String>,
    /// How prefill and decode are told apart, where they are.
    pub(super) split: Option<Split>,
    pub(super) port: u16,
    /// What of it data planes of this release do not do, and what happens instead.
    pub(super) unserved: Option<String>,
    /// What of it has no effect, in sentences.
    pub(super) notes: Vec<String>,
}

/// Prefill and decode apart.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) group_key: String,
    pub(super) prefill: BTreeMap<String, String>,
    pub(super) decode: BTreeMap<String, String>,
}

/// Checks a server by its kind's rules and by the contract's.
pub(super) fn accept(name: &ObjectName, spec: &ModelServerSpec) -> Result<Pool, Vec<String>> {
    selects_by_something(spec)?;
    let mut notes = Vec::new();
    let policy = spec.traffic_policy.clone().unwrap_or_default();
    let wire = proto::Backend {
        name: name.to_string(),
        engine: engine(spec).into(),
        model: spec.model.clone().unwrap_or_default(),
        timeouts: timeouts(&policy, &mut notes)?,
        retry: retry(&policy, &mut notes)?,
        ..proto::Backend::default()
    };
    let selector = &spec.workload_selector;
    Ok(Pool {
        backend: contract::backend(wire)?,
        selects: selector.match_labels.clone(),
        split: selector.pd_group.as_ref().map(|group| Split {
            group_key: group.group_key.clone(),
            prefill: group.prefill_labels.clone(),
            decode: group.decode_labels.clone(),
        }),
        port: spec.workload_port.port,
        unserved: unserved(spec),
        notes,
    })
}

/// What the contract's decoder cannot see, for it knows neither selectors nor ports of servers without pods.
fn selects_by_something(spec: &ModelServerSpec) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    if spec.workload_selector.match_labels.is_empty() {
        problems.push("workloadSelector.matchLabels: is empty: name at least one label of the pods".to_owned());
    }
    if spec.workload_port.port == 0 {
        problems.push("workloadPort.port: 0 is out of range, use 1 to 65535".to_owned());
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn engine(spec: &ModelServerSpec) -> proto::backend::Engine {
    use proto::backend::Engine;
    match spec.inference_engine {
        InferenceEngine::Vllm => Engine::Vllm,
        InferenceEngine::Sglang => Engine::Sglang,
        InferenceEngine::Triton => Engine::Triton,
        InferenceEngine::TorchServe => Engine::Torchserve,
    }
}

/// Kthena's timeout lasts until the answer's head. One that is longer than a whole request may take moves that bound too.
fn timeouts(policy: &TrafficPolicy, notes: &mut Vec<String>) -> Result<Option<proto::Timeouts>, Vec<String>> {
    let Some(asked) = policy.timeout.as_ref().map(|text| wait("timeout", text)).transpose()? else { return Ok(None) };
    if asked.is_zero() {
        return Ok(None);
    }
    let timeout = held_to(asked, MAX_TIMEOUT, "trafficPolicy.timeout", notes);
    Ok(Some(proto::Timeouts {
        first_byte: Some(timeout.into()),
        total: Some(timeout.max(TOTAL_TIMEOUT).into()),
        ..proto::Timeouts::default()
    }))
}

fn retry(policy: &TrafficPolicy, notes: &mut Vec<String>) -> Result<Option<proto::Retry>, Vec<String>> {
    let Some(retry) = &policy.retry else { return Ok(None) };
    let asked = u32::try_from(retry.attempts).unwrap_or_default();
    let attempts = asked.min(MAX_RETRY_ATTEMPTS.into());
    if attempts < asked {
        notes.push(format!("trafficPolicy.retry.attempts: {asked} is taken as {attempts}, the most there are"));
    }
    let interval = wait("retry.retryInterval", &retry.retry_interval)?;
    let interval = held_to(interval, MAX_RETRY_INTERVAL, "trafficPolicy.retry.retryInterval", notes);
    Ok(Some(proto::Retry { attempts: Some(attempts), interval: Some(interval.into()), budget_percent: None }))
}

fn wait(field: &str, text: &str) -> Result<Duration, Vec<String>> {
    duration::parse(text)
        .ok_or_else(|| vec![format!("trafficPolicy.{field}: {text:?} is not usable: write it as 10s, 1m30s or 100ms")])
}

fn held_to(asked: Duration, most: Duration, field: &str, notes: &mut Vec<String>) -> Duration {
    if asked > most {
        notes.push(format!("{field}: {asked:?} is taken as {most:?}, the longest there is"));
    }
    asked.min(most)
}

/// Whether the server's endpoints can serve, and if not, where they are on the way to it.
pub(super) fn readiness(pool: Option<&Pool>, members: &Members) -> Condition {
    let Members { endpoints, left_out } = members;
    let Some(pool) = pool else { return Condition::no(Reason::Invalid, "it is not published") };
    if pool.unserved.is_some() {
        return Condition::no(Reason::NotServed, "it is published without endpoints");
    }
    if endpoints.is_empty() && left_out.is_empty() {
        let labels: Vec<String> = pool.selects.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return Condition::no(Reason::NoPods, format!("no pod of the namespace has the labels {}", labels.join(",")));
    }
    if endpoints.is_empty() {
        return Condition::no(Reason::NoReadyPods, left_out_sentence(members));
    }
    if pool.split.is_some() && !has_pair(members) {
        let sentence = "no group has both a prefill and a decode pod that are ready; decode pods serve alone";
        return Condition::no(Reason::NoPair, sentence);
    }
    Condition::yes(
        Reason::Ready,
        format!("{} of {} pods are endpoints", endpoints.len(), endpoints.len() + left_out.len()),
    )
}

fn left_out_sentence(members: &Members) -> String {
    const NAMED: usize = 5;
    let left_out = &members.left_out;
    let named: Vec<String> = left_out.iter().take(NAMED).map(|(pod, why)| format!("{pod} is {why}")).collect();
    let rest = left_out.len().saturating_sub(NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("none of the {} selected pods is ready: {}{more}", left_out.len(), named.join(", "))
}

fn has_pair(members: &Members) -> bool {
    let mut groups: HashMap<&str, (bool, bool)> = HashMap::new();
    for endpoint in &members.endpoints {
        let (prefill, decode) = groups.entry(endpoint.group.as_deref().unwrap_or_default()).or_default();
        match endpoint.role {
            Role::Prefill => *prefill = true,
            Role::Decode => *decode = true,
            Role::Both => (*prefill, *decode) = (true, true),
        }
    }
    groups.into_values().any(|(prefill, decode)| prefill && decode)
}

fn unserved(spec: &ModelServerSpec) -> Option<String> {
    (spec.workload_port.protocol == PortProtocol::Https).then(|| {
        "data planes of this release speak plain HTTP to engines, and none sends in the clear what was to be encrypted: \
         requests are answered 503 until workloadPort.protocol is http"
            .to_owned()
    })
}

/// The name of a backend without endpoints, which answers 503. No ModelServer has it: their names have no colon.
pub(super) fn refusal_name(object: &ObjectName, what: &str) -> String {
    format!("{}/{REFUSAL}{what}", object.namespace)
}

const REFUSAL: &str = "not-served:";

pub(super) fn is_refusal(name: &BackendName) -> bool {
    name.as_str().split_once('/').is_some_and(|(_, name)| name.starts_with(REFUSAL))
}

pub(super) fn refusal(name: &BackendName) -> Backend {
    let wire = proto::Backend { name: name.to_string(), ..proto::Backend::default() };
    contract::backend(wire).expect("all but the name is the default, and the name is of the form that is wanted")
}
