//! The order of a pod's containers: init containers one after the other, sidecars among them, which run on; then the others, all at
//! once; and when those have ended, the sidecars' end.

use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::container::{Changes, GRACE_S, Life, Place, Policy, Stop};
use super::sandbox::Sandbox;

/// Until none of them will start again.
pub(super) async fn run(sandbox: Rc<Sandbox>, changes: Changes, stop: Stop) {
    let (end, ended) = watch::channel(None);
    let grace = sandbox.spec().termination_grace_period_seconds.unwrap_or(GRACE_S).unsigned_abs();
    let mut order = Order { sandbox, changes, stop, ended, sidecars: JoinSet::new() };
    if order.begin().await {
        order.mains().await;
    }
    let left = *order.stop.borrow();
    end.send_replace(Some(left.unwrap_or(Duration::from_secs(grace))));
    order.sidecars.join_all().await;
}

struct Order {
    sandbox: Rc<Sandbox>,
    changes: Changes,
    stop: Stop,
    /// The sidecars' own stop.
    ended: Stop,
    sidecars: JoinSet<bool>,
}

impl Order {
    /// Whether all init containers have done what they are for.
    async fn begin(&mut self) -> bool {
        let sandbox = self.sandbox.clone();
        // An init container has ended well once it has ended with 0.
        let never = self.policy() == Policy::Never;
        let until_done = if never { Policy::Never } else { Policy::OnFailure };
        for (n, container) in sandbox.spec().init_containers.iter().flatten().enumerate() {
            let place = Place::Init(n);
            let done = match container.restart_policy {
                Some(_) => self.sidecar(place, container).await,
                None => self.life(place, container, until_done).live().await,
            };
            if !done {
                return false;
            }
        }
        true
    }

    async fn mains(&self) {
        let mut mains = JoinSet::new();
        for (n, container) in self.sandbox.spec().containers.iter().enumerate() {
            mains.spawn_local(self.life(Place::Main(n), container, self.policy()).live());
        }
        mains.join_all().await;
    }

    /// Starts it and waits until it has started, which is what others wait for. False where the pod ends before.
    async fn sidecar(&mut self, place: Place, container: &Container) -> bool {
        let (own, mut told) = mpsc::unbounded_channel();
        let life = self.life(place, container, Policy::Always);
        self.sidecars.spawn_local(Life { changes: own, stop: self.ended.clone(), ..life }.live());
        let (started, mut has_started) = watch::channel(false);
        let changes = self.changes.clone();
        self.sidecars.spawn_local(async move {
            while let Some((place, view)) = told.recv().await {
                started.send_replace(view.started);
                // Where nobody listens the pod is gone.
                let _ = changes.send((place, view));
            }
            true
        });
        tokio::select! {
            has = has_started.wait_for(|started| *started) => has.is_ok(),
            _ = self.stop.wait_for(Option::is_some) => false,
        }
    }

    fn life(&self, place: Place, container: &Container, policy: Policy) -> Life {
        Life {
            sandbox: self.sandbox.clone(),
            container: container.clone(),
            place,
            policy,
            changes: self.changes.clone(),
            stop: self.stop.clone(),
        }
    }

    fn policy(&self) -> Policy {
        Policy::of(self.sandbox.spec().restart_policy.as_deref())
    }
}
