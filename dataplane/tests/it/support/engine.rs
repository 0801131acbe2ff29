//! Engines of scripted bytes, on threads: each request goes to a script, which writes what it likes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::wire::{Head, answer, dechunk, find};
use super::{PATIENCE, until};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Of the connection, counted from 1.
    pub(crate) connection: usize,
}

impl Seen {
    /// The method and the target.
    pub(crate) fn target(&self) -> String {
        self.head.first_line().trim_end_matches(" HTTP/1.1").to_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What becomes of the connection after a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Close,
    Reset,
    /// Waits until the other side has left, and notes when.
    AwaitGone,
}

/// The engine's side of a connection.
pub(crate) struct Conn {
    stream: TcpStream,
    number: usize,
    have: Vec<u8>,
}

impl Conn {
    /// Writes; the other side may be gone.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    fn read(&mut self) -> usize {
        let mut piece = [0; 64 << 10];
        let n = self.stream.read(&mut piece).unwrap_or(0);
        self.have.extend_from_slice(&piece[..n]);
        n
    }

    /// Reads a head, leaving the body.
    pub(crate) fn head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = find(&self.have, b"\r\n\r\n") {
                break at + 4;
            }
            if self.read() == 0 {
                return None;
            }
        };
        let rest = self.have.split_off(end);
        Some(Head(String::from_utf8_lossy(&std::mem::replace(&mut self.have, rest)).into_owned()))
    }

    fn body(&mut self, head: &Head) -> Option<Vec<u8>> {
        let whole = |have: &[u8]| match head.field("content-length") {
            Some(length) => Some(length.parse().unwrap()).filter(|n| have.len() >= *n),
            None if head.field("transfer-encoding").is_some() => Some(dechunk(have)).filter(|d| d.2).map(|d| d.1),
            None => Some(0),
        };
        loop {
            if let Some(end) = whole(&self.have) {
                let rest = self.have.split_off(end);
                let raw = std::mem::replace(&mut self.have, rest);
                return Some(if head.field("transfer-encoding").is_some() { dechunk(&raw).0 } else { raw });
            }
            if self.read() == 0 {
                return None;
            }
        }
    }

    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

type Script = dyn Fn(&mut Conn, &Seen) -> Then + Send + Sync;

struct Inner {
    seen: Mutex<Vec<Seen>>,
    gone: Mutex<Vec<Instant>>,
    stop: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    greet: Box<dyn Fn(&mut Conn) -> bool + Send + Sync>,
    script: Box<Script>,
}

/// A running engine; dropping it closes everything.
pub(crate) struct Engine {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

impl Engine {
    /// Answers each whole request by the script.
    pub(crate) fn start(script: impl Fn(&mut Conn, &Seen) -> Then + Send + Sync + 'static) -> Self {
        Self::greeting(|_| true, script)
    }

    /// As [`start`](Self::start), doing something first with each connection; false ends it.
    pub(crate) fn greeting(
        greet: impl Fn(&mut Conn) -> bool + Send + Sync + 'static,
        script: impl Fn(&mut Conn, &Seen) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            seen: Mutex::default(),
            gone: Mutex::default(),
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            greet: Box::new(greet),
            script: Box::new(script),
        });
        let shared = inner.clone();
        std::thread::spawn(move || accept(&listener, &shared));
        Self { address, inner }
    }

    /// Always this answer, on connections that stay open.
    pub(crate) fn fixed(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |conn, _| {
            conn.write(&bytes);
            Then::Keep
        })
    }

    /// Answers 200 with `{"from":"<name>"}`.
    pub(crate) fn named(name: &str) -> Self {
        Self::fixed(answer("200 OK", &format!(r#"{{"from":"{name}"}}"#)))
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The last request; it must be there.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("the engine saw a request")
    }

    /// How many requests so far.
    pub(crate) fn count(&self) -> usize {
        self.inner.seen.lock().unwrap().len()
    }

    /// How many connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(SeqCst)
    }

    /// How many are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.inner.open.lock().unwrap().len()
    }

    /// From now on it refuses connections; those that are open stay.
    pub(crate) fn refuse(&self) {
        self.inner.stop.store(true, SeqCst);
        until("the engine refuses connections", || TcpStream::connect_timeout(&self.address, PATIENCE).is_err());
    }

    /// Waits for so many requests.
    pub(crate) fn wait_requests(&self, n: usize) {
        until("a request at the engine", || self.count() >= n);
    }

    /// When the other side left, once it has done so `n` times.
    pub(crate) fn wait_gone(&self, n: usize) -> Instant {
        until("the engine sees the other side leave", || self.inner.gone.lock().unwrap().len() >= n);
        self.inner.gone.lock().unwrap()[n - 1]
    }

    /// Closes all connections silently, as Triton and uvicorn do.
    pub(crate) fn close_connections(&self) {
        for stream in self.inner.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inner.stop.store(true, SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        self.close_connections();
    }
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if inner.stop.load(SeqCst) {
            return;
        }
        stream.set_nodelay(true).unwrap();
        let number = inner.connections.fetch_add(1, SeqCst) + 1;
        inner.open.lock().unwrap().push(stream.try_clone().unwrap());
        let inner = inner.clone();
        std::thread::spawn(move || serve(Conn { stream, number, have: Vec::new() }, &inner));
    }
}

fn serve(mut conn: Conn, inner: &Inner) {
    let resets = (inner.greet)(&mut conn) && talk(&mut conn, inner);
    // The copy kept for closing must not hold the connection open.
    let peer = conn.stream.peer_addr().ok();
    inner.open.lock().unwrap().retain(|s| s.peer_addr().ok() != peer);
    if resets {
        conn.reset();
    }
}

/// Serves a connection; whether it ends by a reset.
fn talk(conn: &mut Conn, inner: &Inner) -> bool {
    while let Some(head) = conn.head() {
        let Some(body) = conn.body(&head) else { return false };
        let seen = Seen { head, body, connection: conn.number };
        inner.seen.lock().unwrap().push(seen.clone());
        match (inner.script)(conn, &seen) {
            Then::Keep => {}
            Then::Close => return false,
            Then::Reset => return true,
            Then::AwaitGone => {
                while conn.read() > 0 {}
                inner.gone.lock().unwrap().push(Instant::now());
                return false;
            }
        }
    }
    false
}

/// An address that refuses connections for as long as this lives.
pub(crate) struct Refusing {
    pub(crate) address: SocketAddr,
    _bound: socket2::Socket,
}

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, _bound: socket }
    }
}
