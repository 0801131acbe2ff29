//! Connections that are held instead of used: idle ones, and clients that are slow on purpose.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::process::{self, Usage};
use crate::floor::framing::{Framing, Kind, Progress};

/// Connections from one source address: well below the range of ephemeral ports.
const PER_SOURCE: usize = 8_000;
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(10);
/// Before idle connections are held.
const WARM_UP: usize = 4_096;
/// Bytes of a body that a slow client announces.
const SLOW_BODY: usize = 64 * 1024;

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// One request each, then nothing.
    Idle,
    /// A head that comes byte by byte and never ends.
    SlowHead,
    /// A body that comes byte by byte.
    SlowBody,
    /// A request whose answer is never read.
    NoRead,
}

/// A run of held connections.
#[derive(Debug, Clone, Serialize)]
pub struct HoldPlan {
    /// The proxy.
    pub target: SocketAddr,
    /// The process whose memory is measured.
    pub pid: u32,
    /// What is held.
    pub hold: Hold,
    /// How many.
    pub connections: usize,
    /// The request that is sent, whole or in part.
    pub request: Vec<u8>,
    /// How long they are held before the second look.
    pub time: Duration,
    /// Between two bytes of a slow client.
    pub drip: Duration,
}

/// What holding them cost.
#[derive(Debug, Clone, Serialize)]
pub struct HoldReport {
    /// What was held.
    pub hold: Hold,
    /// How many were asked for.
    pub asked: usize,
    /// How many were made and (idle ones) answered.
    pub held: usize,
    /// How many the peer had ended by the end.
    pub ended_by_peer: usize,
    /// Before the first connection (idle: after one warm-up connection).
    pub before: Usage,
    /// After the time.
    pub after: Usage,
    /// Growth of resident memory per connection.
    pub rss_bytes_per_connection: f64,
}

/// Opens, holds, looks, closes.
pub fn run(plan: &HoldPlan) -> anyhow::Result<HoldReport> {
    // The first ones pay for what is made once, and for what is kept of the last requests, such as decisions that can be asked for.
    let first = if plan.hold == Hold::Idle { WARM_UP } else { 1 };
    (0..first).try_for_each(|index| open(plan, index).map(drop)).context("a warm-up connection")?;
    let before = process::usage(plan.pid)?;
    let mut held = Vec::new();
    for index in 0..plan.connections {
        match open(plan, index) {
            Ok(stream) => held.push(stream),
            Err(error) if held.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    drip(plan, &mut held);
    let after = process::usage(plan.pid)?;
    let ended = held.iter().filter(|stream| peer_ended(stream)).count();
    let growth = after.rss_kib.saturating_sub(before.rss_kib) as f64 * 1024.0;
    Ok(HoldReport {
        hold: plan.hold,
        asked: plan.connections,
        held: held.len(),
        ended_by_peer: ended,
        before,
        after,
        rss_bytes_per_connection: growth / held.len().max(1) as f64,
    })
}

/// Other addresses for each target: a port stays taken for a minute after its connection, and the next target's connections
/// would have none left.
fn source(index: usize, target: SocketAddr) -> Option<IpAddr> {
    let block = u8::try_from(index / PER_SOURCE % 200).unwrap_or(0);
    let of_target = u8::try_from(target.port() % 200).unwrap_or(0);
    let address = IpAddr::V4(Ipv4Addr::new(127, 1, of_target, block + 1));
    target.ip().is_loopback().then_some(address).filter(|_| target.is_ipv4())
}

fn open(plan: &HoldPlan, index: usize) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(plan.target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nodelay(true)?;
    if let Some(source) = source(index, plan.target) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    if plan.hold == Hold::NoRead {
        socket.set_recv_buffer_size(4096)?;
    }
    socket.connect_timeout(&plan.target.into(), CONNECT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    match plan.hold {
        Hold::Idle => {
            stream.write_all(&plan.request)?;
            read_answer(&mut stream)?;
        }
        Hold::NoRead => stream.write_all(&plan.request)?,
        Hold::SlowHead => stream.write_all(b"POST ")?,
        Hold::SlowBody => {
            write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\n", plan.target)?;
            write!(stream, "Content-Type: application/json\r\nContent-Length: {SLOW_BODY}\r\n\r\n")?;
        }
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn read_answer(stream: &mut TcpStream) -> anyhow::Result<()> {
    let (mut framing, mut buffer) = (Framing::new(Kind::Response), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut buffer)?;
        anyhow::ensure!(read > 0, "the peer closed before its answer ended");
        if let Progress::Done(_) = framing.feed(&buffer[..read], |_| ())? {
            let status = framing.head().map_or(0, |head| head.status);
            anyhow::ensure!((200..300).contains(&status), "status {status}");
            return Ok(());
        }
    }
}

/// Holds the connections for the plan's time; each slow one gets a byte per `drip`. They take turns, as clients that know
/// nothing of each other do: all in one instant would be a burst, and a burst is not what slow clients are.
fn drip(plan: &HoldPlan, held: &mut [TcpStream]) {
    let (begin, end) = (Instant::now(), Instant::now() + plan.time);
    if matches!(plan.hold, Hold::Idle | Hold::NoRead) || held.is_empty() {
        return std::thread::sleep(plan.time);
    }
    let turn = plan.drip / u32::try_from(held.len()).unwrap_or(u32::MAX);
    let mut given = 0;
    while Instant::now() < end {
        let due = begin.elapsed().as_nanos() / turn.as_nanos().max(1);
        while given < due {
            let index = usize::try_from(given % held.len() as u128).expect("less than a length");
            // One that the peer has closed is counted at the end.
            let _ = held[index].write(b"x");
            given += 1;
        }
        std::thread::sleep(turn.max(Duration::from_millis(1)));
    }
}

fn peer_ended(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}
