//! An API server of one history, in process and on the test's clock: lists in pages, watches with bookmarks, and weather.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::{Body, ClientBuilder};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::chance::testing::Rng;

mod single;

use single::Place;

/// Items of a page, whatever is asked for.
const PAGE: usize = 2;
const BOOKMARKS: Duration = Duration::from_secs(10);

/// What an API server is like at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Weather {
    Fair,
    /// Connections break at any time, and watches end with 410, for each of that many in a hundred requests.
    Gusty(u64),
    /// Nobody is there.
    Away,
    /// Somebody is there who says nothing.
    Deaf,
    /// Everything is refused by this code, with this in `Retry-After`.
    Refuses(u16, Option<u32>),
    /// Watches end as soon as they have begun, with nothing said.
    Brief,
    /// Another server answers, which has not heard of anything after this revision.
    Behind(u64),
}

/// A revision.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) plural: &'static str,
    pub(crate) name: String,
    /// None where it was deleted.
    pub(crate) object: Option<Arc<Value>>,
}

/// All objects of a list: names and what they are.
pub(crate) type Objects = BTreeMap<String, Arc<Value>>;

struct Inner {
    /// The nth is revision n + 1.
    log: Vec<Write>,
    compacted: u64,
    /// So many second pages are refused with 410.
    expiring: u32,
    weather: Weather,
    rng: Rng,
    /// Watches that began before so many were cut say nothing any more.
    cuts: u32,
    /// Bookmarks are sent that reach less far than the watch that they are of.
    past_bookmarks: bool,
    /// What is at paths that are of no list.
    pages: BTreeMap<&'static str, Value>,
    /// When each list was asked for anything, by its path's last part.
    asked: Vec<(Instant, String)>,
}

/// Shared by its connections and the test.
#[derive(Clone)]
pub(crate) struct Server {
    inner: Arc<Mutex<Inner>>,
    /// Counts what connections must hear of.
    turns: watch::Sender<u64>,
}

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

