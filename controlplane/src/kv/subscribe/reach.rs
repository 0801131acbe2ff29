//! Gets a connection to a publisher, whoever dials.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{At, Source};
use crate::kv::endpoint::Endpoint;
use crate::kv::zmtp::{Connection, Role, ZmtpError};

const CONNECT_TIME: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) enum Reach {
    Connect { engine: Endpoint, topic: String },
    Listen { greeted: mpsc::Receiver<Connection>, task: JoinHandle<()> },
}

impl Reach {
    pub(super) async fn new(source: &Source) -> std::io::Result<Self> {
        let topic = source.topic.clone();
        match &source.at {
            At::Connect(engine) => Ok(Self::Connect { engine: engine.clone(), topic }),
            At::Listen(address) => {
                let listener = TcpListener::bind(address).await?;
                let (sender, greeted) = mpsc::channel(1);
                Ok(Self::Listen { greeted, task: tokio::spawn(accept(listener, topic, sender)) })
            }
        }
    }

    /// A connection that is subscribed.
    pub(super) async fn next(&mut self) -> Result<Connection, ZmtpError> {
        match self {
            Self::Connect { engine, topic } => dial(engine, topic).await,
            Self::Listen { greeted, .. } => greeted.recv().await.ok_or(ZmtpError::Closed),
        }
    }

    /// Another publisher that dialled us while one is heard.
    pub(super) async fn replacement(&mut self) -> Connection {
        match self {
            Self::Listen { greeted, .. } => match greeted.recv().await {
                Some(connection) => connection,
                None => std::future::pending().await,
            },
            Self::Connect { .. } => std::future::pending().await,
        }
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        if let Self::Listen { task, .. } = self {
            task.abort();
        }
    }
}

/// One greeting at a time, each within a limit: who does not speak ZeroMQ replaces nobody.
async fn accept(listener: TcpListener, topic: String, greeted: mpsc::Sender<Connection>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors or the like: the next attempt would fail at once, too.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        match subscribed(stream, &topic).await {
            Ok(connection) => {
                if greeted.send(connection).await.is_err() {
                    return;
                }
            }
            Err(fault) => tracing::debug!(%peer, %fault, "who dialled is not a publisher of events"),
        }
    }
}

/// Dials a publisher that listens.
pub(crate) async fn dial(engine: &Endpoint, topic: &str) -> Result<Connection, ZmtpError> {
    let stream = TcpStream::connect((&*engine.host, engine.port));
    let stream = timeout(CONNECT_TIME, stream).await.map_err(|_| ZmtpError::Late)??;
    subscribed(stream, topic).await
}

async fn subscribed(stream: TcpStream, topic: &str) -> Result<Connection, ZmtpError> {
    let mut connection = Connection::greet(stream, Role::Sub).await?;
    connection.subscribe(topic).await?;
    Ok(connection)
}
