//! One list of the API server, kept current: read once, then watched from there. A watch that ends goes on where it was, and
//! where the server no longer knows that place the list is read again and put in the place of what was held, as a whole, so
//! that nothing is gone in between. kube's own watcher does as much but does not say how old a list is, and so cannot tell
//! what was deleted from what an older answer does not have yet.
//!
//! A server whose storage was restored has not come as far as that place yet. It begins a watch from there all the same, and says
//! nothing until it has (kubernetes/kubernetes#107457). So after a failure, and where nothing was heard for long, it is asked how
//! far it is before a watch goes on.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::failure::Failure;
use super::list::{List, News, Over};
use super::pause::Pause;
use super::version::{Newest, number};
use crate::chance::random;
use crate::metrics::Watches;

/// The server ends a watch after so many seconds, a number of these; client-go asks for as many.
const WATCH: RangeInclusive<u64> = 300..=600;
/// Nothing was heard for so long: the server is asked how far it is before a watch goes on.
const DOUBT: Duration = Duration::from_secs(300);
/// The server says each minute how far it has come, where anything has been written. A watch that says nothing for so long, a time
/// within these, is begun anew: perhaps its connection was cut, which nobody tells us.
const SILENCE: RangeInclusive<u64> = 75..=90;
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
    /// When the server last said anything that fits; none after a failure.
    heard: Option<Instant>,
    /// The last sentence in the log, while it fails.
    told: Option<String>,
    fails: bool,
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
        Self { client, list, counts, newest, pause, behind, heard: None, told: None, fails: false }
    }

    /// Until nobody listens.
    pub(crate) async fn run(mut self) {
        let Err(Over) = self.keep().await;
    }

    async fn keep(&mut self) -> Result<Infallible, Over> {
        loop {
            match self.read().await {
                Ok(at) => self.follow(at).await?,
                Err(failure) => self.fail(failure).await?,
            }
        }
    }

    /// From there on, until it has to be read again.
    async fn follow(&mut self, mut at: String) -> Result<(), Over> {
        loop {
            let (ended, lasted) = self.go_on(&mut at).await;
            let steady = lasted >= STEADY;
            if steady {
                self.pause.reset();
                self.behind.reset();
                self.told = None;
            }
            match ended {
                Ok(()) if steady => {}
                Ok(()) => sleep(self.pause.next(None)).await,
                Err(failure) if failure.is_gone() => {
                    tracing::info!(list = %self.list, why = %failure, "the watch cannot go on: the list is read again");
                    sleep(self.behind.next(failure.asked())).await;
                    return Ok(());
                }
                Err(failure) => self.fail(failure).await?,
            }
        }
    }

    /// Watches it from there, where the server is as far; and how long that lasted.
    async fn go_on(&mut self, at: &mut String) -> (Result<(), Failure>, Duration) {
        let is_doubtful = self.heard.is_none_or(|heard| heard.elapsed() >= DOUBT);
        if is_doubtful && let Err(failure) = self.confirm(at).await {
            return (Err(failure), Duration::ZERO);
        }
        let begin = Instant::now();
        (self.watch(at).await, begin.elapsed())
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
            let Page { metadata, items } = self.page(&params, self.list.metadata_only()).await?;
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
        self.heard = Some(Instant::now());
        self.list.tell(News::Listed(entries, version.clone())).await?;
        Ok(version)
    }

    async fn page(&self, params: &ListParams, metadata_only: bool) -> Result<Page, Failure> {
        let request = Request::new(self.list.path());
        let request = if metadata_only { request.list_metadata(params) } else { request.list(params) };
        let request = request.map_err(Error::BuildRequest)?;
        // Read here, for kube writes what it cannot read into the log, and that may be a Secret.
        let answer = timeout(ANSWER, self.client.request_text(request)).await;
        let text = answer.map_err(|_| Failure::Silent(ANSWER))??;
        Ok(serde_json::from_str(&text).map_err(Error::SerdeError)?)
    }

    /// Whether the server is as far as that. A list says it, whatever it lists; one that is asked for like this is never of a cache.
    async fn confirm(&mut self, at: &str) -> Result<(), Failure> {
        let page = self.page(&self.list.params().limit(1), true).await?;
        reaches(&page.metadata.resource_version, at)?;
        self.heard = Some(Instant::now());
        Ok(())
    }

    /// Follows it from there until the server ends that, or says nothing.
    async fn watch(&mut self, at: &mut String) -> Result<(), Failure> {
        let ListParams { label_selector, field_selector, .. } = self.list.params();
        let params =
            WatchParams { label_selector, field_selector, ..WatchParams::default() }.timeout(within(WATCH) as u32);
        let request = Request::new(self.list.path());
        let request = match self.list.metadata_only() {
            true => request.watch_metadata(&params, at),
            false => request.watch(&params, at),
        };
        let request = request.map_err(Error::BuildRequest)?;
        let opened = timeout(ANSWER, self.client.request_events::<Value>(request)).await;
        let mut events = pin!(opened.map_err(|_| Failure::Silent(ANSWER))??);
        self.fails(false);
        let silence = Duration::from_secs(within(SILENCE));
        while let Ok(event) = timeout(silence, events.try_next()).await {
            let Some(event) = event? else { break };
            let (news, version) = self.news(event)?;
            // From nowhere a watch would begin anew, and never say what was deleted.
            if !version.is_empty() {
                reaches(&version, at)?;
                self.newest.reached(&version);
                *at = version;
            }
            self.heard = Some(Instant::now());
            self.list.tell(news).await?;
        }
        Ok(())
    }

    /// And how far it reaches.
    fn news(&self, event: WatchEvent<Value>) -> Result<(News<L::Entry>, String), Failure> {
        let of = |value: &Value| value["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        match event {
            WatchEvent::Added(value) | WatchEvent::Modified(value) => {
                let version = of(&value);
                Ok((News::Put(self.list.entry(value), version.clone()), version))
            }
            WatchEvent::Deleted(value) => {
                let version = of(&value);
                Ok((News::Gone(value, version.clone()), version))
            }
            WatchEvent::Bookmark(bookmark) => {
                let version = bookmark.metadata.resource_version;
                Ok((News::Nothing(version.clone()), version))
            }
            WatchEvent::Error(status) => Err(Failure::Said(status)),
        }
    }

    /// What is held stays, and after a while it is tried again.
    async fn fail(&mut self, failure: Failure) -> Result<(), Over> {
        if let Failure::Over(over) = failure {
            return Err(over);
        }
        self.heard = None;
        let news = self.failed(&failure);
        self.list.tell(news).await?;
        let pause = self.pause.next(failure.asked());
        let sentence = self.sentence(&failure);
        // However often it is tried again: some lists are never there.
        if self.told.as_ref() != Some(&sentence) {
            tracing::warn!(list = %self.list, "{sentence}");
            self.told = Some(sentence);
        }
        sleep(pause).await;
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) -> News<L::Entry> {
        self.counts.failed(self.list.kind());
        match failure.code() {
            401 | 403 | 404 if self.list.is_optional() => {
                // Whatever its connection came to before.
                self.fails(false);
                News::Denied
            }
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

/// Fails where that is not as far as the other one.
fn reaches(version: &str, at: &str) -> Result<(), Failure> {
    if number(version) < number(at) { Err(Failure::Back(version.to_owned())) } else { Ok(()) }
}

/// One of these, by chance, so that not all lists are asked for at one moment.
fn within(range: RangeInclusive<u64>) -> u64 {
    range.start() + ((range.end() - range.start()) as f64 * random()).round() as u64
}

#[cfg(test)]
mod tests;
