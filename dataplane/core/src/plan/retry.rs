//! When a failed attempt may be made again elsewhere: only while it is safe, and within the backend's budget.

use std::sync::Arc;
use std::time::Duration;

use api::snapshot::Engine;
use memchr::memmem;

use crate::load::BackendLive;
use crate::table::BackendTable;

/// What the client has seen of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downstream {
    /// Not a byte.
    Untouched,
    /// Something, so that nothing can be taken back.
    Begun,
}

/// What an engine means by an error status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It did not run the request: no worker, a full queue, or a queue in which it waited too long.
    NotRun,
    /// The request was run, or may have been.
    Ran,
    /// The engine has no way to tell.
    Unknown,
}

impl Refusal {
    /// Bytes of an error body that are looked at.
    pub const LOOK_BYTES: usize = 4_096;

    /// Reads the body of a 503. TorchServe tells by `type`, Triton by a text; a Triton model can answer 503 itself, so
    /// an unknown text counts as run.
    pub fn of_503(engine: Engine, body: &[u8]) -> Self {
        let has = |text: &str| memmem::find(&body[..body.len().min(Self::LOOK_BYTES)], text.as_bytes()).is_some();
        match engine {
            Engine::Torchserve if has("ServiceUnavailableException") => Self::NotRun,
            Engine::Triton if has("Exceeds maximum queue size") || has("Request timeout expired") => Self::NotRun,
            Engine::Torchserve | Engine::Triton => Self::Ran,
            Engine::Vllm | Engine::Sglang => Self::Unknown,
        }
    }
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about.
    Connect,
    /// The connection broke before a byte of the answer.
    ResetBeforeAnswer,
    /// It broke within the answer.
    CutAnswer,
    /// The first byte took too long; the engine may still be at work.
    FirstByteTimeout,
    /// The answer is not HTTP.
    Framing,
    /// The engine answered with this status and meant this.
    Status(u16, Refusal),
}

impl Failure {
    /// Whether it says something bad about the endpoint: then it counts for passive health.
    pub fn is_unhealthy(self) -> bool {
        match self {
            Self::Connect | Self::ResetBeforeAnswer | Self::CutAnswer | Self::FirstByteTimeout | Self::Framing => true,
            // A refusal by a full queue is load, not illness; so is what a model's own code says.
            Self::Status(503, refusal) => refusal == Refusal::Unknown,
            Self::Status(status, _) => matches!(status, 502 | 504),
        }
    }
}

/// A failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// How.
    pub failure: Failure,
    /// What the client has seen.
    pub downstream: Downstream,
}

/// What a plan allows.
#[derive(Debug)]
pub struct RetryPolicy {
    /// Attempts that are left.
    pub attempts_left: u8,
    /// Pause before the next.
    pub interval: Duration,
    /// Where no share of the requests may be retries, none is, also none of the first ones.
    forbidden: bool,
    backend: Arc<BackendLive>,
}

impl RetryPolicy {
    pub(super) fn new(backend: &BackendTable) -> Self {
        let retry = &backend.retry;
        Self {
            attempts_left: retry.attempts,
            interval: retry.interval,
            forbidden: retry.budget_percent == 0,
            backend: Arc::clone(&backend.live),
        }
    }

    /// Whether another attempt would be safe: nothing went to the client, and the engine cannot have run the request
    /// to an answer. Never after 500 or 4xx.
    pub fn may_retry(&self, failed: Failed) -> bool {
        if self.attempts_left == 0 || failed.downstream == Downstream::Begun {
            return false;
        }
        match failed.failure {
            Failure::Connect | Failure::ResetBeforeAnswer => true,
            Failure::Status(502 | 504, refusal) => refusal != Refusal::Ran,
            Failure::Status(503, refusal) => refusal != Refusal::Ran,
            Failure::Status(..) | Failure::CutAnswer | Failure::FirstByteTimeout | Failure::Framing => false,
        }
    }

    /// Takes one attempt, from the plan and from the backend's budget; false where that is not allowed.
    pub fn take(&mut self, failed: Failed) -> bool {
        if !self.may_retry(failed) || self.forbidden || !self.backend.spend_retry() {
            return false;
        }
        self.attempts_left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u8) -> RetryPolicy {
        RetryPolicy {
            attempts_left: attempts,
            interval: Duration::ZERO,
            forbidden: false,
            backend: Arc::new(BackendLive::new()),
        }
    }

    fn check(failure: Failure, expected: bool) {
        let failed = Failed { failure, downstream: Downstream::Untouched };
        assert_eq!(policy(1).may_retry(failed), expected, "{failure:?}");
        assert!(!policy(0).may_retry(failed), "none left: {failure:?}");
        assert!(!policy(1).may_retry(Failed { failure, downstream: Downstream::Begun }), "begun: {failure:?}");
    }

    #[test]
    fn repeats_only_what_did_not_run() {
        check(Failure::Connect, true);
        check(Failure::ResetBeforeAnswer, true);
        check(Failure::CutAnswer, false);
        check(Failure::FirstByteTimeout, false);
        check(Failure::Framing, false);
        for status in [502, 503, 504] {
            check(Failure::Status(status, Refusal::Unknown), true);
            check(Failure::Status(status, Refusal::NotRun), true);
            check(Failure::Status(status, Refusal::Ran), false);
        }
        for status in [400, 401, 404, 408, 409, 413, 422, 429, 499, 500, 501, 505, 507] {
            check(Failure::Status(status, Refusal::Unknown), false);
            check(Failure::Status(status, Refusal::NotRun), false);
        }
    }

    #[test]
    fn reads_what_engines_mean_by_503() {
        let check = |engine, body: &str, expected| assert_eq!(Refusal::of_503(engine, body.as_bytes()), expected);
        let no_worker = r#"{"code": 503, "type": "ServiceUnavailableException", "message": "Model \"m\" has no worker to serve inference request."}"#;
        let handler = r#"{"code": 503, "type": "InternalServerException", "message": "Prediction failed"}"#;
        check(Engine::Torchserve, no_worker, Refusal::NotRun);
        check(Engine::Torchserve, handler, Refusal::Ran);
        check(Engine::Torchserve, "", Refusal::Ran);
        check(Engine::Triton, r#"{"error":"[request id: <id_unknown>] Exceeds maximum queue size"}"#, Refusal::NotRun);
        check(Engine::Triton, r#"{"error":"Request timeout expired"}"#, Refusal::NotRun);
        check(Engine::Triton, r#"{"error":"the model says no"}"#, Refusal::Ran);
        check(Engine::Vllm, "", Refusal::Unknown);
        check(Engine::Sglang, "anything", Refusal::Unknown);
    }

    #[test]
    fn the_budget_is_a_share_of_the_requests() {
        let mut retry = policy(255);
        let failed = Failed { failure: Failure::Connect, downstream: Downstream::Untouched };
        let spent = |retry: &mut RetryPolicy| (0..250).take_while(|_| retry.take(failed)).count();
        assert_eq!(spent(&mut retry), 100, "what a fresh backend may");
        (0..50).for_each(|_| retry.backend.earn_retry(20));
        assert_eq!(spent(&mut retry), 10);
    }
}
