//! Plays the model in real time: a submission is stamped with the clock, events reach the waiting requests when their
//! virtual time has come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::kv::{Changed, Feed, Prompt};
use super::metrics::Observed;
use super::model::{CacheChange, Event, EventKind, Job, JobId, LoadStat, Micros, Model, ModelConfig, Refused, Totals};

/// How far a request has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Tokens of the prompt that were cached when its prefill began.
    pub(crate) cached: u32,
    pub(crate) tokens: u32,
    pub(crate) finished: bool,
}

/// The model behind the clock; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    model: Model,
    requests: HashMap<JobId, Tracked>,
    events: Vec<Event>,
    observed: Observed,
    /// Where the cache's changes are published.
    feed: Option<Feed>,
}

#[derive(Debug)]
struct Tracked {
    progress: watch::Sender<Progress>,
    prompt: Prompt,
    prompt_tokens: u32,
    arrived: Micros,
    prefilling: Option<Micros>,
    last_token: Micros,
}

/// A submitted request; dropped before its end, the model forgets it.
#[derive(Debug)]
pub(crate) struct Ticket {
    jobs: Jobs,
    id: JobId,
    pub(crate) progress: watch::Receiver<Progress>,
}

/// What `/metrics` shows of the model.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) totals: Totals,
    pub(crate) observed: Observed,
    pub(crate) running_loras: Vec<Arc<str>>,
    pub(crate) waiting_loras: Vec<Arc<str>>,
}

/// Starts the task that plays the model.
pub(crate) fn start(config: ModelConfig, feed: Option<Feed>) -> (Jobs, JoinHandle<()>) {
    let mut model = Model::new(config);
    if feed.is_some() {
        model.record_changes();
    }
    let state = State { model, requests: HashMap::new(), events: Vec::new(), observed: Observed::default(), feed };
    let inner = Inner { started: Instant::now(), state: Mutex::new(state), wake: Notify::new() };
    let jobs = Jobs(Arc::new(inner));
    let driver = tokio::spawn(jobs.clone().drive());
    (jobs, driver)
}

impl Jobs {
    /// Queues a request now.
    pub(crate) fn submit(&self, job: Job, prompt: Prompt) -> Result<Ticket, Refused> {
        let mut state = self.lock();
        // The clock is read under the lock, so that time never goes back in the model.
        let now = self.now();
        state.pump(now);
        let prompt_tokens = job.prompt_tokens;
        let id = state.model.submit(now, job).inspect_err(|_| state.observed.rejected += 1)?;
        let (progress, receiver) = watch::channel(Progress::default());
        let tracked = Tracked { progress, prompt, prompt_tokens, arrived: now, prefilling: None, last_token: now };
        state.requests.insert(id, tracked);
        drop(state);
        self.0.wake.notify_one();
        Ok(Ticket { jobs: self.clone(), id, progress: receiver })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().model.totals()
    }

    pub(crate) fn load(&self) -> LoadStat {
        self.lock().model.load()
    }

    pub(crate) fn reset_cache(&self) {
        let mut state = self.lock();
        state.model.reset_cache();
        state.publish();
    }

    /// Loses the cache and tells nobody, as a process that is restarted does. Requests that run keep what they need.
    pub(crate) fn lose_cache(&self) {
        let mut state = self.lock();
        state.model.reset_cache();
        let _untold = state.model.take_changes();
    }

    pub(crate) fn cached(&self) -> Vec<u64> {
        self.lock().model.cached().collect()
    }

    pub(crate) fn read(&self) -> Reading {
        let state = self.lock();
        let loras = |running: bool| {
            let mut names: Vec<_> = state
                .requests
                .values()
                .filter(|request| request.prefilling.is_some() == running)
                .filter_map(|request| request.prompt.lora.clone())
                .collect();
            names.sort();
            names.dedup();
            names
        };
        Reading {
            totals: state.model.totals(),
            observed: state.observed.clone(),
            running_loras: loras(true),
            waiting_loras: loras(false),
        }
    }

    fn cancel(&self, id: JobId) {
        let mut state = self.lock();
        let now = self.now();
        state.pump(now);
        if state.requests.remove(&id).is_some() && state.model.cancel(now, id) {
            state.observed.aborted += 1;
            drop(state);
            self.0.wake.notify_one();
        }
    }

    async fn drive(self) {
        loop {
            let next = {
                let mut state = self.lock();
                let now = self.now();
                state.pump(now);
                state.model.next_event()
            };
            match next {
                None => self.0.wake.notified().await,
                Some(at) => {
                    let due = self.0.started + Duration::from_micros(at);
                    tokio::select! {
                        () = self.0.wake.notified() => {}
                        () = tokio::time::sleep_until(due.into()) => {}
                    }
                }
            }
        }
    }

    fn now(&self) -> Micros {
        u64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.progress.borrow().finished {
            self.jobs.cancel(self.id);
        }
    }
}

impl State {
    fn pump(&mut self, now: Micros) {
        let mut events = std::mem::take(&mut self.events);
        self.model.advance(now, &mut events);
        // Before anything is forgotten of requests that have ended.
        self.publish();
        for event in events.drain(..) {
            self.apply(event);
        }
        self.events = events;
    }

    /// One message for all that changed in a step, as an engine's scheduler makes it.
    fn publish(&mut self) {
        let changes = self.model.take_changes();
        let (Some(feed), false) = (&self.feed, changes.is_empty()) else { return };
        let changed = changes.into_iter().filter_map(|change| match change {
            CacheChange::Stored { job, chain, from, count } => {
                let prompt = &self.requests.get(&job)?.prompt;
                Some(Changed::stored(prompt, &chain, from, count))
            }
            CacheChange::Removed(hash) => Some(Changed::Removed(hash)),
            CacheChange::Cleared => Some(Changed::Cleared),
        });
        feed.publish(changed.collect());
    }

    fn apply(&mut self, Event { at, job, kind }: Event) {
        let Some(request) = self.requests.get_mut(&job) else { return };
        match kind {
            EventKind::Started { hit_tokens } => {
                request.prefilling = Some(at);
                request.progress.send_modify(|progress| progress.cached = hit_tokens);
                self.observed.queue_time.add(seconds(at - request.arrived));
            }
            EventKind::Token => {
                let tokens = request.progress.borrow().tokens;
                let waited = seconds(at - request.last_token);
                if tokens == 0 {
                    self.observed.prompt_tokens += u64::from(request.prompt_tokens);
                    self.observed.ttft.add(waited);
                } else {
                    self.observed.gaps.add(waited);
                }
                request.last_token = at;
                request.progress.send_modify(|progress| progress.tokens += 1);
            }
            EventKind::Finished => {
                self.observed.finished += 1;
                self.observed.duration.add(seconds(at - request.arrived));
                request.progress.send_modify(|progress| progress.finished = true);
                self.requests.remove(&job);
            }
        }
    }
}

fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}
