//! `kthena-controlplane wait`: until the pods of a DaemonSet are ready on all its nodes. The chart runs it before an uninstall, as what its pods do on
//! the nodes has to be done before helm takes them away.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout_at};

use crate::crd::duration;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `wait`, as typed.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// The namespace.
    #[arg(long)]
    namespace: String,
    /// The DaemonSet.
    #[arg(long)]
    daemonset: String,
    /// For how long.
    #[arg(long, default_value = "2m", value_parser = length)]
    at_most: Duration,
    /// Ends with 0 also where pods are missing at the end: a node that is away holds up nobody.
    #[arg(long)]
    lenient: bool,
}

fn length(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text).ok_or("write it as 90s or 2m")
}

/// On how many nodes of how many its pods are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    ready: i32,
    wanted: i32,
}

impl Progress {
    /// None before the DaemonSet's controller has seen it.
    fn of(daemonset: &DaemonSet) -> Option<Self> {
        let status = daemonset.status.as_ref()?;
        let seen = status.observed_generation >= daemonset.metadata.generation;
        seen.then_some(Self { ready: status.number_ready, wanted: status.desired_number_scheduled })
    }

    fn is_done(self) -> bool {
        self.ready >= self.wanted
    }
}

impl Wait {
    /// Does it, and says how it ended; the error is a sentence.
    pub fn run(&self) -> Result<ExitCode, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
        Ok(runtime.block_on(self.wait()).unwrap_or_else(|sentence| {
            eprintln!("kthena-controlplane: {sentence}");
            ExitCode::FAILURE
        }))
    }

    async fn wait(&self) -> Result<ExitCode, String> {
        let client = Client::try_default().await.map_err(|error| format!("no cluster: {error}"))?;
        let daemonsets = Api::<DaemonSet>::namespaced(client, &self.namespace);
        let deadline = Instant::now() + self.at_most;
        loop {
            // An API server that hangs must not hold it up for longer.
            let looked = timeout_at(deadline, daemonsets.get(&self.daemonset)).await;
            let looked = looked.map_err(|_| "no answer".to_owned());
            let looked = looked.and_then(|answer| answer.map_err(|error| error.to_string()));
            let progress = looked.as_ref().ok().and_then(Progress::of);
            if let Some(progress) = progress.filter(|progress| progress.is_done()) {
                println!("DaemonSet {}: ready on {} nodes", self.daemonset, progress.wanted);
                return Ok(ExitCode::SUCCESS);
            }
            if Instant::now() >= deadline {
                looked.map_err(|why| format!("DaemonSet {}: {why}", self.daemonset))?;
                return Ok(self.late(progress));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn late(&self, progress: Option<Progress>) -> ExitCode {
        let ready = match progress {
            Some(Progress { ready, wanted }) => {
                format!("ready on {ready} of {wanted} nodes; what its pods do is not done on the others")
            }
            None => "not seen by its controller; what its pods do is done nowhere".to_owned(),
        };
        println!("DaemonSet {}: after {:?} {ready}", self.daemonset, self.at_most);
        if self.lenient { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_done_when_its_controller_has_seen_it_and_every_node_has_a_ready_pod() {
        let check = |status: serde_json::Value, expected: Option<bool>| {
            let text = status.to_string();
            let object =
                json!({"metadata": {"generation": 2}, "spec": {"selector": {}, "template": {}}, "status": status});
            let daemonset: DaemonSet = serde_json::from_value(object).unwrap();
            assert_eq!(Progress::of(&daemonset).map(Progress::is_done), expected, "{text}");
        };
        let counts = |observed: u64, wanted: u64, ready: u64| {
            json!({"observedGeneration": observed, "desiredNumberScheduled": wanted, "numberReady": ready,
                "currentNumberScheduled": wanted, "numberMisscheduled": 0})
        };
        check(json!(null), None);
        check(counts(1, 3, 3), None);
        check(counts(2, 3, 2), Some(false));
        check(counts(2, 3, 3), Some(true));
        check(counts(2, 0, 0), Some(true));
    }
}
