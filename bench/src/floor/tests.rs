//! The floor against real sockets: what goes in comes out, and upstream connections outlive clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Config, Relay, Stop};

const LIMIT: Duration = Duration::from_secs(5);

/// An engine that answers every request head of a connection with what `answer` says, and counts its connections.
/// It ends with its listener's process; each connection ends with its peer.
pub(crate) fn engine(answer: impl Fn(&[u8]) -> Vec<u8> + Clone + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            std::thread::spawn(move || serve(stream, answer));
        }
    });
    (address, count)
}

fn serve(mut stream: TcpStream, answer: impl Fn(&[u8]) -> Vec<u8>) {
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 65536]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..read]);
        while let Some((request, rest)) = whole(&seen) {
            let _ = stream.write_all(&answer(&request));
            seen = rest;
        }
    }
}

/// The first whole request with a Content-Length, and the rest.
fn whole(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
    let end: usize = head + length;
    (bytes.len() >= end).then(|| (bytes[..end].to_vec(), bytes[end..].to_vec()))
}

fn echo(request: &[u8]) -> Vec<u8> {
    let head = memchr::memmem::find(request, b"\r\n\r\n").unwrap() + 4;
    let body = &request[head..];
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn stream(_: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for n in 0..200 {
        let event = format!("data: {n}\n\n");
        answer.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

fn until_close(_: &[u8]) -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec()
}

pub(crate) fn with_relay(upstream: SocketAddr, test: impl FnOnce(SocketAddr)) {
    let stop = Stop::new().unwrap();
    let config = Config { listen: "127.0.0.1:0".parse().unwrap(), upstreams: vec![upstream], threads: 1 };
    let relay = Relay::bind(&config, &stop).unwrap();
    let address = relay.local_addr();
    std::thread::scope(|scope| {
        let running = scope.spawn(move || relay.run());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(address)));
        stop.pull();
        running.join().unwrap().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

fn post(body: &[u8]) -> Vec<u8> {
    [format!("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// Sends a request and expects exactly these bytes back.
fn exchange(stream: &mut TcpStream, request: &[u8], expected: &[u8]) {
    stream.write_all(request).unwrap();
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == expected, "{:.200} != {:.200}", String::from_utf8_lossy(&got), String::from_utf8_lossy(expected));
}

#[test]
fn bytes_are_equal_and_connections_are_kept() {
    let (upstream, count) = engine(echo);
    with_relay(upstream, |address| {
        let mut stream = client(address);
        for size in [0, 1, 1000, 65_536, 200_000] {
            let request = post(&vec![b'x'; size]);
            exchange(&mut stream, &request, &echo(&request));
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn an_upstream_connection_serves_one_client_after_another() {
    let (upstream, count) = engine(echo);
    with_relay(upstream, |address| {
        for n in 0..50 {
            let request = post(format!("request {n}").as_bytes());
            let mut stream = client(address);
            exchange(&mut stream, &request, &echo(&request));
            // Our end of file reaches the relay before the next connection does; its answer says that it was seen.
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn chunked_streams_and_pipelined_requests_pass() {
    let (upstream, count) = engine(stream);
    with_relay(upstream, |address| {
        let mut connection = client(address);
        for _ in 0..20 {
            exchange(&mut connection, &post(b"p"), &stream(b""));
        }
        exchange(&mut connection, &post(b"p").repeat(5), &stream(b"").repeat(5));
    });
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_closing_engine_closes_the_client() {
    let (upstream, _) = engine(until_close);
    with_relay(upstream, |address| {
        let mut stream = client(address);
        exchange(&mut stream, &post(b"x"), &until_close(b""));
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    });
}

#[test]
fn a_reader_that_falls_behind_gets_every_byte() {
    let (upstream, _) = engine(echo);
    with_relay(upstream, |address| {
        let mut stream = client(address);
        let request = post(&vec![b'y'; 8 << 20]);
        let mut writer = stream.try_clone().unwrap();
        let sent = request.clone();
        // The whole request goes out before anything is read, so both of the relay's directions fill up in turn.
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        writing.join().unwrap().unwrap();
        let mut got = vec![0; echo(&request).len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == echo(&request));
    });
}
