//! Pods, trimmed on arrival.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::world::{Life, ObjectName, Pod};

/// What the pod's metadata says.
pub(super) struct Identity {
    pub(super) name: ObjectName,
    pub(super) uid: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    /// Its `deletionTimestamp`.
    pub(super) deleted: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    conditions: Option<Vec<Condition>>,
    start_time: Option<String>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// Keeps what the publisher reads. In a file that was written by hand a pod has an address and little else: without a phase
/// it is taken as running, without conditions as ready, and without a UID its name and address are its identity, so that
/// another address is another pod.
pub(super) fn trim(identity: Identity, value: Value) -> Result<Pod, Vec<String>> {
    let Body { spec, status } = Body::deserialize(&value).map_err(|error| vec![error.to_string()])?;
    let ips = ips(&status)?;
    let Identity { name, uid, labels, deleted } = identity;
    let uid = uid.filter(|uid| !uid.is_empty()).unwrap_or_else(|| match ips.first() {
        Some(ip) => format!("{name}@{ip}"),
        None => name.to_string(),
    });
    let started = status.start_time.as_deref().filter(|_| !ips.is_empty());
    Ok(Pod {
        name,
        uid: uid.into(),
        labels,
        node: spec.node_name.filter(|node| !node.is_empty()).map(Into::into),
        ips,
        life: life(deleted.is_some(), &status),
        // Nobody goes by it, so one that cannot be read is none.
        started: started.and_then(|started| started.parse().ok()),
    })
}

fn life(deleted: bool, status: &Status) -> Life {
    let ready = |conditions: &Vec<Condition>| conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
    match status.phase.as_deref() {
        _ if deleted => Life::Terminating,
        Some("Succeeded" | "Failed") => Life::Ended,
        Some("Running") | None if status.conditions.as_ref().is_none_or(ready) => Life::Ready,
        Some("Running") | None => Life::NotReady,
        Some(_) => Life::Pending,
    }
}

fn ips(status: &Status) -> Result<Vec<IpAddr>, Vec<String>> {
    let single = status.pod_ip.iter().map(|ip| ("status.podIP", ip.as_str()));
    let listed = status.pod_ips.iter().map(|ip| ("status.podIPs", ip.ip.as_str()));
    let (mut ips, mut problems) = (Vec::new(), Vec::new());
    for (field, text) in single.chain(listed).filter(|(_, text)| !text.is_empty()) {
        match text.parse() {
            Ok(ip) if ips.contains(&ip) => {}
            Ok(ip) => ips.push(ip),
            Err(_) => problems.push(format!("{field}: {text:?} is no IP address")),
        }
    }
    if problems.is_empty() { Ok(ips) } else { Err(problems) }
}