impl Server {
    pub(crate) fn new(rng: Rng) -> Self {
        let inner = Inner {
            log: Vec::new(),
            compacted: 0,
            expiring: 0,
            weather: Weather::Fair,
            rng,
            cuts: 0,
            past_bookmarks: false,
            asked: Vec::new(),
            pages: BTreeMap::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), turns: watch::channel(0).0 }
    }

    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let answering = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        crate::api_server::around(ClientBuilder::new(answering, "d"), None)
    }

    /// The revision that this makes.
    pub(crate) fn write(&self, write: Write) -> u64 {
        let mut inner = self.inner();
        inner.log.push(write);
        let revision = inner.log.len() as u64;
        drop(inner);
        self.turn();
        revision
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.inner().weather = weather;
        self.turn();
    }

    /// Says this at a path.
    pub(crate) fn show(&self, path: &'static str, page: Value) {
        self.inner().pages.insert(path, page);
    }

    /// Watches from before are told that they are too old.
    pub(crate) fn compact(&self) {
        let mut inner = self.inner();
        inner.compacted = inner.log.len() as u64;
    }

    /// Its storage is as it was then, and counts from there. Watches from later go on, and say nothing until it has come as far.
    pub(crate) fn restore(&self, revision: u64) {
        let mut inner = self.inner();
        inner.log.truncate(revision as usize);
        inner.compacted = inner.compacted.min(revision);
    }

    /// Sends such bookmarks, which no server is known to do.
    pub(crate) fn send_past_bookmarks(&self) {
        self.inner().past_bookmarks = true;
    }

    /// Connections on which something is watched are cut, and nobody is told.
    pub(crate) fn cut(&self) {
        self.inner().cuts += 1;
    }

    /// The next so many pages that are not the first are refused; how many of those before are left.
    pub(crate) fn expire_pages(&self, pages: u32) -> u32 {
        std::mem::replace(&mut self.inner().expiring, pages)
    }

    pub(crate) fn revision(&self) -> u64 {
        self.inner().log.len() as u64
    }

    /// The times at which this list was asked for, from the start on.
    pub(crate) fn asked(&self, plural: &str) -> Vec<Instant> {
        self.inner().asked.iter().filter(|(_, path)| path == plural).map(|(at, _)| *at).collect()
    }

    /// What was written after a revision, in order.
    pub(crate) fn after(&self, revision: u64) -> Vec<Write> {
        self.inner().log[revision as usize..].to_vec()
    }

    /// The list as it was at a revision.
    pub(crate) fn objects(&self, plural: &str, revision: u64) -> Objects {
        objects(&self.inner().log, plural, revision)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn turn(&self) {
        self.turns.send_modify(|turns| *turns += 1);
    }

    async fn answer(&self, request: Request<Body>) -> io::Result<Answer> {
        let page = self.inner().pages.get(request.uri().path()).cloned();
        let place = page.as_ref().map_or_else(|| Place::of(request.uri().path()), |_| Place::page());
        let method = request.method().clone();
        let query: BTreeMap<String, String> =
            request.uri().query().unwrap_or_default().split('&').filter_map(pair).collect();
        let mut turned = self.turns.subscribe();
        self.inner().asked.push((Instant::now(), place.asked()));
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        loop {
            let (weather, gust) = {
                let mut inner = self.inner();
                (inner.weather, inner.gust(100))
            };
            match weather {
                Weather::Deaf => turned.changed().await.map_err(io::Error::other)?,
                Weather::Away => return Err(io::ErrorKind::ConnectionRefused.into()),
                Weather::Refuses(code, after) => return Ok(refusal(code, after)),
                Weather::Gusty(_) if gust => return Err(io::ErrorKind::ConnectionReset.into()),
                _ if page.is_some() => return Ok(whole(200, &page.unwrap_or_default())),
                _ if !place.is_list(&method) => return Ok(self.one(&method, &place, &body)),
                _ if query.contains_key("watch") => return Ok(self.watch(place.plural, &query)),
                _ => return Ok(self.list(&place.plural, &query)),
            }
        }
    }

    fn list(&self, plural: &str, query: &BTreeMap<String, String>) -> Answer {
        let mut inner = self.inner();
        let now = inner.visible();
        let next = query.get("continue").and_then(|next| next.split_once(':'));
        let (revision, from) = next.map_or((now, 0), |(at, from)| (at.parse().unwrap(), from.parse().unwrap()));
        let expires = next.is_some() && inner.expiring > 0;
        inner.expiring -= u32::from(expires);
        if expires || next.is_some() && (revision < inner.compacted || revision > now) {
            return refusal(410, None);
        }
        let all: Vec<_> = objects(&inner.log, plural, revision).into_values().collect();
        let page: Vec<&Value> = all[from..(from + PAGE).min(all.len())].iter().map(|object| &**object).collect();
        let end = (from + PAGE).min(all.len());
        let more = if end < all.len() { format!("{revision}:{end}") } else { String::new() };
        let meta = json!({"resourceVersion": revision.to_string(), "continue": more});
        whole(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": page}))
    }

    fn watch(&self, plural: String, query: &BTreeMap<String, String>) -> Answer {
        let at = query["resourceVersion"].parse().unwrap();
        let mut inner = self.inner();
        // A watch from the future is begun like any other one.
        if at < inner.compacted && inner.rng.below(2) == 0 {
            return refusal(410, None);
        }
        let ends = Instant::now() + Duration::from_secs(query["timeoutSeconds"].parse().unwrap());
        let (weather, cuts) = (inner.weather, inner.cuts);
        drop(inner);
        let bookmark = Instant::now() + BOOKMARKS;
        let over = weather == Weather::Brief;
        let watching = Watching { server: self.clone(), plural, from: at, at, ends, bookmark, weather, cuts, over };
        let lines = stream::unfold(watching, |mut watching| async { Some((watching.next().await?, watching)) });
        Response::new(StreamBody::new(Box::pin(lines)).boxed_unsync())
    }
}

impl Inner {
    /// Whether it blows now.
    fn gust(&mut self, of: u64) -> bool {
        let Weather::Gusty(gusts) = self.weather else { return false };
        self.rng.below(of) < gusts
    }

    fn visible(&self) -> u64 {
        let newest = self.log.len() as u64;
        if let Weather::Behind(revision) = self.weather { revision.min(newest) } else { newest }
    }
}

/// A connection on which a list is watched.
struct Watching {
    server: Server,
    plural: String,
    /// Whatever is of before is not said.
    from: u64,
    at: u64,
    ends: Instant,
    bookmark: Instant,
    /// In which it began: it is of a server, and breaks with that.
    weather: Weather,
    /// That had been cut when it began.
    cuts: u32,
    over: bool,
}

impl Watching {
    async fn next(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        let mut turned = self.server.turns.subscribe();
        loop {
            if self.cuts < self.server.inner().cuts {
                return std::future::pending().await;
            }
            if self.over {
                return None;
            }
            if let Some(said) = self.step() {
                return Some(said.map(|line| Frame::data(format!("{line}\n").into())));
            }
            let deaf = self.server.inner().weather == Weather::Deaf;
            tokio::select! {
                _ = turned.changed() => {}
                () = sleep_until(self.bookmark), if !deaf => {}
                () = sleep_until(self.ends) => self.over = true,
            }
        }
    }

    /// What is said now, if anything.
    fn step(&mut self) -> Option<io::Result<Value>> {
        let mut inner = self.server.inner();
        match (inner.weather, self.weather) {
            (Weather::Deaf, _) => return None,
            (now, then)
                if now != then
                    && [now, then].iter().any(|weather| {
                        !matches!(weather, Weather::Fair | Weather::Gusty(_) | Weather::Refuses(..))
                    }) =>
            {
                self.over = true;
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            _ => {}
        }
        let expired =
            self.at < inner.compacted && inner.log[self.at as usize..].iter().any(|write| write.plural == self.plural);
        if expired || inner.gust(400) {
            self.over = true;
            return Some(Ok(json!({"type": "ERROR", "object": status(410)})));
        }
        let visible = inner.visible();
        while self.at < visible {
            self.at += 1;
            let write = &inner.log[self.at as usize - 1];
            if write.plural == self.plural {
                let same = |before: &&Write| (before.plural, &before.name) == (write.plural, &write.name);
                let before =
                    inner.log[..self.at as usize - 1].iter().rfind(same).and_then(|before| before.object.clone());
                return Some(Ok(event(write, before.as_deref(), self.at)));
            }
        }
        if Instant::now() >= self.bookmark {
            self.bookmark = Instant::now() + BOOKMARKS;
            let meta = json!({"resourceVersion": visible.to_string()});
            // One of three is lost.
            let lost = inner.rng.below(3) == 0;
            let is_said = visible > self.from || inner.past_bookmarks;
            return (is_said && !lost).then(|| {
                Ok(json!({"type": "BOOKMARK", "object": {"kind": "X", "apiVersion": "v1", "metadata": meta}}))
            });
        }
        None
    }
}

fn event(write: &Write, before: Option<&Value>, revision: u64) -> Value {
    match &write.object {
        Some(object) => {
            let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
            json!({"type": kind, "object": at(object, revision)})
        }
        None => json!({"type": "DELETED", "object": at(before.unwrap_or(&Value::Null), revision)}),
    }
}

fn at(object: &Value, revision: u64) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    object
}

fn objects(log: &[Write], plural: &str, revision: u64) -> Objects {
    let mut objects = Objects::new();
    for write in log[..revision as usize].iter().filter(|write| write.plural == plural) {
        match &write.object {
            Some(object) => drop(objects.insert(write.name.clone(), object.clone())),
            None => drop(objects.remove(&write.name)),
        }
    }
    objects
}

fn pair(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once('=')?;
    Some((name.to_owned(), value.replace("%3A", ":")))
}

fn status(code: u16) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "",
    };
    let message = format!("{code} by the test");
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    })
}

fn refusal(code: u16, retry_after: Option<u32>) -> Answer {
    let mut answer = whole(code, &status(code));
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert("retry-after", seconds.into());
    }
    answer
}

fn whole(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never: Infallible| match never {});
    Response::builder().status(code).body(body.boxed_unsync()).unwrap()
}
