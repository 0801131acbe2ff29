//! The bare relay on `dataplane::rt`: HTTP/1.1 messages are framed and moved, nothing is decided. It shows what the
//! runtime itself costs beside a hand-written epoll relay, so it takes the tricks of the proxy and none of its work.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use dataplane::rt::{
    self, Accepted, Driver, DriverChoice, Either, Listener, PostedOutcome, PostedRead, StopToken, Stream, WriteHalf,
    select2,
};
use memchr::memmem;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What one read takes of a response or of a small request.
const ROOM: usize = 16 * 1024;
const MESSAGE_MAX: usize = 64 << 20;
const IDLE_MAX: usize = 512;
const CONNECT: Duration = Duration::from_secs(5);
/// Below this a body is read as it comes; above, one wait for all of it is cheaper.
const WAIT_FROM: usize = 8 * 1024;

#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where to send requests, in turn.
    #[arg(long, value_delimiter = ',', required = true)]
    upstream: Vec<SocketAddr>,
    /// How many cores.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Which driver.
    #[arg(long, value_enum, default_value = "auto")]
    driver: DriverArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum DriverArg {
    Auto,
    Uring,
    Epoll,
}

/// What the connections of a core share.
struct Core {
    upstreams: Vec<SocketAddr>,
    next: Cell<usize>,
    idle: Vec<RefCell<Vec<Stream>>>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let driver = rt::probe(match args.driver {
        DriverArg::Auto => DriverChoice::Auto,
        DriverArg::Uring => DriverChoice::Uring,
        DriverArg::Epoll => DriverChoice::Epoll,
    })?;
    eprintln!("relay-monoio: {driver}, {} threads, on {}", args.threads, args.listen);
    let threads: Vec<_> = (0..args.threads.max(1))
        .map(|_| {
            let (listen, upstreams) = (args.listen, args.upstream.clone());
            std::thread::spawn(move || core(driver, listen, upstreams))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a core only ends by an error")?;
    }
    Ok(())
}

fn core(driver: Driver, listen: SocketAddr, upstreams: Vec<SocketAddr>) -> anyhow::Result<()> {
    rt::run(driver, || async move {
        let mut listener = Listener::bind(listen, 4096).context("cannot listen")?;
        let idle = upstreams.iter().map(|_| RefCell::default()).collect();
        let core = Rc::new(Core { upstreams, next: Cell::new(0), idle });
        let stop = StopToken::new();
        while let Accepted::Socket(fd, _) = listener.accept(&stop).await {
            let client = Stream::from_fd(fd)?;
            rt::spawn(connection(core.clone(), client));
        }
        Ok(())
    })?
}

/// Serves requests until one side leaves. Errors close the connection, which is all that a relay can say.
async fn connection(core: Rc<Core>, client: Stream) {
    let (read, mut write) = client.split();
    let mut posted = read.post_read(Vec::with_capacity(ROOM));
    let mut spare = Vec::with_capacity(ROOM);
    while let Ok(Some((request, close))) = request(posted).await {
        let (read, bytes) = request;
        let which = core.next.get() % core.upstreams.len();
        core.next.set(which + 1);
        let Ok((mut upstream, bytes)) = send(&core, which, bytes).await else { return };
        let mut bytes = bytes;
        bytes.clear();
        let mut watch = read.post_read(bytes);
        spare.clear();
        match relay(&mut upstream, &mut write, &mut watch, spare).await {
            Ok((keep, buf)) => {
                spare = buf;
                let mut idle = core.idle[which].borrow_mut();
                if keep && idle.len() < IDLE_MAX {
                    idle.push(upstream);
                }
            }
            Err(_) => return,
        }
        if close {
            return;
        }
        posted = watch;
    }
}

type Request = ((rt::ReadHalf, Vec<u8>), bool);

/// One whole request, and whether the client wants the connection closed after it.
async fn request(posted: PostedRead) -> io::Result<Option<Request>> {
    let (mut read, outcome) = posted.await;
    let PostedOutcome::Read(result, mut buf) = outcome else { return Ok(None) };
    if result? == 0 {
        return Ok(None);
    }
    loop {
        if let Some(head) = Head::find(&buf) {
            let total = head.len + usize::try_from(head.length.unwrap_or(0)).unwrap_or(usize::MAX);
            if total > MESSAGE_MAX {
                return Ok(None);
            }
            buf = rest(&mut read, buf, total).await?;
            return Ok(Some(((read, buf), head.close)));
        }
        let (result, more) = read.read(buf).await;
        buf = more;
        if result? == 0 || buf.len() > ROOM {
            return Ok(None);
        }
    }
}

/// Reads on until `total` bytes are there.
async fn rest(read: &mut rt::ReadHalf, mut buf: Vec<u8>, total: usize) -> io::Result<Vec<u8>> {
    buf.reserve_exact(total.saturating_sub(buf.len()));
    while buf.len() < total {
        let missing = total - buf.len();
        if missing >= WAIT_FROM {
            read.wait_bytes(missing).await?;
        }
        let (result, more) = read.read(buf).await;
        buf = more;
        if result? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buf)
}

/// Sends a request on an idle connection that is alive, or on a new one.
async fn send(core: &Core, which: usize, bytes: Vec<u8>) -> io::Result<(Stream, Vec<u8>)> {
    let idle = || core.idle[which].borrow_mut().pop();
    let mut upstream = loop {
        match idle() {
            Some(stream) if stream.is_alive() => break stream,
            Some(_) => {}
            None => break Stream::connect(core.upstreams[which], CONNECT).await?,
        }
    };
    let (result, bytes) = upstream.write_all(bytes).await;
    result.map(|()| (upstream, bytes))
}

/// Moves one response; returns whether the upstream connection can be used again.
async fn relay(
    upstream: &mut Stream,
    write: &mut WriteHalf,
    watch: &mut PostedRead,
    mut buf: Vec<u8>,
) -> io::Result<(bool, Vec<u8>)> {
    let mut frame: Option<(Frame, bool)> = None;
    loop {
        let mut reading = pin!(upstream.read(buf));
        let (result, bytes) = match select2(&mut reading, watch).await {
            Either::Left(read) => read,
            // It left, or it sent more than a relay without queues can keep.
            Either::Right(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        buf = bytes;
        let read = result?;
        let mut ended = read == 0;
        if frame.is_none()
            && let Some(head) = Head::find(&buf)
        {
            let mut body = head.frame();
            ended |= body.feed(&buf[head.len..]);
            frame = Some((body, !head.close));
        } else if let Some((body, _)) = &mut frame {
            ended |= body.feed(&buf);
        } else if !ended {
            continue;
        }
        let (result, mut bytes) = write.write_all(buf).await;
        result?;
        bytes.clear();
        buf = bytes;
        if ended {
            return Ok((read > 0 && frame.is_some_and(|(body, keep)| keep && body.is_delimited()), buf));
        }
    }
}

/// What a relay needs to know of a head.
struct Head {
    len: usize,
    length: Option<u64>,
    chunked: bool,
    close: bool,
}

impl Head {
    fn find(buf: &[u8]) -> Option<Self> {
        let len = memmem::find(buf, b"\r\n\r\n")? + 4;
        let mut head = Self { len, length: None, chunked: false, close: false };
        for line in buf[..len].split(|&byte| byte == b'\n') {
            let line = line.trim_ascii();
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    head.length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => head.chunked = true,
                10 if name.eq_ignore_ascii_case(b"connection") => head.close = value.eq_ignore_ascii_case(b"close"),
                _ => {}
            }
        }
        Some(head)
    }

    fn frame(&self) -> Frame {
        match (self.chunked, self.length) {
            (true, _) => Frame::Chunks(Chunk::Size(0)),
            (false, Some(left)) => Frame::Length(left),
            (false, None) => Frame::UntilClose,
        }
    }
}

/// How far a body has come.
enum Frame {
    Length(u64),
    Chunks(Chunk),
    UntilClose,
}

/// Where in a chunked body the next byte is.
enum Chunk {
    /// In a size line; the value so far.
    Size(u64),
    /// In a chunk; so many bytes of it and of its CRLF are to come.
    Data(u64),
    /// In the empty line after the last chunk.
    Last(u64),
}

impl Frame {
    fn is_delimited(&self) -> bool {
        !matches!(self, Self::UntilClose)
    }

    /// Takes bytes; true once the body has ended.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::UntilClose => false,
            Self::Length(left) => {
                *left = left.saturating_sub(bytes.len() as u64);
                *left == 0
            }
            Self::Chunks(chunk) => chunk.feed(bytes),
        }
    }
}

impl Chunk {
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((&first, tail)) = bytes.split_first() {
            match self {
                Self::Size(size) => {
                    bytes = tail;
                    match (first as char).to_digit(16) {
                        Some(digit) => *size = (*size << 4) | u64::from(digit),
                        None if first == b'\n' && *size == 0 => *self = Self::Last(2),
                        None if first == b'\n' => *self = Self::Data(*size + 2),
                        None => {}
                    }
                }
                Self::Data(left) | Self::Last(left) => {
                    let taken = (*left).min(bytes.len() as u64);
                    *left -= taken;
                    bytes = &bytes[taken as usize..];
                    match self {
                        Self::Last(0) => return true,
                        Self::Data(0) => *self = Self::Size(0),
                        _ => return false,
                    }
                }
            }
        }
        false
    }
}
