//! Accepts connections and hands their requests to the API.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Config;
use super::conn::SharedStream;
use super::driver::Jobs;
use super::fail::Armed;
use super::fast::Fast;
use super::kv::{KvCommand, Published};
use super::stats::{Open, Stats, StatsView};

/// Connections open at once; more are closed on arrival.
const CONNECTION_LIMIT: usize = 65_536;

/// What all connections of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) jobs: Jobs,
    pub(crate) fails: Armed,
    pub(crate) stats: Arc<Stats>,
    pub(crate) fast: Option<Fast>,
    pub(crate) published: Option<Arc<Published>>,
    loras: Mutex<BTreeMap<String, String>>,
}

impl Shared {
    pub(crate) fn new(config: Config, jobs: Jobs, published: Option<Arc<Published>>) -> Self {
        let loras = config.loras.iter().map(|name| (name.clone(), format!("/models/{name}"))).collect();
        let fast = config.fast.as_ref().map(|fast| Fast::new(fast, &config.model));
        let (fails, stats) = (Armed::default(), Arc::new(Stats::new()));
        Self { config, jobs, fails, stats, fast, published, loras: Mutex::new(loras) }
    }

    /// A restart loses the cache, too.
    pub(crate) async fn kv(&self, command: KvCommand) {
        let Some(published) = &self.published else { return };
        if command == KvCommand::Restart {
            self.jobs.lose_cache();
        }
        published.feed.command(command).await;
    }

    /// Loaded adapters: name to path.
    pub(crate) fn loras(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.loras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats_view(&self) -> StatsView {
        let totals = self.jobs.totals();
        StatsView { query_tokens: totals.query_tokens, hit_tokens: totals.hit_tokens, ..self.stats.view() }
    }
}

/// An answer's body: whole, or pieces as they come.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Serves until aborted. All connections live in the task's set and end with it.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let (ticks, ticked) = watch::channel(());
    if let Some(step) = shared.fast.as_ref().and_then(Fast::step) {
        connections.spawn(async move {
            let mut interval = tokio::time::interval(step);
            loop {
                interval.tick().await;
                ticks.send_replace(());
            }
        });
    }
    loop {
        match listener.accept().await {
            Ok((stream, _)) if connections.len() < CONNECTION_LIMIT => {
                connections.spawn(connection(Arc::new(stream), Arc::clone(&shared), ticked.clone()));
            }
            Ok(_) => {}
            // Out of descriptors or the like: the next attempt would fail at once, too.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: Arc<TcpStream>, shared: Arc<Shared>, ticked: watch::Receiver<()>) {
    let _open = Open::begin(Arc::clone(&shared.stats));
    // A socket without this option still works, only slower.
    let _ = stream.set_nodelay(true);
    let before = match &shared.fast {
        None => Bytes::new(),
        Some(fast) => match fast.serve(&stream, &shared, ticked).await {
            Some(before) => before,
            None => return,
        },
    };
    let raw = Arc::clone(&stream);
    let keep_alive = shared.config.keep_alive;
    let service = service_fn(move |request| super::api::handle(Arc::clone(&shared), Arc::clone(&raw), request));
    // An error here is the peer leaving or a failure on command; both are in the counters.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(keep_alive)
        .serve_connection(SharedStream::new(stream, before), service)
        .await;
}
