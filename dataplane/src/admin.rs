//! The admin listeners, on a thread of their own: `/healthz`, `/readyz` and `/metrics` on one port, these and `/debug` on
//! another that is on loopback by default. HTTP is monoio-http's, which cannot be trusted with hostile bytes: a head is
//! read and checked by our own codec first, at most 16 KiB within 5 s on at most 64 connections, and each connection
//! carries one request.

mod answer;

use std::cell::Cell;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::http::{HeadLimits, HeadScanner, RequestFraming};
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream as _;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, PrefixedReadIo, Splitable};
use monoio::net::TcpStream;
use monoio_http::common::response::Response;
use monoio_http::h1::codec::decoder::RequestDecoder;
use monoio_http::h1::codec::encoder::GenericEncoder;
use monoio_http::h1::payload::{FixedPayload, Payload};

use crate::process::StartFailure;
use crate::rt::{self, Accepted, Listener, Post, StopToken};
use crate::shared::Shared;
use crate::tables::Tables;

pub use answer::{Ask, Reply, View, answer};

const CONNECTIONS: usize = 64;
const HEAD: HeadLimits = HeadLimits { head_bytes: 16 << 10, fields: 100, uri_bytes: 8 << 10 };
/// For a whole request and its answer.
const TIME: Duration = Duration::from_secs(5);

/// The running admin listeners.
#[derive(Debug)]
pub struct Admin {
    /// Where `/metrics` is.
    pub metrics: SocketAddr,
    /// Where `/debug` is.
    pub debug: SocketAddr,
    stop: Post<()>,
    thread: JoinHandle<()>,
}

/// Starts to listen on both addresses.
pub fn start(shared: &Arc<Shared>, tables: &Arc<Tables>) -> Result<Admin, StartFailure> {
    let (tell, told) = mpsc::sync_channel(1);
    let (stop, mut stopped) = rt::mailbox(1);
    let (shared, tables) = (shared.clone(), tables.clone());
    let main = move || {
        let driver = shared.driver;
        let failed = tell.clone();
        let ran = rt::run(driver, move || async move {
            let bound = bind(&shared);
            let Ok((metrics, debug)) = bound else {
                return drop(tell.send(bound.map(|_| unreachable!("it was an error"))));
            };
            let addresses = (metrics.local_addr(), debug.local_addr());
            // Nobody listens any more only if the start was given up.
            let _ = tell.send(Ok(addresses));
            let token = StopToken::new();
            for (listener, view) in [(metrics, View::Metrics), (debug, View::Debug)] {
                let site = Site { shared: shared.clone(), tables: tables.clone(), view, open: Rc::default() };
                rt::spawn(listen(listener, site, token.clone()));
            }
            stopped.recv().await;
            token.stop();
        });
        if let Err(error) = ran {
            drop(failed.send(Err(error.into())));
        }
    };
    let thread = std::thread::Builder::new().name("admin".into()).spawn(main);
    let thread = thread.map_err(|e| StartFailure::System("the admin thread", e))?;
    let told = told.recv().map_err(|_| StartFailure::System("the admin thread", io::Error::other("it ended")))?;
    let (metrics, debug) = told?;
    Ok(Admin { metrics, debug, stop, thread })
}

impl Admin {
    /// Ends the thread.
    pub fn stop(self) {
        // A full queue says the same already.
        let _ = self.stop.post(());
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

fn bind(shared: &Shared) -> Result<(Listener, Listener), StartFailure> {
    let listen = |address| Listener::bind(address, 64).map_err(|e| StartFailure::Listen(address, e));
    Ok((listen(shared.config.metrics)?, listen(shared.config.debug)?))
}

/// What one listener serves, with its own count of connections: who floods one must not silence the other.
#[derive(Clone)]
struct Site {
    shared: Arc<Shared>,
    tables: Arc<Tables>,
    view: View,
    open: Rc<Cell<usize>>,
}

async fn listen(mut listener: Listener, site: Site, stop: StopToken) {
    while let Accepted::Socket(fd, _) = listener.accept(&stop).await {
        if site.open.get() >= CONNECTIONS {
            continue; // Dropping the socket closes it.
        }
        site.open.set(site.open.get() + 1);
        let open = OpenCount(site.open.clone());
        let site = site.clone();
        rt::spawn(async move {
            let _open = open;
            // The connection closes either way, so nothing is lost with the wait.
            let _ = rt::timeout(TIME, serve(fd, site)).await;
        });
    }
}

struct OpenCount(Rc<Cell<usize>>);

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn serve(fd: OwnedFd, site: Site) -> io::Result<()> {
    let mut stream = TcpStream::from_std(fd.into())?;
    let Some(head) = checked_head(&mut stream).await? else {
        let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
        return stream.write_all(refusal).await.0.map(drop);
    };
    let (read, write) = stream.into_split();
    let mut requests = RequestDecoder::new(PrefixedReadIo::new(read, Cursor::new(head)));
    let Some(Ok(request)) = requests.next().await else { return Ok(()) };
    let ask = Ask {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
    };
    let reply = answer(&site.shared, &site.tables, site.view, &ask);
    let mut encoder = GenericEncoder::new(write);
    let body: Payload = Payload::Fixed(FixedPayload::new(Bytes::from(reply.body)));
    let response = http::Response::builder()
        .status(reply.status)
        .header("content-type", reply.content_type)
        .header("connection", "close")
        .body(body)
        .expect("the parts of a reply are valid");
    let response: Response<Payload> = response;
    encoder.send_and_flush(response).await.map_err(|e| io::Error::other(e.to_string()))
}

/// Reads a head and has our own codec check it; none where it is not one, or announces a body.
async fn checked_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut scanner = HeadScanner::default();
    loop {
        let (result, piece) = stream.read(Vec::with_capacity(2048)).await;
        let n = result?;
        head.extend_from_slice(&piece[..n]);
        match scanner.request(&head, &HEAD) {
            Ok(Some(parsed)) => {
                let alone = parsed.len as usize == head.len();
                let bodiless = matches!(parsed.framing, RequestFraming::None | RequestFraming::Length(0));
                return Ok((alone && bodiless).then_some(head));
            }
            Ok(None) if n > 0 => {}
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}
