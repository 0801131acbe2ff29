//! KV events, as engines publish them: ZeroMQ PUB, a ring of what was said, and a ROUTER that says it again; beside them
//! SGLang's load events (`load`).
//!
//! ZeroMQ comes from the crate `zeromq`, which is not what the control plane hears it with. Everything an engine may do to
//! its followers can be commanded: lose messages, cut connections, restart.

mod load;
mod payload;
mod publish;
mod ring;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) use load::{LoadPublishing, TOPIC as LOAD_TOPIC};
pub(crate) use payload::{Changed, Prompt};
pub use payload::{Hashes, Shape};
pub use ring::Framing;

use publish::Publisher;

/// How an engine publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvConfig {
    /// Where; port 0 takes a free one. With [`Dial::Out`] the place of who listens.
    pub publish: SocketAddr,
    /// Who dials.
    pub dial: Dial,
    /// Where it answers; port 0 takes a free one.
    pub replay: Option<SocketAddr>,
    /// Where it pushes its load, as SGLang does; port 0 takes a free one.
    pub load: Option<SocketAddr>,
    /// Messages' topic.
    pub topic: String,
    /// Messages that it can say again.
    pub buffer_steps: usize,
    /// The shape of events.
    pub shape: Shape,
    /// The form of blocks' hashes.
    pub hashes: Hashes,
    /// The frames of answers.
    pub framing: Framing,
    /// The data-parallel rank in messages.
    pub rank: u32,
}

impl Default for KvConfig {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            publish: any,
            dial: Dial::In,
            replay: Some(any),
            load: None,
            topic: String::new(),
            buffer_steps: 10_000,
            shape: Shape::ByName,
            hashes: Hashes::Numbers,
            framing: Framing::WithTopic,
            rank: 0,
        }
    }
}

/// Who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// Followers.
    In,
    /// The engine.
    Out,
}

/// What an engine does to its followers on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvCommand {
    /// The next messages are not sent. The ring has them.
    Drop(u32),
    /// All connections end; new ones are taken.
    Cut,
    /// A new life: numbers begin at 0, the ring is empty, all connections end.
    Restart,
}

/// Where the cache's changes go.
#[derive(Debug, Clone)]
pub(crate) struct Feed(mpsc::UnboundedSender<Job>);

#[derive(Debug)]
pub(crate) enum Job {
    Publish(Vec<Changed>),
    Do(KvCommand, oneshot::Sender<()>),
    /// Answered once all before it is sent.
    Settle(oneshot::Sender<u64>),
}

/// The publisher's places and its task, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Publishing {
    pub(crate) feed: Feed,
    pub(crate) publish: SocketAddr,
    pub(crate) replay: Option<SocketAddr>,
    task: JoinHandle<()>,
}

impl Publishing {
    pub(crate) async fn start(config: &KvConfig) -> std::io::Result<Self> {
        let publisher = Publisher::bind(config).await?;
        let (publish, replay) = publisher.places();
        let (sender, jobs) = mpsc::unbounded_channel();
        let task = tokio::spawn(publisher.run(jobs));
        Ok(Self { feed: Feed(sender), publish, replay, task })
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feed {
    pub(crate) fn publish(&self, changes: Vec<Changed>) {
        // The task outlives the engine's requests, but for its last moments.
        let _ = self.0.send(Job::Publish(changes));
    }

    pub(crate) async fn command(&self, command: KvCommand) {
        let (done, waits) = oneshot::channel();
        let _ = self.0.send(Job::Do(command, done));
        let _ = waits.await;
    }

    /// How many messages there have been in this life.
    pub(crate) async fn settle(&self) -> u64 {
        let (done, waits) = oneshot::channel();
        let _ = self.0.send(Job::Settle(done));
        waits.await.unwrap_or_default()
    }
}

/// Which of an engine's configuration a page tells, see `GET /kv_event_sources`.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) config: KvConfig,
    pub(crate) feed: Feed,
    pub(crate) publish: SocketAddr,
    pub(crate) replay: Option<SocketAddr>,
    pub(crate) load: Option<SocketAddr>,
}

impl Published {
    pub(crate) fn new(config: &KvConfig, publishing: &Publishing, load: Option<&LoadPublishing>) -> Arc<Self> {
        let Publishing { feed, publish, replay, .. } = publishing;
        let load = load.map(|load| load.place);
        Arc::new(Self { config: config.clone(), feed: feed.clone(), publish: *publish, replay: *replay, load })
    }
}
