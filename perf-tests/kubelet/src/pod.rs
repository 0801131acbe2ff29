//! The life of a pod: its containers, and what is written of them.

use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::container::{Changes, Place, Stop};
use super::launch::Facts;
use super::order;
use super::sandbox::Sandbox;
use super::status::{self, Conditions, State, View, Views};
use super::volume::TokenFile;

/// While the API server refuses a status, and while a volume is not there.
const RETRY: Duration = Duration::from_millis(250);

/// What the API server says of a pod. Gone is one that was deleted without grace, or whose name another has.
#[derive(Clone, Debug)]
pub(super) enum Known {
    There(Rc<Pod>),
    Gone,
}

impl Known {
    /// How long it may take to end, where it is to end.
    fn grace(&self) -> Option<Duration> {
        let Self::There(pod) = self else { return Some(Duration::ZERO) };
        pod.metadata.deletion_timestamp.as_ref()?;
        Some(Duration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0).unsigned_abs()))
    }
}

/// A pod as its node sees it.
pub(super) struct Play {
    pub(super) client: Client,
    pub(super) known: watch::Receiver<Known>,
    /// Nothing is written while it is false.
    pub(super) link: watch::Receiver<bool>,
}

impl Play {
    /// Until nothing of it is left, in the API server either. Dropped, it takes the processes with it.
    pub(super) async fn run(mut self, sandbox: Sandbox) {
        let spec = sandbox.spec();
        let count = |containers: &[Container]| containers.iter().map(View::of).collect::<Vec<_>>();
        let inits = spec.init_containers.as_deref().map(count).unwrap_or_default();
        let mut views = Views { inits, mains: count(&spec.containers), over: false };
        let mut writer = Writer {
            api: Api::namespaced(self.client.clone(), &sandbox.pod.namespace().unwrap_or_default()),
            uid: sandbox.pod.metadata.uid.clone(),
            facts: sandbox.facts.clone(),
            conditions: Conditions::default(),
        };
        let (stop, stopping) = watch::channel(self.known.borrow().grace());
        let (changes, mut changed) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn_local(contain(sandbox, changes, stopping));
        let mut dirty = true;
        while !views.over || dirty || stop.borrow().is_none() {
            tokio::select! {
                biased;
                change = changed.recv(), if !views.over => {
                    match change {
                        Some((Place::Init(n), view)) => views.inits[n] = view,
                        Some((Place::Main(n), view)) => views.mains[n] = view,
                        None => views.over = true,
                    }
                    dirty = true;
                }
                known = self.known.changed() => {
                    // The node has gone, and so is this task in a moment.
                    let Ok(()) = known else { return };
                    let now = self.known.borrow_and_update().clone();
                    stop.send_if_modified(|grace| std::mem::replace(grace, now.grace()) != now.grace());
                    dirty = true;
                }
                // Both of the above may come first: one write tells of all.
                true = is_up(&mut self.link), if dirty => {
                    let known = self.known.borrow().clone();
                    dirty = !writer.write(&known, &views).await;
                    if dirty {
                        sleep(RETRY).await;
                    }
                }
            }
        }
        writer.delete(&mut self.link, &self.known).await;
    }
}

/// The containers, in their order. The channel closes when none will start again.
async fn contain(mut sandbox: Sandbox, changes: Changes, mut stop: Stop) {
    let mounted = mount(&mut sandbox, &changes, &mut stop).await;
    let sandbox = Rc::new(sandbox);
    if let Some(tokens) = mounted {
        let mut tasks = JoinSet::new();
        for token in tokens {
            tasks.spawn_local(token.keep_fresh(sandbox.client(), sandbox.pod.clone(), sandbox.renew_after()));
        }
        let refreshed = sandbox.clone();
        tasks.spawn_local(async move { refreshed.refresh().await });
        order::run(sandbox.clone(), changes, stop).await;
    }
    sandbox.leave().await;
}

/// Waits until the volumes can be made. `None` where the pod ends before.
async fn mount(sandbox: &mut Sandbox, changes: &Changes, stop: &mut Stop) -> Option<Vec<TokenFile>> {
    loop {
        let waiting = match sandbox.mount().await {
            _ if stop.borrow().is_some() => return None,
            Ok(tokens) => return Some(tokens),
            Err(waiting) => waiting,
        };
        let view = View { state: State::Waiting(waiting), ..View::new() };
        let _ = changes.send((Place::Main(0), view));
        tokio::select! {
            () = sleep(RETRY) => {}
            _ = stop.wait_for(Option::is_some) => return None,
        }
    }
}

/// What is written of a pod.
struct Writer {
    api: Api<Pod>,
    uid: Option<String>,
    facts: Facts,
    conditions: Conditions,
}

impl Writer {
    /// Whether nothing is left to write.
    async fn write(&mut self, known: &Known, views: &Views) -> bool {
        let Known::There(pod) = known else { return true };
        let patch = status::patch(pod, &self.facts, views, &mut self.conditions, Timestamp::now());
        let written = self.api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
        match written {
            Ok(_) => true,
            // Gone, or another pod of the name: what the watch will say too.
            Err(kube::Error::Api(status)) => matches!(status.code, 404 | 409),
            Err(_) => false,
        }
    }

    /// The last word: with no grace left the API server forgets the pod.
    async fn delete(&self, link: &mut watch::Receiver<bool>, known: &watch::Receiver<Known>) {
        let uid = self.uid.clone();
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default().grace_period(0) };
        while is_up(link).await {
            let Known::There(pod) = known.borrow().clone() else { return };
            match self.api.delete(&pod.name_any(), &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}

/// Waits until it is. False where the kubelet has ended.
async fn is_up(link: &mut watch::Receiver<bool>) -> bool {
    link.wait_for(|up| *up).await.is_ok()
}
