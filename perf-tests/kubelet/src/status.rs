//! A pod's status, from what its containers do.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::address::Addresses;
use super::launch::{Facts, Waiting};

/// What a container does.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) state: State,
    pub(super) last: Option<Ended>,
    pub(super) started: bool,
    pub(super) ready: bool,
    pub(super) restarts: i32,
    /// An init container that runs on beside the others.
    pub(super) sidecar: bool,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Waiting(Waiting),
    Running { since: Timestamp },
    Ended(Ended),
}

#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) began: Timestamp,
    pub(super) at: Timestamp,
}

impl View {
    pub(super) fn new() -> Self {
        let waiting = Waiting { reason: "ContainerCreating", message: String::new() };
        Self { state: State::Waiting(waiting), last: None, started: false, ready: false, restarts: 0, sidecar: false }
    }

    pub(super) fn of(container: &Container) -> Self {
        Self { sidecar: container.restart_policy.is_some(), ..Self::new() }
    }

    /// Whether an init container holds the others back no longer.
    fn is_done(&self) -> bool {
        if self.sidecar { self.started } else { self.has_succeeded() }
    }

    fn has_succeeded(&self) -> bool {
        matches!(self.state, State::Ended(Ended { code: 0, .. }))
    }
}

/// All of a pod's, in the order of its spec.
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub(super) inits: Vec<View>,
    pub(super) mains: Vec<View>,
    /// No container will start again.
    pub(super) over: bool,
}

impl Views {
    fn phase(&self) -> &'static str {
        let waits_for_first = |view: &View| matches!(view.state, State::Waiting(_)) && view.last.is_none();
        match self {
            Self { over: true, inits, mains } if succeeded(inits.iter().chain(mains)) => "Succeeded",
            Self { over: true, .. } => "Failed",
            Self { mains, .. } if mains.iter().any(waits_for_first) => "Pending",
            _ => "Running",
        }
    }
}

/// However sidecars end.
fn succeeded<'a>(mut views: impl Iterator<Item = &'a View>) -> bool {
    views.all(|view| view.sidecar || view.has_succeeded())
}

/// The conditions as they were written last: a time changes only with its status.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<&'static str, (bool, Timestamp)>);

impl Conditions {
    fn list(&mut self, current: [(&'static str, bool); 4], now: Timestamp) -> Vec<Value> {
        let mut list = Vec::new();
        for (name, holds) in current {
            let entry = self.0.entry(name).or_insert((holds, now));
            if entry.0 != holds {
                *entry = (holds, now);
            }
            let status = if holds { "True" } else { "False" };
            list.push(json!({"type": name, "status": status, "lastTransitionTime": Time(entry.1)}));
        }
        list
    }
}

/// A strategic merge patch, so that conditions of others stay. It names the pod's uid: another pod of the name is left alone.
pub(super) fn patch(pod: &Pod, facts: &Facts, views: &Views, conditions: &mut Conditions, now: Timestamp) -> Value {
    let spec = pod.spec.as_ref();
    let sidecars = views.inits.iter().filter(|view| view.sidecar);
    let containers_ready =
        !views.over && !views.mains.is_empty() && views.mains.iter().chain(sidecars).all(|view| view.ready);
    let initialized = views.inits.iter().all(View::is_done);
    let current = [
        ("PodReadyToStartContainers", !views.over),
        ("Initialized", initialized),
        ("ContainersReady", containers_ready),
        ("Ready", containers_ready && gates_open(pod)),
    ];
    let init_containers = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let listed = |of: Addresses| of.all().iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
    json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {
            "phase": views.phase(),
            "observedGeneration": pod.metadata.generation,
            "hostIP": facts.host.first(), "hostIPs": listed(facts.host),
            "podIP": facts.pod.first(), "podIPs": listed(facts.pod),
            "startTime": pod.metadata.creation_timestamp,
            "conditions": conditions.list(current, now),
            "initContainerStatuses": statuses(init_containers, &views.inits),
            "containerStatuses": statuses(containers, &views.mains),
        },
    })
}

fn gates_open(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds = |name: &str| conditions.iter().any(|condition| condition.type_ == name && condition.status == "True");
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    gates.iter().all(|gate| holds(&gate.condition_type))
}

fn statuses(containers: &[Container], views: &[View]) -> Vec<ContainerStatus> {
    containers.iter().zip(views).map(|(container, view)| status(container, view)).collect()
}

fn status(container: &Container, view: &View) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        image_id: format!("process://{image}"),
        image,
        ready: view.ready,
        started: Some(view.started),
        restart_count: view.restarts,
        state: Some(state(&view.state)),
        last_state: view.last.clone().map(|ended| state(&State::Ended(ended))),
        ..ContainerStatus::default()
    }
}

fn state(state: &State) -> ContainerState {
    let mut written = ContainerState::default();
    match state.clone() {
        State::Waiting(Waiting { reason, message }) => {
            let message = Some(message).filter(|message| !message.is_empty());
            written.waiting = Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message });
        }
        State::Running { since } => {
            written.running = Some(ContainerStateRunning { started_at: Some(Time(since)) });
        }
        State::Ended(Ended { code, reason, message, began, at }) => {
            written.terminated = Some(ContainerStateTerminated {
                exit_code: code,
                reason: Some(reason.to_owned()),
                message,
                started_at: Some(Time(began)),
                finished_at: Some(Time(at)),
                ..ContainerStateTerminated::default()
            });
        }
    }
    written
}

#[cfg(test)]
mod tests;
