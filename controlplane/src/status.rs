//! What became of each object, written into its status by the one control plane that leads.
//!
//! `desired` says what a status ought to say, from verdicts and from what the data planes have acknowledged. `plan` decides
//! what of that is written now and what later, at most 20 times a second in all. `write` reads the object as it is now, and
//! patches its status with server-side apply in that very version. Both halves of being sure to lead are here: the question
//! right before the patch, and the resourceVersion in it. `configuration` keeps what the scheduler's ConfigMap has no status for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance::{jittered, random};
use crate::lease::Leadership;
use crate::peer::Others;
use crate::publish::serve::Progress;
use crate::run::Round;

mod configuration;
mod counts;
mod desired;
mod events;
mod forms;
mod kept;
mod key;
mod pace;
mod plan;
mod reach;
mod says;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use forms::Forms;
pub use forms::{Standing, Standings};

use counts::Counts;
use events::Warnings;
use key::Key;
use plan::{Next, Outcome, Planner, Task};
use reach::Fleet;
use says::Says;
use write::Statuses;

/// Changes are looked at together that come within this time: an answer of each of 500 data planes is 500 changes.
const GATHER: Duration = Duration::from_millis(50);
/// After a list that failed.
const RETRY: Duration = Duration::from_secs(2);
/// Between two looks at all statuses: people and other programs may have written some.
const SWEEP: Duration = Duration::from_secs(300);

/// What is written, and by whom.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The namespaces that are looked after; all where it is empty.
    pub namespaces: Vec<String>,
    /// What events call this process.
    pub instance: String,
}

/// What follows from other parts, as it changes.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The newest build.
    pub rounds: watch::Receiver<Option<Arc<Round>>>,
    /// What this replica's data planes have acknowledged.
    pub progress: watch::Receiver<Arc<Progress>>,
    /// What other replicas' have.
    pub others: watch::Receiver<Arc<Others>>,
    /// Whether this process is the one that writes.
    pub leadership: watch::Receiver<Leadership>,
}

/// Writes statuses and warning events while this process leads, until `stop` or until nothing can change any more. Nothing is
/// begun after that; a write that was on its way is told to nobody.
///
/// Registers its metrics; a registry takes one of these.
pub fn run<F: Future<Output = ()> + Send>(
    client: Client,
    options: Options,
    inputs: Inputs,
    registry: &Registry,
    stop: F,
) -> impl Future<Output = ()> + Send + use<F> {
    let Options { namespaces, instance } = options;
    let counts = Counts::new(registry);
    let (warnings, warning) = Warnings::new(client.clone(), instance, counts.clone());
    let configuration = configuration::run(client.clone(), inputs.rounds.clone(), inputs.leadership.clone());
    let writer = Writer { statuses: Statuses::new(client, namespaces), warnings, counts };
    async move {
        tokio::select! {
            () = async { tokio::join!(writer.run(inputs), configuration); } => {}
            () = warning => {}
            () = stop => {}
        }
    }
}

/// A time in which nobody else writes.
#[derive(Debug, Clone)]
struct Term {
    number: u64,
    leadership: watch::Receiver<Leadership>,
}

impl Term {
    fn lasts(&self) -> bool {
        self.leadership.borrow().term(Instant::now()) == Some(self.number)
    }
}

/// The other parts have ended.
struct Ended;

/// What was under way.
enum Done {
    Task(Box<Task>, Outcome, Option<ObjectReference>),
    Sweep(Result<HashMap<Key, Says>, String>),
}

struct Writer {
    statuses: Statuses,
    warnings: Warnings,
    counts: Counts,
}

impl Writer {
    async fn run(&self, mut inputs: Inputs) {
        while let Some(term) = elected(&mut inputs.leadership).await {
            let served = self.serve(&term, &mut inputs).await;
            self.counts.behind(0);
            if served.is_err() {
                return;
            }
        }
    }

