//! One list of the API server, kept current: read once, then watched from there. A watch that ends goes on where it was, and
//! where the server no longer knows that place the list is read again and put in the place of what was held, as a whole, so
//! that nothing is gone in between. kube's own watcher does as much but does not say how old a list is, and so cannot tell
//! what was deleted from what an older answer does not have yet.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status, WatchEvent};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::list::{List, News, Over};
use super::pause::Pause;
use super::version::Newest;
use crate::metrics::Watches;
use crate::refusal::retry_after;

/// The server ends a watch after so long, and says before how far it has come,
const WATCH: u32 = 60;
/// so that a connection that says nothing for longer is dead.
const SILENCE: Duration = Duration::from_secs(75);
/// A watch that lasted for so long was one: only then failures count anew, so that no answer whatever makes this loop spin.
const STEADY: Duration = Duration::from_secs(1);
/// For one page.
const ANSWER: Duration = Duration::from_secs(30);

/// Keeps one list current.
pub(crate) struct Follower<L> {
    client: Client,
    list: L,
    counts: Arc<Watches>,
    newest: Newest,
    pause: Pause,
    /// Before a list is read again because the watch has fallen behind. It is apart, for whoever says so is there: after an hour of
    /// failures it need not be waited for once more.
    behind: Pause,
    fails: bool,
}

/// Why an answer was of no use.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", .0.message)]
    Said(Box<Status>),
    #[error(transparent)]
    Client(Box<Error>),
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the list is older ({0}) than what was read before")]
    Older(String),
    #[error(transparent)]
    Over(#[from] Over),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => Self::Said(status),
            error => Self::Client(Box::new(error)),
        }
    }
}

impl Failure {
    fn code(&self) -> u16 {
        if let Self::Said(status) = self { status.code } else { 0 }
    }

    /// The place in the list from which the watch was to go on is no longer known.
    fn is_gone(&self) -> bool {
        self.code() == 410
    }

    /// How long the server asks to be left alone.
    fn asked(&self) -> Option<Duration> {
        if let Self::Said(status) = self { retry_after(status) } else { None }
    }
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    r#continue: Option<String>,
}

impl<L: List> Follower<L> {
    pub(crate) fn new(client: Client, list: L, counts: Arc<Watches>) -> Self {
        let (newest, pause, behind) = (Newest::default(), Pause::default(), Pause::default());
        Self { client, list, counts, newest, pause, behind, fails: false }
    }

    /// Until nobody listens.
    pub(crate) async fn run(mut self) {
        loop {
            let mut at = match self.read().await {
                Ok(version) => version,
                Err(Failure::Over(Over)) => return,
                Err(failure) => {
                    self.fail(&failure).await;
                    continue;
                }
            };
            loop {
                let begin = Instant::now();
                let ended = self.watch(&mut at).await;
                let steady = begin.elapsed() >= STEADY;
                if steady {
                    self.pause.reset();
                    self.behind.reset();
                }
                match ended {
                    Ok(()) if steady => {}
                    Ok(()) => sleep(self.pause.next(None)).await,
                    Err(Failure::Over(Over)) => return,
                    Err(failure) if failure.is_gone() => {
                        tracing::info!(list = %self.list, "the watch has fallen behind: the list is read again");
                        sleep(self.behind.next(failure.asked())).await;
                        break;
                    }
                    Err(failure) => self.fail(&failure).await,
                }
            }
        }
    }

    /// Reads it, and does not follow it.
    pub(crate) async fn once(mut self) {
        if let Err(failure) = self.read().await {
            let news = self.failed(&failure);
            // Only ever an error where nobody listens.
            let _ = self.list.tell(news).await;
        }
    }

