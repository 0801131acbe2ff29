//! A ModelServer, judged alone and put into the contract's terms.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::id::BackendName;
use api::limits::TOTAL_TIMEOUT;
use api::proto;
use api::snapshot::{Backend, Role};
use api::template::{self, ChatTemplate, Probed};

use super::endpoints::Members;
use super::verdict::{Condition, Reason};
use super::{contract, sentences};
use crate::crd::{ModelServerSpec, duration};
use crate::model_server::{Disaggregation, ValidServer, validate};
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
    pub(super) group_key: Arc<str>,
    pub(super) prefill: BTreeMap<String, String>,
    pub(super) decode: BTreeMap<String, String>,
}

/// Checks a server by its kind's rules and by the contract's.
pub(super) fn accept(name: &ObjectName, spec: &ModelServerSpec) -> Result<Pool, Vec<String>> {
    let valid = validate(spec).map_err(|problems| sentences(&problems))?;
    let mut backend = empty(&name.to_string().into());
    backend.engine = valid.engine;
    backend.model = valid.model.clone();
    if let Some(first_byte) = valid.first_byte {
        // Kthena's timeout lasts until the answer's head. One that is longer than a whole request may take moves that, too.
        backend.timeouts.first_byte = first_byte;
        backend.timeouts.total = TOTAL_TIMEOUT.max(first_byte);
    }
    if let Some(retry) = valid.retry {
        (backend.retry.attempts, backend.retry.interval) = (retry.attempts, retry.interval);
    }
    let mut notes = notes(spec, &valid);
    let probed = valid.chat_template.map(probed);
    notes.extend(probed.as_ref().and_then(|(_, note)| note.clone()));
    backend.chat_template = probed.map(|(template, _)| Arc::new(template));
    Ok(Pool {
        backend: contract::backend(backend)?,
        selects: valid.labels,
        split: valid.disaggregation.map(|apart| {
            let Disaggregation { group_key, prefill, decode, connector: _ } = apart;
            Split { group_key, prefill, decode }
        }),
        port: valid.port,
        unserved: valid.tls.then(|| TLS.to_owned()),
        notes,
    })
}

/// With what is known of the template: once for each edit of a server, for it takes tens of milliseconds.
fn probed(template: ChatTemplate) -> (ChatTemplate, Option<String>) {
    let (found, note) = match template::probe(&template) {
        Ok(Probed { content, segments: Ok(segments), .. }) => (Some((content, Some(segments))), None),
        Ok(Probed { content, segments: Err(unfit), .. }) => {
            let sentence = format!("chatTemplate: is rendered for each request, on a helper thread: {unfit}");
            (Some((content, None)), Some(sentence))
        }
        Err(error) => {
            (None, Some(format!("chatTemplate: has no effect, what engines cache is only predicted: {error}")))
        }
    };
    let (content, segments) = found.unwrap_or((template.content, None));
    (ChatTemplate { content, segments, ..template }, note)
}

const TLS: &str = "data planes of this release speak plain HTTP to engines, and none sends in the clear what was to be \
                   encrypted: requests are answered 503 until workloadPort.protocol is http";

const APART: &str = "workloadSelector.pdGroup: data planes of this release send whole requests to decode pods, and prefill pods are asked \
                     nothing";

/// What was asked for and is more than there is.
fn notes(spec: &ModelServerSpec, valid: &ValidServer) -> Vec<String> {
    let mut notes = Vec::new();
    if valid.disaggregation.is_some() {
        notes.push(APART.to_owned());
    }
    let Some(policy) = &spec.traffic_policy else { return notes };
    let asked = policy.timeout.as_deref().and_then(duration::parse);
    if let (Some(asked), Some(taken)) = (asked, valid.first_byte)
        && taken < asked
    {
        notes.push(format!("trafficPolicy.timeout: {asked:?} is taken as {taken:?}, the longest there is"));
    }
    if let (Some(retry), Some(taken)) = (&policy.retry, valid.retry) {
        let (attempts, asked) = (i32::from(taken.attempts), duration::parse(&retry.retry_interval));
        if attempts < retry.attempts {
            notes.push(format!(
                "trafficPolicy.retry.attempts: {} is taken as {attempts}, the most there are",
                retry.attempts
            ));
        }
        if let Some(asked) = asked.filter(|asked| taken.interval < *asked) {
            let taken = taken.interval;
            notes.push(format!(
                "trafficPolicy.retry.retryInterval: {asked:?} is taken as {taken:?}, the longest there is"
            ));
        }
    }
    notes
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

/// The name of a backend without endpoints, which answers 503. No ModelServer has it: their names have no colon.
pub(super) fn refusal_name(object: &ObjectName, what: &str) -> String {
    format!("{}/{REFUSAL}{what}", object.namespace)
}

const REFUSAL: &str = "not-served:";

pub(super) fn is_refusal(name: &BackendName) -> bool {
    name.as_str().split_once('/').is_some_and(|(_, name)| name.starts_with(REFUSAL))
}

/// A backend that answers 503.
pub(super) fn refusal(name: &BackendName) -> Backend {
    empty(name)
}

/// Without endpoints, and all else the default.
fn empty(name: &BackendName) -> Backend {
    let wire = proto::Backend { name: name.to_string(), ..proto::Backend::default() };
    let wire = proto::Snapshot { backends: vec![wire], ..proto::Snapshot::default() };
    let decoded =
        api::decode::snapshot(wire).expect("names of Kubernetes are names of the contract, and the rest is absent");
    decoded.backends.into_iter().next().expect("one went in")
}
