//! The admin listeners, on a thread of their own: `/healthz`, `/readyz` and `/metrics` on one port, these and `/debug` on
//! another that is on loopback by default, or on a unix socket, where this machine's ports are others' too. HTTP is monoio-http's, which cannot be trusted with hostile bytes: a head is
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

use crate::config::AdminPlaces;
use crate::process::StartFailure;
use crate::rt::{self, Accepted, Listener, Post, SocketFile, StopToken, UnixListener};
use crate::shared::Shared;
use crate::tables::Tables;

pub use answer::{Ask, Reply, View, answer};

/// Of each listener; so many more may wait.
const CONNECTIONS: usize = 64;
const BACKLOG: i32 = 64;
const HEAD: HeadLimits = HeadLimits { head_bytes: 16 << 10, fields: 100, uri_bytes: 8 << 10 };
/// For a whole request and its answer.
const TIME: Duration = Duration::from_secs(5);

/// The running admin listeners.
#[derive(Debug)]
pub struct Admin {
    /// Where they are.
    pub bound: Bound,
    stop: Post<()>,
    thread: JoinHandle<()>,
}

/// Where admin listeners are, with the ports that the kernel chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Where `/metrics` is.
    pub metrics: Option<SocketAddr>,
    /// Where `/debug` is.
    pub debug: Option<SocketAddr>,
}

/// Starts to listen on all of its places.
pub fn start(shared: &Arc<Shared>, tables: &Arc<Tables>) -> Result<Admin, StartFailure> {
    let (tell, told) = mpsc::sync_channel(1);
    let (stop, mut stopped) = rt::mailbox(1);
    let (shared, tables) = (shared.clone(), tables.clone());
    let main = move || {
        let driver = shared.driver;
        let failed = tell.clone();
        let ran = rt::run(driver, move || async move {
            let doors = match Doors::open(&shared.config.admin) {
                Ok(doors) => doors,
                Err(failure) => return drop(tell.send(Err(failure))),
            };
            // Nobody listens any more only if the start was given up.
            let _ = tell.send(Ok(doors.bound()));
            let token = StopToken::new();
            let file = doors.serve(&shared, &tables, &token);
            stopped.recv().await;
            token.stop();
            drop(file);
        });
        if let Err(error) = ran {
            drop(failed.send(Err(error.into())));
        }
    };
    let thread = std::thread::Builder::new().name("admin".into()).spawn(main);
    let thread = thread.map_err(|e| StartFailure::System("the admin thread", e))?;
    let told = told.recv().map_err(|_| StartFailure::System("the admin thread", io::Error::other("it ended")))?;
    Ok(Admin { bound: told?, stop, thread })
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

/// The listeners, before anything is served.
struct Doors {
    metrics: Option<Listener>,
    debug: Option<Listener>,
    socket: Option<(UnixListener, SocketFile)>,
}

impl Doors {
    fn open(places: &AdminPlaces) -> Result<Self, StartFailure> {
        let port = |address: Option<SocketAddr>| {
            let bound =
                address.map(|address| Listener::bind(address, BACKLOG).map_err(|e| StartFailure::Listen(address, e)));
            bound.transpose()
        };
        let socket = places
            .socket
            .as_deref()
            .map(|path| UnixListener::bind(path, BACKLOG).map_err(|e| StartFailure::Socket(path.to_owned(), e)));
        Ok(Self { metrics: port(places.metrics)?, debug: port(places.debug)?, socket: socket.transpose()? })
    }

    fn bound(&self) -> Bound {
        let address = |listener: &Option<Listener>| listener.as_ref().map(Listener::local_addr);
        Bound { metrics: address(&self.metrics), debug: address(&self.debug) }
    }

    /// Serves until the token is stopped. What is returned is to be dropped then.
    fn serve(self, shared: &Arc<Shared>, tables: &Arc<Tables>, stop: &StopToken) -> Option<SocketFile> {
        let Self { metrics, debug, socket } = self;
        let site = |view| Site { shared: shared.clone(), tables: tables.clone(), view, open: Rc::default() };
        for (listener, view) in [(metrics, View::Metrics), (debug, View::Debug)] {
            let (Some(mut listener), site, stop) = (listener, site(view), stop.clone()) else { continue };
            rt::spawn(async move {
                while let Accepted::Socket(fd, _) = listener.accept(&stop).await {
                    site.take(fd);
                }
            });
        }
        let (mut listener, file) = socket?;
        let (site, stop) = (site(View::Debug), stop.clone());
        rt::spawn(async move {
            while let Some(fd) = listener.accept(&stop).await {
                site.take(fd);
            }
        });
        Some(file)
    }
}

/// What one listener serves, with its own count of connections: who floods one must not silence the other.
#[derive(Clone)]
struct Site {
    shared: Arc<Shared>,
    tables: Arc<Tables>,
    view: View,
    open: Rc<Cell<usize>>,
}

impl Site {
    /// Answers on a connection, unless there are too many.
    fn take(&self, fd: OwnedFd) {
        if self.open.get() >= CONNECTIONS {
            return; // Dropping the socket closes it.
        }
        self.open.set(self.open.get() + 1);
        let open = OpenCount(self.open.clone());
        let site = self.clone();
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
    // A unix socket takes the same calls.
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