    /// Reads all of it; how far that reaches.
    async fn read(&mut self) -> Result<String, Failure> {
        let mut entries = Vec::new();
        let mut params = self.list.params();
        let version = loop {
            let request = Request::new(self.list.path());
            let request = match self.list.metadata_only() {
                true => request.list_metadata(&params),
                false => request.list(&params),
            };
            let request = request.map_err(Error::BuildRequest)?;
            // Read here, for kube writes what it cannot read into the log, and that may be a Secret.
            let answer = timeout(ANSWER, self.client.request_text(request)).await;
            let text = answer.map_err(|_| Failure::Silent(ANSWER))??;
            let Page { metadata, items } = serde_json::from_str(&text).map_err(Error::SerdeError)?;
            entries.extend(items.into_iter().flatten().filter_map(|value| self.list.entry(value)));
            match metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => break metadata.resource_version,
            }
        };
        if !self.newest.admits(&version, Instant::now()) {
            self.counts.older(self.list.kind());
            return Err(Failure::Older(version));
        }
        self.counts.listed(self.list.kind());
        self.fails(false);
        self.list.tell(News::Listed(entries, version.clone())).await?;
        Ok(version)
    }

    /// Follows it from there until the server ends that.
    async fn watch(&mut self, at: &mut String) -> Result<(), Failure> {
        let ListParams { label_selector, field_selector, .. } = self.list.params();
        let params = WatchParams { label_selector, field_selector, ..WatchParams::default() }.timeout(WATCH);
        let request = Request::new(self.list.path());
        let request = match self.list.metadata_only() {
            true => request.watch_metadata(&params, at),
            false => request.watch(&params, at),
        };
        let request = request.map_err(Error::BuildRequest)?;
        let opened = timeout(ANSWER, self.client.request_events::<Value>(request)).await;
        let mut events = pin!(opened.map_err(|_| Failure::Silent(ANSWER))??);
        self.fails(false);
        while let Some(event) = timeout(SILENCE, events.try_next()).await.map_err(|_| Failure::Silent(SILENCE))?? {
            let version = self.take(event).await?;
            // From nowhere a watch would begin anew, and never say what was deleted.
            if !version.is_empty() {
                self.newest.reached(&version);
                *at = version;
            }
        }
        Ok(())
    }

    /// How far it reaches.
    async fn take(&mut self, event: WatchEvent<Value>) -> Result<String, Failure> {
        let (value, gone) = match event {
            WatchEvent::Added(value) | WatchEvent::Modified(value) => (value, false),
            WatchEvent::Deleted(value) => (value, true),
            WatchEvent::Bookmark(bookmark) => {
                let version = bookmark.metadata.resource_version;
                self.list.tell(News::Nothing(version.clone())).await?;
                return Ok(version);
            }
            WatchEvent::Error(status) => return Err(Failure::Said(status)),
        };
        let version = value["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let news = match gone {
            true => News::Gone(value, version.clone()),
            false => News::Put(self.list.entry(value), version.clone()),
        };
        self.list.tell(news).await?;
        Ok(version)
    }

    /// What is held stays, and after a while it is tried again.
    async fn fail(&mut self, failure: &Failure) {
        let news = self.failed(failure);
        if self.list.tell(news).await.is_err() {
            return;
        }
        let pause = self.pause.next(failure.asked());
        tracing::warn!(list = %self.list, again_in = ?pause, "{}", self.sentence(failure));
        sleep(pause).await;
    }

    fn failed(&mut self, failure: &Failure) -> News<L::Entry> {
        self.counts.failed(self.list.kind());
        match failure.code() {
            401 | 403 | 404 if self.list.is_optional() => News::Denied,
            _ => {
                self.fails(true);
                News::Failed(self.sentence(failure))
            }
        }
    }

    fn sentence(&self, failure: &Failure) -> String {
        format!("{failure}{}", self.list.remedy(failure.code()))
    }

    fn fails(&mut self, fails: bool) {
        if std::mem::replace(&mut self.fails, fails) != fails {
            self.counts.failing(self.list.kind(), fails);
        }
    }
}
