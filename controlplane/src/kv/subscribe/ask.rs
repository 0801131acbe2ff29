//! Asks an engine for messages again.

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::kv::decode::{self, Answer};
use crate::kv::endpoint::Endpoint;
use crate::kv::zmtp::{Connection, Role, ZmtpError};

/// Answers that are on their way at once.
const AHEAD: usize = 64;

/// A part of an answer.
#[derive(Debug)]
pub(super) enum Answered {
    Message { sequence: u64, payload: Bytes },
    End,
    Failed(ZmtpError),
}

/// A question on a connection of its own, so that what is left of an earlier one's answer cannot be taken for this one's.
/// Dropped, it is over.
#[derive(Debug)]
pub(super) struct Question {
    answers: mpsc::Receiver<Answered>,
    task: JoinHandle<()>,
}

impl Question {
    pub(super) fn ask(engine: Endpoint, from: u64) -> Self {
        let (sender, answers) = mpsc::channel(AHEAD);
        let task = tokio::spawn(async move {
            let last = match converse(&engine, from, &sender).await {
                Ok(()) => Answered::End,
                Err(fault) => Answered::Failed(fault),
            };
            // Who asked may have left.
            let _ = sender.send(last).await;
        });
        Self { answers, task }
    }

    pub(super) async fn next(&mut self) -> Answered {
        self.answers.recv().await.unwrap_or(Answered::Failed(ZmtpError::Closed))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(engine: &Endpoint, from: u64, answers: &mpsc::Sender<Answered>) -> Result<(), ZmtpError> {
    let stream = TcpStream::connect((&*engine.host, engine.port)).await?;
    let mut connection = Connection::greet(stream, Role::Dealer).await?;
    connection.send(&[b"", &from.to_be_bytes()]).await?;
    loop {
        let frames = connection.receive().await?;
        let answer = decode::answer(&frames).map_err(|_| ZmtpError::Frame("an answer is not of an engine's form"))?;
        let Answer::Message { sequence, payload } = answer else { return Ok(()) };
        let payload = Bytes::copy_from_slice(payload);
        if answers.send(Answered::Message { sequence, payload }).await.is_err() {
            return Ok(());
        }
    }
}
