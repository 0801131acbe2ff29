//! The life of a container: starts, probes, restarts and the end.

use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::BackOff;
use super::launch::{Launch, Waiting};
use super::probe::{self, Kind, News, Target};
use super::process::{Process, code};
use super::sandbox::Sandbox;
use super::status::{Ended, State, View};

/// While a container lacks what it needs.
const RETRY: Duration = Duration::from_millis(500);
/// Between SIGTERM and SIGKILL where a probe ends a container and nobody says otherwise.
pub(super) const GRACE_S: i64 = 30;

/// Which one of the pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Init(usize),
    Main(usize),
}

/// What becomes of a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    pub(super) fn of(name: Option<&str>) -> Self {
        match name {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn again(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// `None` until the pod is to end, then how long that may take.
pub(super) type Stop = watch::Receiver<Option<Duration>>;

pub(super) type Changes = mpsc::UnboundedSender<(Place, View)>;

pub(super) struct Life {
    pub(super) sandbox: Rc<Sandbox>,
    pub(super) container: Container,
    pub(super) place: Place,
    pub(super) policy: Policy,
    pub(super) changes: Changes,
    pub(super) stop: Stop,
}

/// The pauses that are still to come.
#[derive(Debug)]
struct Pauses {
    plan: BackOff,
    next: Duration,
}

impl Pauses {
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= self.plan.forgiven_after {
            self.next = Duration::ZERO;
        }
        let pause = self.next;
        self.next = (pause * 2).clamp(self.plan.first, self.plan.longest);
        pause
    }
}

impl Life {
    /// Until it ends for good. Says whether its last process did what it was to do.
    pub(super) async fn live(mut self) -> bool {
        let mut view = View::of(&self.container);
        let mut pauses = Pauses { plan: self.sandbox.back_off(), next: Duration::ZERO };
        loop {
            let Some(launch) = self.launch(&mut view).await else { return false };
            let start = Instant::now();
            let ended = self.run(launch, &mut view).await;
            let code = ended.code;
            view.state = State::Ended(ended.clone());
            (view.ready, view.started) = (false, false);
            self.tell(&view);
            if self.stopping() || !self.policy.again(code) {
                return code == 0;
            }
            let pause = pauses.after(start.elapsed());
            view.last = Some(ended);
            if !pause.is_zero() && !self.back_off(pause, &mut view).await {
                return false;
            }
            view.restarts += 1;
        }
    }

    /// Waits for what it lacks. `None` where the pod ends before.
    async fn launch(&mut self, view: &mut View) -> Option<Launch> {
        loop {
            match self.sandbox.launch(&self.container).await {
                _ if self.stopping() => return None,
                Ok(launch) => return Some(launch),
                Err(waiting) => self.wait(waiting, view),
            }
            if !self.pause(RETRY).await {
                return None;
            }
        }
    }

    /// Whether it may start again then: else the pod has ended meanwhile, and its status is the last end.
    async fn back_off(&mut self, pause: Duration, view: &mut View) -> bool {
        let ended = std::mem::replace(&mut view.state, View::new().state);
        let message = format!("back-off {pause:?} restarting failed container={}", self.container.name);
        self.wait(Waiting { reason: "CrashLoopBackOff", message }, view);
        let again = self.pause(pause).await;
        if !again {
            view.state = ended;
            self.tell(view);
        }
        again
    }

    fn wait(&self, waiting: Waiting, view: &mut View) {
        let known = matches!(&view.state, State::Waiting(before) if *before == waiting);
        if !known {
            view.state = State::Waiting(waiting);
            self.tell(view);
        }
    }

    /// One process, from its start to its end.
    async fn run(&mut self, launch: Launch, view: &mut View) -> Ended {
        let began = Timestamp::now();
        let mut process = match Process::spawn(&launch, &self.sandbox.log(&self.container)) {
            Ok(process) => process,
            Err(error) => return end(128, "StartError", Some(error.to_string()), began),
        };
        let target = Target { container: self.container.clone(), facts: self.sandbox.facts.clone(), launch };
        let mut probes = Probes::new(target);
        view.state = State::Running { since: began };
        probes.begin(view);
        self.tell(view);
        let why = loop {
            tokio::select! {
                status = process.ended() => return ended(status, None, began),
                _ = self.stop.changed() => break None,
                news = probes.news.recv() => match news {
                    Some(News { kind: Kind::Readiness, verdict }) => view.ready = verdict.is_ok(),
                    Some(News { kind: Kind::Startup, verdict: Ok(()) }) => probes.started(view),
                    Some(News { kind: Kind::Liveness, verdict: Ok(()) }) | None => continue,
                    Some(News { kind, verdict: Err(why) }) => break Some(format!("{kind:?} probe failed: {why}")),
                },
            }
            self.tell(view);
        };
        ended(self.end(process, probes, view).await, why, began)
    }

    /// preStop, SIGTERM, and SIGKILL when the grace is over. It may become shorter meanwhile. Whether it is ready is asked to the end.
    async fn end(&mut self, mut process: Process, probes: Probes, view: &mut View) -> io::Result<ExitStatus> {
        let mut deadline = Instant::now() + self.grace();
        let hook = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone());
        let Probes { target, mut news, running: _running, sender: _sender } = probes;
        // What comes of the hook changes nothing.
        let mut hooked = pin!(async {
            if let Some(hook) = hook {
                let _ = run_hook(&hook, &target).await;
            }
        });
        let mut told = false;
        loop {
            tokio::select! {
                status = process.ended() => return status,
                () = &mut hooked, if !told => {
                    process.terminate();
                    told = true;
                }
                () = sleep_until(deadline) => {
                    process.kill();
                    return process.ended().await;
                }
                Ok(()) = self.stop.changed() => deadline = deadline.min(Instant::now() + self.grace()),
                // What other probes say changes nothing any more; not as a pattern, or this would be heard no longer after the first of them.
                said = news.recv() => if let Some(News { kind: Kind::Readiness, verdict }) = said {
                    view.ready = verdict.is_ok();
                    self.tell(view);
                }
            }
        }
    }

    fn grace(&self) -> Duration {
        let of_pod = self.sandbox.spec().termination_grace_period_seconds.unwrap_or(GRACE_S);
        self.stop.borrow().unwrap_or(Duration::from_secs(of_pod.unsigned_abs()))
    }

    fn stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Whether the pod lives on after it.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = sleep(pause) => true,
            _ = self.stop.wait_for(Option::is_some) => false,
        }
    }

    fn tell(&self, view: &View) {
        // Where nobody listens the pod is gone.
        let _ = self.changes.send((self.place, view.clone()));
    }
}

