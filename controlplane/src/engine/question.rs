//! What is asked of a place, and what its answers mean.

use std::collections::BTreeSet;
use std::time::Duration;

use api::id::ModelName;
use api::snapshot::Engine;
use hyper::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::exposition::Fault;
use super::families::families;
use super::reading::Reading;
use super::scrape::{ScrapeError, get};
use super::targets::{Ask, Place, Topic};
use super::{openai, torchserve, triton};
use crate::world::{Facts, Unready};

/// What a place said.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) load: Option<Reading>,
    pub(super) facts: Option<Facts>,
    /// Why a part of it is missing.
    pub(super) fault: Option<AskError>,
}

/// Why it said nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Scrape(#[from] ScrapeError),
    #[error(transparent)]
    Metrics(#[from] Fault),
    #[error("its answer to {path} is not what is expected there: {error}")]
    Json { path: String, error: serde_json::Error },
    #[error("{management}; and of its metrics: {metrics}")]
    Both { management: Box<AskError>, metrics: Box<AskError> },
    #[error(
        "it answers {0}: TorchServe's management API wants a token, and the control plane has none; start it with \
         disable_token_authorization=true, or it counts as ready and nothing is known of what waits"
    )]
    Token(StatusCode),
    #[error("it has not answered in time")]
    Late,
    /// Of a management API.
    #[error("it was silent before, and is not asked again yet")]
    Spared,
}

/// Asks, for no longer than a time.
pub(super) async fn ask(place: &Place, ask: &Ask, time: Duration) -> Result<Answer, AskError> {
    timeout(time, answer(place, ask, time)).await.unwrap_or(Err(AskError::Late))
}

async fn answer(place: &Place, Ask { models, otherwise, spare }: &Ask, time: Duration) -> Result<Answer, AskError> {
    let address = place.address;
    let facts = match (place.topic, place.engine) {
        (Topic::Metrics, _) => return metrics(place).await,
        (Topic::Models, Engine::Torchserve) => {
            let management = torchserve::ask(address, models);
            let Some(otherwise) = otherwise else { return management.await };
            if *spare {
                return Ok(Answer { fault: Some(AskError::Spared), ..metrics(otherwise).await? });
            }
            // Half of the time: where the API is silent its metrics must have some, too.
            return match timeout(time / 2, management).await.unwrap_or(Err(AskError::Late)) {
                Err(management) => instead(management, otherwise).await,
                answer => answer,
            };
        }
        (Topic::Models, Engine::Triton) => triton::facts(address, models).await?,
        (Topic::Models, engine @ (Engine::Vllm | Engine::Sglang)) => openai::facts(engine, address).await?,
    };
    Ok(Answer { load: None, facts: Some(facts), fault: None })
}

/// TorchServe's management API wants a token by default, its metrics do not.
async fn instead(management: AskError, place: &Place) -> Result<Answer, AskError> {
    match metrics(place).await {
        Ok(answer) => Ok(Answer { fault: Some(management), ..answer }),
        Err(metrics) => Err(AskError::Both { management: management.into(), metrics: metrics.into() }),
    }
}

async fn metrics(place: &Place) -> Result<Answer, AskError> {
    let text = get(place.address, &place.path).await?.ok()?;
    let reading = Reading::of(families(place.engine), &text)?;
    let facts = reading.cache_tokens().map(|tokens| Facts { cache_tokens: Some(tokens), ..Facts::default() });
    Ok(Answer { load: (!reading.is_empty()).then_some(reading), facts, fault: None })
}

/// Reads a document.
pub(super) fn json<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, AskError> {
    serde_json::from_str(text).map_err(|error| AskError::Json { path: path.to_owned(), error })
}

/// An engine that has nothing ready says so of everything, whatever servers call it.
pub(super) fn unready(ready: &BTreeSet<ModelName>, named: &BTreeSet<ModelName>) -> Unready {
    let missing: BTreeSet<ModelName> = named.difference(ready).cloned().collect();
    match (ready.is_empty(), missing.is_empty()) {
        (true, _) => Unready::All,
        (false, true) => Unready::Nothing,
        (false, false) => Unready::Models(missing),
    }
}

#[cfg(test)]
mod tests;
