//! A scripted engine on plain sockets that keeps every byte that reaches it.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::client::PATIENCE;

/// What a connection does once it has a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// One write.
    Send(Vec<u8>),
    /// One write each, with room between them for the other side to read.
    Pieces(Vec<Vec<u8>>),
    /// So many milliseconds of silence.
    Pause(u64),
    /// Silence until the client has seen what it waited for, or patience ends.
    Until(Arc<AtomicBool>),
    /// Ends the connection in order.
    Shut,
    /// Ends it with a reset.
    Reset,
    /// Writes until nobody takes it any more, at most so many bytes; the log keeps how many were taken.
    Flood(usize),
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Which connection, counted from 1.
    pub(crate) connection: u64,
    /// Head and body.
    pub(crate) bytes: Vec<u8>,
}

impl Request {
    pub(crate) fn head(&self) -> String {
        let end = memchr::memmem::find(&self.bytes, b"\r\n\r\n").map_or(self.bytes.len(), |n| n + 4);
        String::from_utf8_lossy(&self.bytes[..end]).into_owned()
    }

    pub(crate) fn body(&self) -> &[u8] {
        let end = memchr::memmem::find(&self.bytes, b"\r\n\r\n").map_or(self.bytes.len(), |n| n + 4);
        &self.bytes[end..]
    }
}

#[derive(Debug, Default)]
struct State {
    banner: Vec<u8>,
    /// Written once a request has begun, before its body was read; then the rest is left unread for a while.
    early: Vec<u8>,
    scripts: VecDeque<Vec<Act>>,
    requests: Vec<Request>,
    received: usize,
    flooded: usize,
    /// Requests for which all was written.
    played: usize,
    open: HashMap<u64, TcpStream>,
    connections: u64,
}

/// The engine. Its threads end with its connections; its listener lives as long as the process.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Engine {
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        // What a slow reader leaves in this process's send buffer would hide what the proxy holds.
        SockRef::from(&listener).set_send_buffer_size(16 << 10)?;
        let engine = Self { address: listener.local_addr()?, state: Arc::default() };
        let accepting = engine.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.take(stream);
            }
        });
        Ok(engine)
    }

    /// Ends all connections and forgets everything.
    pub(crate) fn reset(&self) {
        self.state().open.values().for_each(|s| drop(s.shutdown(Shutdown::Both)));
        let end = Instant::now() + Duration::from_secs(5);
        while !self.state().open.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
        let mut state = self.state();
        let connections = state.connections;
        *state = State { connections, ..State::default() };
    }

    /// Written to every new connection before anything is read.
    pub(crate) fn banner(&self, bytes: &[u8]) {
        self.state().banner = bytes.to_vec();
    }

    /// Answers the next request when its head has come, and reads no more of it.
    pub(crate) fn early(&self, bytes: &[u8]) {
        self.state().early = bytes.to_vec();
    }

    /// What the next requests get, in order; those after them are answered with their token.
    pub(crate) fn script(&self, acts: Vec<Act>) {
        self.state().scripts.push_back(acts);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Bytes that came, whole requests or not.
    pub(crate) fn received(&self) -> usize {
        self.state().received
    }

    /// Bytes that a flood could write.
    pub(crate) fn flooded(&self) -> usize {
        self.state().flooded
    }

    /// Waits until all was written that is to follow the first request.
    pub(crate) fn wait_played(&self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(5);
        while self.state().played == 0 {
            if Instant::now() > end {
                return Err("the engine has not written all".to_owned());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.state().open.len()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no case panics while it holds this")
    }

    fn take(&self, stream: TcpStream) {
        let Ok(kept) = stream.try_clone() else { return };
        drop(stream.set_nodelay(true));
        let mut state = self.state();
        state.connections += 1;
        let id = state.connections;
        state.open.insert(id, kept);
        let banner = state.banner.clone();
        drop(state);
        let engine = self.clone();
        std::thread::spawn(move || {
            let mut stream = stream;
            let began = banner.is_empty() || stream.write_all(&banner).is_ok();
            while began && engine.serve(&mut stream, id) {}
            engine.state().open.remove(&id);
        });
    }

    /// One request; false when the connection has ended.
    fn serve(&self, stream: &mut TcpStream, id: u64) -> bool {
        let mut bytes = Vec::new();
        let mut buf = vec![0; 64 << 10];
        while whole(&bytes).is_none() {
            let Ok(n @ 1..) = stream.read(&mut buf) else { return false };
            bytes.extend_from_slice(&buf[..n]);
            self.state().received += n;
            let early = std::mem::take(&mut self.state().early);
            if !early.is_empty() {
                self.state().requests.push(Request { connection: id, bytes: Vec::new() });
                drop(stream.write_all(&early));
                std::thread::sleep(Duration::from_millis(300));
                return false;
            }
        }
        let acts = {
            let mut state = self.state();
            let answer = echo(&bytes);
            state.requests.push(Request { connection: id, bytes });
            state.scripts.pop_front().unwrap_or_else(|| vec![Act::Send(answer)])
        };
        let goes_on = acts.iter().all(|act| self.act(stream, id, act));
        self.state().played += 1;
        goes_on
    }

    fn act(&self, stream: &mut TcpStream, id: u64, act: &Act) -> bool {
        match act {
            Act::Send(bytes) => stream.write_all(bytes).is_ok(),
            Act::Pieces(pieces) => pieces.iter().all(|piece| {
                let sent = stream.write_all(piece).is_ok();
                // The other side reads what it has before more comes.
                std::thread::sleep(Duration::from_micros(300));
                sent
            }),
            Act::Pause(ms) => {
                std::thread::sleep(Duration::from_millis(*ms));
                true
            }
            Act::Until(seen) => {
                let end = Instant::now() + PATIENCE;
                while !seen.load(Acquire) && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(1));
                }
                seen.load(Acquire)
            }
            Act::Shut => false,
            Act::Reset => {
                self.state().open.remove(&id);
                drop(SockRef::from(&*stream).set_linger(Some(Duration::ZERO)));
                false
            }
            Act::Flood(most) => self.flood(stream, *most),
        }
    }

    fn flood(&self, stream: &mut TcpStream, most: usize) -> bool {
        drop(stream.set_write_timeout(Some(Duration::from_millis(1_000))));
        let piece = vec![b'x'; 16 << 10];
        let mut total = 0;
        while total < most {
            match stream.write(&piece) {
                Ok(n) => total += n,
                Err(_) => break,
            }
        }
        self.state().flooded += total;
        false
    }
}

/// Whether the bytes are a whole request: by its content-length, which is how the proxy frames.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length: usize =
        text.lines().find_map(|l| l.strip_prefix("content-length:")).map_or(0, |v| v.trim().parse().unwrap_or(0));
    (bytes.len() >= head + length).then_some(head + length)
}

/// An answer that holds the request's token.
fn echo(request: &[u8]) -> Vec<u8> {
    let head = String::from_utf8_lossy(request);
    let token = head.lines().find_map(|l| l.strip_prefix("x-token: ")).unwrap_or("none");
    answer(200, &format!("{{\"echo\":\"{token}\"}}"))
}

/// A plain answer with a length.
pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into()
}
