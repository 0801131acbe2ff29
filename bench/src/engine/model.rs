//! The engine in virtual time: a FIFO queue, one prefill lane, limited decode slots and a prefix cache. Pure: the
//! caller says what time it is (µs), so the same code runs in a simulation and behind the HTTP server.

pub mod cache;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cache::Cache;

/// Microseconds since the engine started.
pub type Micros = u64;

/// Names a submitted job; never reused.
pub type JobId = u64;

/// How tokens of running streams are paced after the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All streams emit on one grid with this step, as a batched engine does.
    Batch(Micros),
    /// Each stream emits at this gap from its own first token.
    Stream(Micros),
}

impl Pace {
    fn next_after(self, now: Micros) -> Micros {
        match self {
            Self::Batch(step) => (now / step.max(1) + 1) * step.max(1),
            Self::Stream(gap) => now + gap.max(1),
        }
    }
}

/// Size and speed of the modelled engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Prefix cache capacity in blocks of [`crate::engine::text::BLOCK_TOKENS`] tokens.
    pub cache_blocks: usize,
    /// Uncached prompt tokens computed per second; prefills run one at a time.
    pub prefill_tokens_per_s: u64,
    /// Requests that may be in prefill or decode at once.
    pub max_num_seqs: usize,
    /// Requests that may wait; beyond it a submission is refused.
    pub max_queue: usize,
    /// Token pacing.
    pub pace: Pace,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            cache_blocks: 25_000,
            prefill_tokens_per_s: 20_000,
            max_num_seqs: 256,
            max_queue: 10_000,
            pace: Pace::Batch(20_000),
        }
    }
}

/// A request as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Chained hashes of the prompt's full blocks.
    pub blocks: Box<[u64]>,
    /// Prompt length in tokens.
    pub prompt_tokens: u32,
    /// Tokens to generate, at least 1.
    pub output_tokens: u32,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("queue full")]
    QueueFull,
    /// The prompt can never fit the cache.
    #[error("prompt larger than the KV cache")]
    TooLong,
}

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Prefill began; this many prompt tokens came from the cache.
    Started {
        /// Cached prompt tokens.
        hit_tokens: u32,
    },
    /// One token was emitted; the first one ends the prefill.
    Token,
    /// The last token was emitted.
    Finished,
}

/// An event at its virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub at: Micros,
    /// To whom.
    pub job: JobId,
    /// What.
    pub kind: EventKind,
}

/// Running totals and gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Prompt tokens looked up in the prefix cache.
    pub query_tokens: u64,
    /// Prompt tokens found there.
    pub hit_tokens: u64,
    /// Tokens emitted.
    pub output_tokens: u64,
    /// Requests in prefill or decode.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Blocks pinned by running requests.
    pub pinned_blocks: usize,
    /// Blocks cached, pinned or not.
    pub cached_blocks: usize,
}

/// What SGLang pushes of its load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadStat {
    /// Requests in prefill or decode.
    pub running: u64,
    /// Requests that wait.
    pub waiting: u64,
    /// Tokens that running requests hold in the cache.
    pub used_tokens: u64,
    /// Prompt tokens of waiting requests that are not cached.
    pub waiting_uncached_tokens: u64,
    /// Uncached tokens of all prefills that have begun.
    pub prefilled_tokens: u64,
    /// The time that these take in all.
    pub prefill_busy_us: u64,
}

/// A change of the cache's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheChange {
    /// Blocks of a job's prompt were added: those of its chain from this place on, so many.
    Stored {
        /// Whose prompt.
        job: JobId,
        /// All of its blocks.
        chain: Box<[u64]>,
        /// The first one's place.
        from: usize,
        /// How many.
        count: usize,
    },
    /// A block was dropped.
    Removed(u64),
    /// All were dropped.
    Cleared,
}

#[derive(Debug)]
struct Waiting {
    id: JobId,
    job: Job,
}

#[derive(Debug)]
struct Prefill {
    id: JobId,
    job: Job,
    hit_blocks: usize,
    ends: Micros,
}

#[derive(Debug)]
struct Decode {
    blocks: Box<[u64]>,
    left: u32,
}

