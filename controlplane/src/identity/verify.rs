//! The verdict on a token that came with a subscription.

use std::sync::Arc;
use std::time::Duration;

use api::proto::Subscribe;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::asked::{Answer, Asked};
use super::claims::Claims;
use super::token::Token;
use super::{Moment, Options, Refusal};
use crate::publish::serve::{Identify, Identity};

/// For the API server to be asked again because of a key that is not known. Data planes wait for 5 s to be welcomed.
const ASKING_TIME: Duration = Duration::from_secs(2);

/// Verifies the tokens that data planes show.
#[derive(Debug)]
pub struct Proofs {
    options: Options,
    asked: watch::Receiver<Asked>,
    /// Asks the API server again.
    again: Arc<Notify>,
}

impl Proofs {
    /// By what is asked elsewhere, which is asked again on `again`; see [`super::keep`], which does both.
    pub fn new(options: Options, asked: watch::Receiver<Asked>, again: Arc<Notify>) -> Self {
        Self { options, asked, again }
    }

    async fn prove(&self, metadata: &MetadataMap) -> Result<Identity, Status> {
        let token = bearer(metadata).map_err(unauthenticated)?;
        let asked = self.asked.borrow().clone();
        let verdict = self.verdict(token, &asked);
        if !verdict.as_ref().is_err_and(Unproved::may_change) {
            return verdict.map_err(Unproved::status);
        }
        self.again.notify_one();
        let mut news = self.asked.clone();
        let answer = timeout(ASKING_TIME, news.wait_for(|now| now.times() > asked.times())).await;
        let now = match answer {
            Ok(Ok(now)) => now.clone(),
            // Asked too often, or nobody asks any more: what was known before has to do.
            _ => asked,
        };
        self.verdict(token, &now).map_err(Unproved::status)
    }

    fn verdict(&self, token: &str, asked: &Asked) -> Result<Identity, Unproved> {
        let answer = asked.answer().ok_or(Unproved::NothingKnown)?;
        verify(token, answer, &self.options, self.options.clock.now()).map_err(Unproved::Refused)
    }
}

enum Unproved {
    NothingKnown,
    Refused(Refusal),
}

impl Unproved {
    /// Keys are replaced and accounts made anew, of which the API server has perhaps not told yet.
    fn may_change(&self) -> bool {
        matches!(self, Self::NothingKnown | Self::Refused(Refusal::UnknownKey | Refusal::AccountGone))
    }

    fn status(self) -> Status {
        match self {
            Self::NothingKnown => {
                Status::unavailable("no token can be verified until the API server has told its keys; try again")
            }
            Self::Refused(refusal) => unauthenticated(refusal),
        }
    }
}

fn unauthenticated(refusal: Refusal) -> Status {
    Status::unauthenticated(refusal.to_string())
}

impl Identify for Proofs {
    fn identify<'a>(&'a self, metadata: &'a MetadataMap, _: &'a Subscribe) -> BoxFuture<'a, Result<Identity, Status>> {
        Box::pin(self.prove(metadata))
    }

    fn asked(&self) -> Option<watch::Receiver<Asked>> {
        Some(self.asked.clone())
    }
}

/// The one token of a call.
fn bearer(metadata: &MetadataMap) -> Result<&str, Refusal> {
    let mut values = metadata.get_all("authorization").iter();
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Several);
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Refusal::NoToken)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Refusal::NoToken) }
}

/// Whose token it is. Pure.
pub(super) fn verify(text: &str, answer: &Answer, options: &Options, now: Moment) -> Result<Identity, Refusal> {
    let token = Token::read(text)?;
    answer.known.keys.verify(&token)?;
    Claims::read(&token.claims)?.identity(answer, options, now)
}