/// The probes of one process. Dropped, they end.
#[derive(Debug)]
struct Probes {
    target: Target,
    running: JoinSet<()>,
    sender: mpsc::UnboundedSender<News>,
    news: mpsc::UnboundedReceiver<News>,
}

impl Probes {
    fn new(target: Target) -> Self {
        let (sender, news) = mpsc::unbounded_channel();
        Self { target, running: JoinSet::new(), sender, news }
    }

    /// A startup probe holds the others back.
    fn begin(&mut self, view: &mut View) {
        match self.target.container.startup_probe.clone() {
            Some(probe) => self.run(Kind::Startup, probe),
            None => self.started(view),
        }
    }

    fn started(&mut self, view: &mut View) {
        view.started = true;
        view.ready = self.target.container.readiness_probe.is_none();
        let container = &self.target.container;
        let both = [(Kind::Liveness, &container.liveness_probe), (Kind::Readiness, &container.readiness_probe)];
        for (kind, probe) in both.map(|(kind, probe)| (kind, probe.clone())) {
            if let Some(probe) = probe {
                self.run(kind, probe);
            }
        }
    }

    fn run(&mut self, kind: Kind, probe: k8s_openapi::api::core::v1::Probe) {
        self.running.spawn_local(probe::run(kind, probe, self.target.clone(), self.sender.clone()));
    }
}

async fn run_hook(hook: &LifecycleHandler, target: &Target) -> anyhow::Result<()> {
    if let Some(pause) = &hook.sleep {
        sleep(Duration::from_secs(pause.seconds.unsigned_abs())).await;
    }
    if let Some(get) = &hook.http_get {
        probe::http(get, target).await?;
    }
    if let Some(command) = &hook.exec {
        probe::exec(command, target).await?;
    }
    Ok(())
}

fn ended(status: std::io::Result<std::process::ExitStatus>, why: Option<String>, began: Timestamp) -> Ended {
    match status.map(code) {
        Ok(0) => end(0, "Completed", why, began),
        Ok(code) => end(code, "Error", why, began),
        Err(error) => end(128, "Error", Some(error.to_string()), began),
    }
}

fn end(code: i32, reason: &'static str, message: Option<String>, began: Timestamp) -> Ended {
    Ended { code, reason, message, began, at: Timestamp::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_a_long_run_is_forgiven() {
        let mut pauses = Pauses { plan: BackOff::KUBERNETES, next: Duration::ZERO };
        let after = |pauses: &mut Pauses, ran| pauses.after(Duration::from_secs(ran)).as_secs();
        let seconds: Vec<_> = (0..7).map(|_| after(&mut pauses, 1)).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300]);
        assert_eq!(after(&mut pauses, 600), 0);
        assert_eq!(after(&mut pauses, 1), 10);
    }

    #[test]
    fn the_policy_says_which_ends_are_for_good() {
        let again = |name| [0, 1].map(|code| Policy::of(name).again(code));
        assert_eq!(again(None), [true, true]);
        assert_eq!(again(Some("OnFailure")), [false, true]);
        assert_eq!(again(Some("Never")), [false, false]);
    }
}
