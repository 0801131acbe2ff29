//! What operators and probes look at: health and `/metrics` on one address, these and `/debug` on a loopback port.
//!
//! `view` reads the running process, `answer` says which page a request is for and what is on it, `pages` puts values into
//! JSON, `dump` so as Kthena's router does; here is only the socket. A listener has 64 connections of one request each, heads of at most 16 KiB within 5 s,
//! and renders one page at a time, away from the streams' thread: a dump of everything must not delay a data plane.
//! Health is answered at once.

mod answer;
mod dump;
mod pages;
mod view;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use answer::{Page, Reply, Which, render, route};
pub use view::{Look, View};

/// At once, per listener.
const CONNECTIONS: usize = 64;
/// Of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// Until a request's head is complete.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// For a connection: a large dump may take its time through a port-forward, but no reader holds it for ever.
const WHOLE_TIME: Duration = Duration::from_secs(30);
/// After a connection that could not be accepted.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Where it listens.
#[derive(Debug, Clone)]
pub struct Options {
    /// For health and `/metrics`.
    pub metrics: SocketAddr,
    /// For all of it, on loopback; none where nobody is to look.
    pub debug: Option<SocketAddr>,
}

impl Options {
    /// Debug pages name every object and address, so they stay on this machine. Port 0 turns them off.
    pub fn new(metrics: SocketAddr, debug_port: u16) -> Self {
        let debug = (debug_port != 0).then(|| (Ipv4Addr::LOCALHOST, debug_port).into());
        Self { metrics, debug }
    }
}

/// Why it cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {pages}: {error}; {advice}")]
pub struct BindError {
    address: SocketAddr,
    pages: &'static str,
    advice: &'static str,
    error: io::Error,
}

/// Bound listeners.
#[derive(Debug)]
pub struct Admin {
    metrics: Listener,
    debug: Option<Listener>,
    view: Arc<View>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Listens on all addresses, or on none.
    pub async fn bind(options: &Options, view: View) -> Result<Self, BindError> {
        let bound = |address, pages, advice| async move {
            let failed = |error| BindError { address, pages, advice, error };
            let socket = TcpListener::bind(address).await.map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            Ok(Listener { socket, address })
        };
        let metrics = bound(options.metrics, "/metrics", "choose another with --metrics-address").await?;
        let debug = match options.debug {
            Some(address) => {
                Some(bound(address, "/debug", "choose another with --debug-port, or 0 for no debug pages").await?)
            }
            None => None,
        };
        Ok(Self { metrics, debug, view: Arc::new(view) })
    }

    /// Where `/metrics` is.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics.address
    }

    /// Where `/debug` is.
    pub fn debug(&self) -> Option<SocketAddr> {
        self.debug.as_ref().map(|listener| listener.address)
    }

    /// Answers until it is dropped.
    pub async fn serve(self) -> Infallible {
        let Self { metrics, debug, view } = self;
        let debug_view = view.clone();
        let debug = async {
            match debug {
                Some(listener) => accept(listener, Site::new(Which::Debug, debug_view)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = accept(metrics, Site::new(Which::Metrics, view)) => never,
            never = debug => never,
        }
    }
}

/// What one listener serves. Who floods one must not silence the other, so each has its own turn.
#[derive(Debug, Clone)]
struct Site {
    which: Which,
    view: Arc<View>,
    turn: Arc<Mutex<()>>,
}

impl Site {
    fn new(which: Which, view: Arc<View>) -> Self {
        Self { which, view, turn: Arc::default() }
    }
}

async fn accept(listener: Listener, site: Site) -> Infallible {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased; // Who has left makes room before anyone is turned away.
            Some(ended) = open.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "an admin connection panicked");
            },
            accepted = listener.socket.accept() => match accepted {
                Ok((stream, _)) if open.len() < CONNECTIONS => drop(open.spawn(connection(stream, site.clone()))),
                Ok(_) => {} // Dropping the socket closes it.
                Err(error) => {
                    tracing::warn!(%error, "an admin connection cannot be accepted");
                    sleep(AFTER_ERROR).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, site: Site) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(respond(site, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(2 * HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // It closes either way, and whoever asked sees how it ended.
    let _ = timeout(WHOLE_TIME, served).await;
}

async fn respond(site: Site, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let reply = match route(site.which, request.method(), request.uri().path()) {
        Err(refused) => refused,
        Ok(page @ (Page::Health | Page::Ready)) => render(page, &site.view.look(), &site.view.registry),
        Ok(page) => {
            // The turn goes along: a client that leaves does not end the rendering.
            let turn = site.turn.lock_owned().await;
            let rendered = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                render(page, &site.view.look(), &site.view.registry)
            });
            rendered.await.unwrap_or_else(|error| Reply::failed(&error.to_string()))
        }
    };
    reply.into()
}
