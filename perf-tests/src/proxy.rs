//! Our TLS proxy in front of the API server: what a network and a tired API server do to programs, at a test's command.
//!
//! Programs reach it as they reach the API server, by a kubeconfig that names [`Proxy::url`], and must bring a bearer token: a client
//! certificate does not get through. Each connection has one of its own to the API server, and HTTP/1.1 is spoken.

mod asked;
mod events;
mod history;
mod rules;
mod serve;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::{oneshot, watch};

pub use asked::{Asked, Verb};
pub use rules::{Fault, Often, When};

use crate::cluster::Cluster;
use history::History;
use rules::{Rules, Scope};

/// One that runs. Dropped, it ends every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one, on a port of its own, with the API server's certificate.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let ends = serve::Ends::of(cluster)?;
        let state = Arc::new(State::new());
        let (stop, stopped) = oneshot::channel();
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = state.clone();
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve::listen(listener, ends, shared) => {}
                        // Only ever an error: the other end was dropped.
                        _ = stopped => {}
                    }
                });
            })
            .context("a thread for the proxy")?;
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Instead of the API server's.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// From now on what `when` describes meets the fault as often as said. Where several do, the eldest comes first.
    pub fn inject(&self, when: When, fault: Fault, often: Often) -> Injected {
        let id = self.state.rules().inject(when, fault, often);
        Injected { state: self.state.clone(), id }
    }

    /// How many such requests have come, those with faults among them.
    pub fn count(&self, when: &When) -> usize {
        self.state.rules().count(when)
    }

    /// The requests that change something which have come, those with faults among them, and how often each has.
    pub fn writes(&self) -> BTreeMap<Asked, usize> {
        self.state.rules().writes()
    }

    /// When each of the requests that change something came which are such, those with faults among them.
    pub fn written(&self, when: &When) -> Vec<Instant> {
        self.state.rules().written(when)
    }

    /// Ends every connection that there is, in the midst of whatever it does.
    pub fn cut_all(&self) {
        self.state.cut_all();
    }

    /// All requests that meet [`Fault::Hold`] now go on.
    pub fn let_go(&self) {
        self.state.go.send_modify(|times| *times += 1);
    }

    /// While it is away connections end as they begin.
    pub fn set_away(&self, away: bool) {
        self.state.set_away(away);
    }

    /// Whether it is away, by a test or by [`Fault::LastAnswer`].
    pub fn is_away(&self) -> bool {
        *self.state.away.borrow()
    }

    /// Forgets the lists that [`Fault::OlderList`] replays: those that are answered from now on will be.
    pub fn remember_anew(&self) {
        self.state.history().clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panicked has nothing left to wait for.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A fault that was commanded.
#[derive(Debug)]
pub struct Injected {
    state: Arc<State>,
    id: usize,
}

impl Injected {
    /// How many requests or events have met it.
    pub fn hits(&self) -> u32 {
        self.state.rules().hits(self.id)
    }

    /// Takes it away.
    pub fn lift(&self) {
        self.state.rules().lift(self.id);
    }
}

/// What the proxy's connections and the test share.
#[derive(Debug)]
struct State {
    rules: Mutex<Rules>,
    history: Mutex<History>,
    cut: watch::Sender<u64>,
    go: watch::Sender<u64>,
    away: watch::Sender<bool>,
}

impl State {
    fn new() -> Self {
        Self {
            rules: Mutex::default(),
            history: Mutex::default(),
            cut: watch::channel(0).0,
            go: watch::channel(0).0,
            away: watch::channel(false).0,
        }
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut_all(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    fn set_away(&self, away: bool) {
        self.away.send_replace(away);
        if away {
            self.cut_all();
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of this request.
    fn meet(&self, asked: &Asked) -> Option<Fault> {
        let mut rules = self.rules();
        rules.saw(asked);
        rules.meet(asked, Scope::Request)
    }

    /// What becomes of the next event of this watch.
    fn meet_event(&self, asked: &Asked) -> Option<Fault> {
        self.rules().meet(asked, Scope::Event)
    }
}
