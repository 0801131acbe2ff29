//! One connection: greeted, then messages in and out.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

use super::frame::{Decoder, Frames, Sent};
use super::{ZmtpError, frame, greeting};

/// For the greeting, all of it.
const GREETING_TIME: Duration = Duration::from_secs(2);
/// Without a byte from the peer: then it is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(2);
/// For its answer, which libzmq gives at once.
const ANSWER_TIME: Duration = Duration::from_secs(3);
const PING: &[u8] = b"\x04PING\0\0";
/// More room than this for what was read is given back.
const KEPT_BYTES: usize = 64 << 10;

/// What our socket is, and so what the peer's must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Hears a PUB.
    Sub,
    /// Asks a ROUTER.
    Dealer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Sub => "SUB",
            Self::Dealer => "DEALER",
        }
    }

    fn goes_with(self, peer: &str) -> bool {
        match self {
            Self::Sub => matches!(peer, "PUB" | "XPUB"),
            Self::Dealer => matches!(peer, "ROUTER" | "REP" | "DEALER"),
        }
    }
}

/// A greeted peer.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
    /// What is still to be sent.
    out: BytesMut,
    heard: Instant,
    pinged: bool,
    /// Peers of version 3.0 know no PING.
    answers_pings: bool,
}

impl Connection {
    /// Greets a peer that has been reached.
    pub async fn greet(stream: TcpStream, role: Role) -> Result<Self, ZmtpError> {
        timeout(GREETING_TIME, Self::greeted(stream, role)).await.unwrap_or(Err(ZmtpError::Late))
    }

    async fn greeted(mut stream: TcpStream, role: Role) -> Result<Self, ZmtpError> {
        stream.set_nodelay(true)?;
        stream.write_all(&greeting::ours()).await?;
        let mut theirs = [0; greeting::LENGTH];
        stream.read_exact(&mut theirs).await?;
        greeting::check(&theirs)?;
        let mut ready = Vec::new();
        greeting::ready(role.name(), &mut ready);
        stream.write_all(&ready).await?;
        let mut connection = Self {
            stream,
            decoder: Decoder::default(),
            buffer: BytesMut::new(),
            out: BytesMut::new(),
            heard: Instant::now(),
            pinged: false,
            answers_pings: theirs[11] >= 1,
        };
        let peer = greeting::socket_type(&connection.first_command().await?)?;
        if role.goes_with(&peer) { Ok(connection) } else { Err(ZmtpError::Role(peer)) }
    }

    async fn first_command(&mut self) -> Result<bytes::Bytes, ZmtpError> {
        loop {
            match self.decoder.next(&mut self.buffer)? {
                Some(Sent::Command(command)) => return Ok(command),
                Some(Sent::Message(_)) => return Err(ZmtpError::Frame("a message comes before READY")),
                None => self.read().await?,
            }
        }
    }

    /// Asks for all messages whose topic begins like this. As versions before 3.1 did, which all understand.
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), ZmtpError> {
        let subscription = [b"\x01", topic.as_bytes()].concat();
        self.send(&[&subscription]).await
    }

    /// Sends a message.
    pub async fn send(&mut self, frames: &[&[u8]]) -> Result<(), ZmtpError> {
        let mut bytes = Vec::new();
        frame::message(frames, &mut bytes);
        self.out.extend_from_slice(&bytes);
        while !self.out.is_empty() {
            self.write().await?;
        }
        Ok(())
    }

    /// The next message. May be dropped and called again without losing any. A peer that is silent and does not answer
    /// when it is asked whether it is there is gone.
    pub async fn receive(&mut self) -> Result<Frames, ZmtpError> {
        loop {
            match self.decoder.next(&mut self.buffer)? {
                Some(Sent::Message(frames)) => return Ok(frames),
                Some(Sent::Command(command)) => self.obey(&command),
                None => self.more().await?,
            }
        }
    }

    fn obey(&mut self, command: &[u8]) {
        let Some(ping) = command.strip_prefix(b"\x04PING") else { return };
        // After two bytes of time to live comes what is to be sent back, 16 bytes at most.
        let context = ping.get(2..).unwrap_or_default();
        let mut bytes = Vec::new();
        frame::command(&[b"\x04PONG", &context[..context.len().min(16)]].concat(), &mut bytes);
        // A peer that asks faster than it reads is not answered each time.
        if self.out.len() < KEPT_BYTES {
            self.out.extend_from_slice(&bytes);
        }
    }

    async fn more(&mut self) -> Result<(), ZmtpError> {
        while !self.out.is_empty() {
            self.write().await?;
        }
        if !self.answers_pings {
            return self.read().await;
        }
        let limit = if self.pinged { QUIET + ANSWER_TIME } else { QUIET };
        match timeout_at((self.heard + limit).into(), self.read()).await {
            Ok(read) => read,
            Err(_) if self.pinged => Err(ZmtpError::Late),
            Err(_) => {
                let mut bytes = Vec::new();
                frame::command(PING, &mut bytes);
                self.out.extend_from_slice(&bytes);
                self.pinged = true;
                Ok(())
            }
        }
    }

    async fn read(&mut self) -> Result<(), ZmtpError> {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ZmtpError::Closed),
            _ => {
                (self.heard, self.pinged) = (Instant::now(), false);
                Ok(())
            }
        }
    }

    async fn write(&mut self) -> Result<(), ZmtpError> {
        let written = timeout(ANSWER_TIME, self.stream.write_buf(&mut self.out)).await;
        match written.map_err(|_| ZmtpError::Late)?? {
            0 => Err(ZmtpError::Closed),
            _ => Ok(()),
        }
    }
}
