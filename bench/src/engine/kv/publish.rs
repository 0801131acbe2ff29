//! The publisher's task.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::mpsc;
use zeromq::{Endpoint, Host, PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use super::payload::{Changed, payload};
use super::ring::Ring;
use super::{Dial, Job, KvCommand, KvConfig};

/// How often a place is tried that the sockets of before have not let go of yet.
const BIND_TRIES: u32 = 200;
const BIND_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

pub(super) struct Publisher {
    /// Its places are those that were bound, so that they are the same after a cut.
    config: KvConfig,
    /// None where it could not be bound again.
    publish: Option<PubSocket>,
    replay: Option<RouterSocket>,
    ring: Ring,
    lose: u32,
}

impl Publisher {
    pub(super) async fn bind(config: &KvConfig) -> io::Result<Self> {
        let mut config = config.clone();
        let (publish, replay) = sockets(&mut config).await?;
        Ok(Self { ring: Ring::new(config.buffer_steps), config, publish: Some(publish), replay, lose: 0 })
    }

    pub(super) fn places(&self) -> (SocketAddr, Option<SocketAddr>) {
        (self.config.publish, self.config.replay)
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        loop {
            tokio::select! {
                biased;
                job = jobs.recv() => match job {
                    Some(job) => self.perform(job).await,
                    None => return,
                },
                question = question(&mut self.replay) => self.answer(question).await,
            }
        }
    }

    async fn perform(&mut self, job: Job) {
        match job {
            Job::Publish(changes) => self.say(&changes).await,
            Job::Do(command, done) => {
                self.obey(command).await;
                let _ = done.send(());
            }
            Job::Settle(done) => drop(done.send(self.ring.next)),
        }
    }

    async fn say(&mut self, changes: &[Changed]) {
        let KvConfig { shape, hashes, rank, .. } = self.config;
        let payload = Bytes::from(payload(changes, shape, hashes, rank));
        let sequence = self.ring.push(payload.clone());
        if self.lose > 0 {
            self.lose -= 1;
            return;
        }
        let topic = Bytes::copy_from_slice(self.config.topic.as_bytes());
        let frames = vec![topic, Bytes::copy_from_slice(&sequence.to_be_bytes()), payload];
        // Nobody hears it: then the ring has it.
        if let Some(publish) = &mut self.publish {
            let _ = publish.send(message(frames)).await;
        }
    }

    async fn answer(&mut self, question: ZmqMessage) {
        let frames = question.into_vec();
        let [identity, empty, from] = &frames[..] else { return };
        let (true, Ok(from)) = (empty.is_empty(), from[..].try_into().map(u64::from_be_bytes)) else { return };
        let Some(replay) = &mut self.replay else { return };
        for frames in self.ring.answer(from, &self.config.topic, self.config.framing) {
            let addressed = [vec![identity.clone()], frames].concat();
            if replay.send(message(addressed)).await.is_err() {
                return;
            }
        }
    }

    async fn obey(&mut self, command: KvCommand) {
        match command {
            KvCommand::Drop(count) => self.lose = count,
            KvCommand::Cut => self.cut().await,
            KvCommand::Restart => {
                self.ring = Ring::new(self.config.buffer_steps);
                self.cut().await;
            }
        }
    }

    async fn cut(&mut self) {
        // What it says of its places is that they are gone, which is what was wanted.
        if let Some(publish) = self.publish.take() {
            let _ = publish.close().await;
        }
        if let Some(replay) = self.replay.take() {
            let _ = replay.close().await;
        }
        for _ in 0..BIND_TRIES {
            if let Ok((publish, replay)) = sockets(&mut self.config).await {
                (self.publish, self.replay) = (Some(publish), replay);
                return;
            }
            tokio::time::sleep(BIND_PAUSE).await;
        }
    }
}

async fn question(replay: &mut Option<RouterSocket>) -> ZmqMessage {
    loop {
        match replay {
            Some(socket) => match socket.recv().await {
                Ok(question) => return question,
                // Who asked has left.
                Err(_) => tokio::time::sleep(BIND_PAUSE).await,
            },
            None => std::future::pending().await,
        }
    }
}

/// Binds, and writes down where.
async fn sockets(config: &mut KvConfig) -> io::Result<(PubSocket, Option<RouterSocket>)> {
    let mut publish = PubSocket::new();
    match config.dial {
        Dial::In => config.publish = bind(&mut publish, config.publish).await?,
        Dial::Out => publish.connect(&format!("tcp://{}", config.publish)).await.map_err(io::Error::other)?,
    }
    let Some(place) = config.replay else { return Ok((publish, None)) };
    let mut replay = RouterSocket::new();
    config.replay = Some(bind(&mut replay, place).await?);
    Ok((publish, Some(replay)))
}

pub(super) async fn bind(socket: &mut impl Socket, place: SocketAddr) -> io::Result<SocketAddr> {
    let bound = socket.bind(&format!("tcp://{place}")).await.map_err(io::Error::other)?;
    match bound {
        Endpoint::Tcp(Host::Ipv4(ip), port) => Ok(SocketAddr::new(ip.into(), port)),
        Endpoint::Tcp(Host::Ipv6(ip), port) => Ok(SocketAddr::new(ip.into(), port)),
        _ => Err(io::Error::other("bound to something else than an address")),
    }
}

/// Messages always have frames here.
pub(super) fn message(frames: Vec<Bytes>) -> ZmqMessage {
    ZmqMessage::try_from(frames).unwrap_or_else(|_| ZmqMessage::from(Bytes::new()))
}