/// The engine model. Time never goes back: `now` of each call is at least that of the call before.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    cache: Cache,
    queue: VecDeque<Waiting>,
    prefill: Option<Prefill>,
    decode: BTreeMap<JobId, Decode>,
    /// Next emission of each decoding job, in time order.
    due: BTreeSet<(Micros, JobId)>,
    due_of: BTreeMap<JobId, Micros>,
    next_id: JobId,
    totals: Totals,
    /// Uncached tokens of the prefills that have begun, and the time that they take.
    prefilled: (u64, Micros),
    /// Until when virtual time has been played.
    clock: Micros,
    /// Changes of the cache since they were last asked for; none while nobody asks.
    changes: Option<Vec<CacheChange>>,
}

impl Model {
    /// An idle engine at time 0.
    pub fn new(config: ModelConfig) -> Self {
        let cache = Cache::new(config.cache_blocks);
        Self {
            config,
            cache,
            queue: VecDeque::new(),
            prefill: None,
            decode: BTreeMap::new(),
            due: BTreeSet::new(),
            due_of: BTreeMap::new(),
            next_id: 0,
            totals: Totals::default(),
            prefilled: (0, 0),
            clock: 0,
            changes: None,
        }
    }

    /// The cache's changes are written down from now on, for [`Self::take_changes`].
    pub fn record_changes(&mut self) {
        self.cache.record();
        self.changes = Some(Vec::new());
    }