    /// While the term lasts.
    async fn serve(&self, term: &Term, inputs: &mut Inputs) -> Result<(), Ended> {
        let Some(mut planner) = self.begin(term).await else { return Ok(()) };
        // Dropped with the term: what is on its way then has the resourceVersion that it read.
        let mut under_way = JoinSet::new();
        sweep(&mut under_way, &self.statuses);
        while term.lasts() {
            self.observe(&mut planner, inputs);
            let wake = self.start(&mut planner, &mut under_way, term);
            tokio::select! {
                () = sleep_until(wake.unwrap_or_else(|| Instant::now() + RETRY)) => {}
                Some(done) = under_way.join_next() => match done {
                    Ok(Done::Task(task, outcome, object)) => self.done(&mut planner, &task, &outcome, object, term),
                    Ok(Done::Sweep(found)) => {
                        match found {
                            Ok(found) => planner.found(found),
                            Err(error) => tracing::warn!("cannot list objects: {error}"),
                        }
                        sweep(&mut under_way, &self.statuses);
                    }
                    Err(error) => tracing::error!(%error, "a write of a status ended badly"),
                },
                changed = changed(inputs) => changed?,
            }
        }
        tracing::info!(term = term.number, "writes no status any more");
        Ok(())
    }

    /// With what all statuses say; none where the term ends before that is known.
    async fn begin(&self, term: &Term) -> Option<Planner> {
        while term.lasts() {
            match self.statuses.list().await {
                Ok(listed) => {
                    tracing::info!(term = term.number, statuses = listed.len(), "writes status");
                    return Some(Planner::new(listed, Instant::now()));
                }
                Err(error) => tracing::warn!("cannot list objects, so their status is not written: {error}"),
            }
            sleep(jittered(RETRY, random())).await;
        }
        None
    }

    fn observe(&self, planner: &mut Planner, inputs: &mut Inputs) {
        let own = inputs.progress.borrow_and_update().clone();
        let others = inputs.others.borrow_and_update().clone();
        let round = inputs.rounds.borrow_and_update().clone();
        if let Some(round) = round {
            planner.observe(&round, &Fleet { own, others }, Instant::now());
        }
        self.counts.behind(planner.behind());
    }

    /// Starts what is due; when the next one is.
    fn start(&self, planner: &mut Planner, under_way: &mut JoinSet<Done>, term: &Term) -> Option<Instant> {
        loop {
            match planner.next(Instant::now()) {
                Next::Wait(until) => return until,
                Next::Write(task) => {
                    let (statuses, term) = (self.statuses.clone(), term.clone());
                    under_way.spawn(async move {
                        let (outcome, object) = statuses.write(&task, || term.lasts()).await;
                        Done::Task(task, outcome, object)
                    });
                }
            }
        }
    }

    fn done(
        &self,
        planner: &mut Planner,
        task: &Task,
        outcome: &Outcome,
        object: Option<ObjectReference>,
        term: &Term,
    ) {
        self.counts.wrote(outcome);
        if let Some(object) = object {
            self.warnings.tell(&object, task.said.as_ref(), &task.wanted, term);
        }
        planner.done(task, outcome, Instant::now(), random());
    }
}

/// Waits until this process leads; none where nobody can tell any more.
async fn elected(leadership: &mut watch::Receiver<Leadership>) -> Option<Term> {
    loop {
        let told = leadership.borrow_and_update().term(Instant::now());
        if let Some(number) = told {
            return Some(Term { number, leadership: leadership.clone() });
        }
        leadership.changed().await.ok()?;
    }
}

/// Looks at all statuses after a while.
fn sweep(under_way: &mut JoinSet<Done>, statuses: &Statuses) {
    let statuses = statuses.clone();
    under_way.spawn(async move {
        sleep(jittered(SWEEP, random())).await;
        Done::Sweep(statuses.list().await)
    });
}

async fn changed(inputs: &mut Inputs) -> Result<(), Ended> {
    let changed = tokio::select! {
        changed = inputs.rounds.changed() => changed,
        changed = inputs.progress.changed() => changed,
        changed = inputs.others.changed() => changed,
        changed = inputs.leadership.changed() => changed,
    };
    changed.map_err(|_| Ended)?;
    sleep(GATHER).await;
    Ok(())
}
