//! The server: TLS connections, HTTP/1.1 on them, which is what API servers speak to webhooks.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::answer::Judge;
use super::pace::{Busy, Paced};

/// At once. When there are as many, the one that has waited longest for its end is asked to end, so that connections that
/// are kept for later never keep out one that is needed now.
pub(super) const CONNECTIONS: usize = 64;
/// For the handshake, and for a request's head once it has begun.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// For a connection without a request: more than the 90 s after which API servers close theirs.
const IDLE_TIME: Duration = Duration::from_secs(120);
/// Of a request.
const HEAD_BYTES: usize = 16 << 10;
/// When the process ends, everything is answered for so long: until API servers have learnt that it goes. Each answer says that its connection
/// ends with it, for a connection that we end may just have been chosen for the next request.
const LEAD_TIME: Duration = Duration::from_secs(5);
/// For requests that are being answered after that.
const LEAVE_TIME: Duration = Duration::from_secs(5);
/// Before the next try where no connection could be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What has been asked so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Reviews whose object may be stored.
    pub allowed: AtomicU64,
    /// Reviews whose object was refused.
    pub refused: AtomicU64,
    /// Requests that were no review, or could not be answered.
    pub malformed: AtomicU64,
}

/// A bound address, where nothing is answered yet.
#[derive(Debug)]
pub struct Webhook {
    socket: TcpListener,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
    pub(super) lead: Duration,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    judge: Judge,
    /// Asks one connection to end.
    crowded: Notify,
    leaving: watch::Sender<Leaving>,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// It is not in sight.
    Not,
    /// Answers are the last ones of their connections.
    Soon,
    /// Nobody new is answered.
    Now,
}

impl Webhook {
    /// Binds. `tls` finds the newest certificate at every handshake, see [`crate::certificates::server_config`].
    pub async fn bind(address: SocketAddr, tls: Arc<ServerConfig>) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let shared =
            Shared { judge: Judge::default(), crowded: Notify::new(), leaving: watch::channel(Leaving::Not).0 };
        Ok(Self { socket, address, tls, shared: Arc::new(shared), lead: LEAD_TIME })
    }

    /// With the port that the kernel chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has been asked so far.
    pub fn counts(&self) -> Arc<Counts> {
        self.shared.judge.counts.clone()
    }

    /// Answers until `stop` and a while longer, and then what was asked before.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { socket, address: _, tls, shared, lead } = self;
        let acceptor = TlsAcceptor::from(tls);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut end = pin!(async {
            stop.await;
            shared.leaving.send_replace(Leaving::Soon);
            sleep(lead).await;
        });
        loop {
            let (stream, place) = tokio::select! {
                biased;
                () = &mut end => break,
                next = next(&socket, &places, &shared.crowded) => next,
            };
            while connections.try_join_next().is_some() {}
            connections.spawn(connection(stream, acceptor.clone(), shared.clone(), place));
        }
        drop(socket);
        shared.leaving.send_replace(Leaving::Now);
        let all = async { while connections.join_next().await.is_some() {} };
        // Whoever has not ended by then is cut off as the set is dropped.
        let _ = timeout(LEAVE_TIME, all).await;
    }
}

async fn next(socket: &TcpListener, places: &Arc<Semaphore>, crowded: &Notify) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the webhook cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if places.available_permits() == 0 {
            crowded.notify_one();
        }
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        return (stream, place);
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>, place: OwnedSemaphorePermit) {
    let _place = place;
    // Answers are small and waited for. Where the option cannot be set, the connection is gone already.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HEAD_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed at the webhook"),
        Err(_) => return tracing::debug!("a TLS handshake with the webhook did not end in time"),
    };
    let busy = Arc::new(Busy::default());
    let service = service_fn(|request| {
        let (shared, busy) = (shared.clone(), busy.clone());
        async move {
            busy.set(true);
            let mut response = shared.judge.answer(request).await;
            busy.set(false);
            if *shared.leaving.borrow() != Leaving::Not {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_TIME).max_buf_size(HEAD_BYTES);
    let stream = TokioIo::new(Paced::new(stream, busy.clone(), HEAD_TIME));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut leaving = shared.leaving.subscribe();
    let asked_to_end = async {
        tokio::select! {
            () = shared.crowded.notified() => {}
            _ = leaving.wait_for(|leaving| *leaving == Leaving::Now) => {}
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = asked_to_end => {
            // A request that is here is answered first.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the webhook ended");
    }
}