    /// What changed since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<CacheChange> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The cached blocks, in no order.
    pub fn cached(&self) -> impl Iterator<Item = u64> + '_ {
        self.cache.hashes()
    }

    /// Queues a job at `now`; events up to `now` must have been taken with [`Self::advance`].
    pub fn submit(&mut self, now: Micros, job: Job) -> Result<JobId, Refused> {
        if job.blocks.len() > self.config.cache_blocks {
            return Err(Refused::TooLong);
        }
        if self.queue.len() >= self.config.max_queue {
            return Err(Refused::QueueFull);
        }
        self.clock = self.clock.max(now);
        let id = self.next_id;
        self.next_id += 1;
        self.queue.push_back(Waiting { id, job });
        Ok(id)
    }

    /// Drops a job wherever it is and unpins its blocks. False when it is already gone.
    pub fn cancel(&mut self, now: Micros, id: JobId) -> bool {
        self.clock = self.clock.max(now);
        if let Some(at) = self.queue.iter().position(|waiting| waiting.id == id) {
            self.queue.remove(at);
            return true;
        }
        if let Some(prefill) = self.prefill.take_if(|prefill| prefill.id == id) {
            self.cache.unpin(&prefill.job.blocks[..prefill.hit_blocks]);
            self.cache.unreserve(prefill.job.blocks.len() - prefill.hit_blocks);
            return true;
        }
        self.end_decode(id)
    }

    /// When [`Self::advance`] will next have something to do; `None` while nothing waits or runs.
    pub fn next_event(&self) -> Option<Micros> {
        if self.startable() {
            return Some(self.clock);
        }
        let emission = self.due.first().map(|(at, _)| *at);
        let prefill = self.prefill.as_ref().map(|prefill| prefill.ends);
        emission.into_iter().chain(prefill).min()
    }

    /// Plays everything that happens up to and including `now` and appends it to `out` in time order.
    pub fn advance(&mut self, now: Micros, out: &mut Vec<Event>) {
        while let Some(at) = self.next_event().filter(|at| *at <= now) {
            self.clock = self.clock.max(at);
            if self.startable() {
                self.start_prefill(out);
            } else if self.prefill.as_ref().is_some_and(|prefill| prefill.ends <= at) {
                self.end_prefill(out);
            } else {
                self.emit(out);
            }
        }
        self.clock = self.clock.max(now);
    }

    /// Totals and gauges.
    pub fn totals(&self) -> Totals {
        Totals {
            running: self.decode.len() + usize::from(self.prefill.is_some()),
            waiting: self.queue.len(),
            pinned_blocks: self.cache.pinned() + self.cache.reserved(),
            cached_blocks: self.cache.len(),
            ..self.totals
        }
    }

    /// The load as SGLang pushes it.
    pub fn load(&self) -> LoadStat {
        let Totals { running, waiting, pinned_blocks, .. } = self.totals();
        let block = u64::from(super::text::BLOCK_TOKENS);
        let uncached = |Waiting { job, .. }: &Waiting| {
            u64::from(job.prompt_tokens).saturating_sub(self.cache.matched(&job.blocks) as u64 * block)
        };
        LoadStat {
            running: running as u64,
            waiting: waiting as u64,
            used_tokens: pinned_blocks as u64 * block,
            waiting_uncached_tokens: self.queue.iter().map(uncached).sum(),
            prefilled_tokens: self.prefilled.0,
            prefill_busy_us: self.prefilled.1,
        }
    }

    /// Forgets every unpinned block.
    pub fn reset_cache(&mut self) {
        self.cache.clear_unpinned();
        if self.cache.is_empty() {
            // One event says it all.
            self.cache.take_dropped();
            self.changes.iter_mut().for_each(|changes| changes.push(CacheChange::Cleared));
        }
        self.note_dropped();
    }

    fn note_dropped(&mut self) {
        let dropped = self.cache.take_dropped().into_iter().map(CacheChange::Removed);
        self.changes.iter_mut().for_each(|changes| changes.extend(dropped.clone()));
    }

    /// Each run of blocks of this chain that is not cached yet is one store.
    fn note_stored(&mut self, job: JobId, chain: &[u64], from: usize) {
        let Some(changes) = &mut self.changes else { return };
        let mut at = from;
        while at < chain.len() {
            let count = chain[at..].iter().take_while(|hash| !self.cache.contains(**hash)).count();
            if count > 0 {
                changes.push(CacheChange::Stored { job, chain: chain.into(), from: at, count });
            }
            at += count.max(1);
        }
    }

    fn startable(&self) -> bool {
        let Some(head) = self.queue.front() else { return false };
        self.prefill.is_none() && self.decode.len() < self.config.max_num_seqs && self.cache.fits(&head.job.blocks)
    }

    fn start_prefill(&mut self, out: &mut Vec<Event>) {
        let Waiting { id, job } = self.queue.pop_front().expect("startable saw the head");
        // At least one token is always computed, else there would be no logits to sample from.
        let reusable = (job.prompt_tokens.saturating_sub(1) / super::text::BLOCK_TOKENS) as usize;
        let hit_blocks = self.cache.matched(&job.blocks[..reusable.min(job.blocks.len())]);
        self.cache.pin(&job.blocks[..hit_blocks]);
        self.cache.reserve(job.blocks.len() - hit_blocks);
        self.note_dropped();
        let hit_tokens = hit_blocks as u32 * super::text::BLOCK_TOKENS;
        self.totals.query_tokens += u64::from(job.prompt_tokens);
        self.totals.hit_tokens += u64::from(hit_tokens);
        let uncached = u64::from(job.prompt_tokens - hit_tokens);
        let ends = self.clock + (uncached * 1_000_000).div_ceil(self.config.prefill_tokens_per_s.max(1));
        self.prefilled = (self.prefilled.0 + uncached, self.prefilled.1 + ends - self.clock);
        out.push(Event { at: self.clock, job: id, kind: EventKind::Started { hit_tokens } });
        self.prefill = Some(Prefill { id, job, hit_blocks, ends });
    }

    fn end_prefill(&mut self, out: &mut Vec<Event>) {
        let Prefill { id, job, hit_blocks, ends } = self.prefill.take().expect("the caller saw it");
        self.cache.unreserve(job.blocks.len() - hit_blocks);
        self.note_stored(id, &job.blocks, hit_blocks);
        self.cache.insert_pinned(&job.blocks, hit_blocks);
        self.decode.insert(id, Decode { blocks: job.blocks, left: job.output_tokens.max(1) });
        self.token(ends, id, out);
    }

    fn emit(&mut self, out: &mut Vec<Event>) {
        let (at, id) = self.due.pop_first().expect("next_event saw it");
        self.due_of.remove(&id);
        self.token(at, id, out);
    }

    fn token(&mut self, at: Micros, id: JobId, out: &mut Vec<Event>) {
        let decode = self.decode.get_mut(&id).expect("due jobs are decoding");
        decode.left -= 1;
        let left = decode.left;
        self.totals.output_tokens += 1;
        out.push(Event { at, job: id, kind: EventKind::Token });
        if left == 0 {
            self.end_decode(id);
            out.push(Event { at, job: id, kind: EventKind::Finished });
            return;
        }
        let next = self.config.pace.next_after(at);
        self.due.insert((next, id));
        self.due_of.insert(id, next);
    }

    fn end_decode(&mut self, id: JobId) -> bool {
        let Some(decode) = self.decode.remove(&id) else { return false };
        if let Some(at) = self.due_of.remove(&id) {
            self.due.remove(&(at, id));
        }
        self.cache.unpin(&decode.blocks);
        true
    }
}
