//! The end: readiness first, then what runs finishes, then exit 0. And nothing is left open before it.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::engine::{Conn, Engine, Seen, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::process::Process;
use crate::support::snapshot::serving;
use crate::support::until;
use crate::support::wire::{EVENTS, LAST, answer, chat, chunk, get, stream};

on_every_driver!(
    draining_drops_nobody,
    readiness_can_be_kept,
    a_second_signal_cuts,
    a_deadline_cuts,
    descriptors_are_given_back,
    who_takes_over_a_port_resets_nobody,
    who_gives_a_port_back_resets_nobody,
);

/// Of a port that is taken over, and of the processes that have it one after the other.
const CLIENTS: usize = 4;
const TAKE_OVERS: usize = 5;
const CORES: usize = 2;
const LAST_OF_A_CONNECTION: &str = "GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

const EVENT: &str = "data: {\"choices\":[]}\n\n";

/// Answers at once; a stream ends when it is told to, unless nobody does.
fn engine() -> (Engine, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let engine = Engine::start(move |conn: &mut Conn, seen: &Seen| {
        if !seen.text().contains("stream") {
            conn.write(answer("200 OK", "{}"));
            return Then::Keep;
        }
        conn.write(format!("{EVENTS}{}", chunk(EVENT)));
        let _ = wait.lock().unwrap().recv();
        conn.write(chunk("data: [DONE]\n\n") + LAST);
        Then::Keep
    });
    (engine, go)
}

fn begin_stream(process: &Process) -> Client {
    let mut client = process.client();
    client.send(stream("m")).through("\n\n\r\n");
    client
}

fn ready(process: &Process) -> u16 {
    process.client().ask(get("/readyz")).status()
}

fn draining_drops_nobody(leg: Leg) {
    let (engine, go) = engine();
    let mut process = Process::start(leg, &serving(&[engine.address]), "drain: {lead: 1s, deadline: 20s}");
    let mut streaming = begin_stream(&process);
    let mut idle = process.client();
    let kept = idle.ask(chat("m"));
    assert!(kept.head.field("connection").is_none_or(|c| c == "keep-alive"));
    assert_eq!(ready(&process), 200);
    let told = Instant::now();
    process.terminate();
    until("readiness is false", || ready(&process) == 503);
    assert!(told.elapsed() < Duration::from_millis(900), "at once, not after the lead time");
    // New connections are served for the lead time, and told to go elsewhere.
    let late = process.client().ask(chat("m"));
    assert_eq!((late.status(), late.head.field("connection")), (200, Some("close")));
    assert!(idle.rest().0.is_empty(), "an idle connection is closed in the end");
    assert!(!process.has_ended(), "the stream still runs");
    go.send(()).unwrap();
    assert!(streaming.through(LAST).contains("[DONE]"));
    assert_eq!(process.wait().code(), Some(0));
}

fn readiness_can_be_kept(leg: Leg) {
    let (engine, _go) = engine();
    let config = "drain: {lead: 500ms, deadline: 20s, readiness: keep}";
    let mut process = Process::start(leg, &serving(&[engine.address]), config);
    process.terminate();
    until("new answers end their connections", || {
        process.client().ask(chat("m")).head.field("connection") == Some("close")
    });
    assert_eq!(ready(&process), 200);
    assert_eq!(process.wait().code(), Some(0));
}

fn a_second_signal_cuts(leg: Leg) {
    let (engine, _go) = engine();
    let mut process = Process::start(leg, &serving(&[engine.address]), "drain: {lead: 100ms, deadline: 100s}");
    let mut streaming = begin_stream(&process);
    process.terminate();
    until("it drains", || ready_or_gone(&process));
    process.terminate();
    assert_eq!(process.wait().code(), Some(0));
    let (rest, _) = streaming.rest();
    assert!(!rest.ends_with(LAST.as_bytes()), "a cut stream does not end cleanly");
}

/// Whether readiness is false, or nobody listens any more.
fn ready_or_gone(process: &Process) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(process.address) else { return true };
    let mut answer = [0; 12];
    std::io::Write::write_all(&mut stream, &get("/readyz")).is_err()
        || std::io::Read::read_exact(&mut stream, &mut answer).is_err()
        || &answer == b"HTTP/1.1 503"
}

fn a_deadline_cuts(leg: Leg) {
    let (engine, _go) = engine();
    let mut process = Process::start(leg, &serving(&[engine.address]), "drain: {lead: 0s, deadline: 300ms}");
    let mut streaming = begin_stream(&process);
    process.terminate();
    assert_eq!(process.wait().code(), Some(0));
    assert!(!streaming.rest().0.ends_with(LAST.as_bytes()));
}

fn descriptors_are_given_back(leg: Leg) {
    let engine = Engine::start(|conn, seen| {
        if seen.head.field("x-silent").is_some() {
            return Then::AwaitGone;
        }
        conn.write(answer("200 OK", "{}"));
        Then::Close
    });
    let mut process = Process::start(leg, &serving(&[engine.address]), "limits: {pool_idle: 100ms}");
    let base = process.descriptors();
    let mut clients: Vec<_> = (0..40).map(|_| process.client()).collect();
    for client in &mut clients[..20] {
        assert_eq!(client.ask(chat("m")).status(), 200);
    }
    for client in &mut clients[20..] {
        client.send(crate::support::wire::post_with("/v1/score", "X-Silent: 1\r\n", r#"{"model":"m"}"#));
    }
    engine.wait_requests(40);
    // Told from what is open now: what asked whether the process is ready may have been counted in the base.
    let open = process.descriptors();
    drop(clients);
    engine.wait_gone(20);
    until("all descriptors are back", || {
        let left = process.descriptors();
        left <= base && left + 60 <= open
    });
    assert!(process.folder.file("snapshot.json").exists() && !process.has_ended());
}

/// The kernel gives each of those who listen at a port a part of the connections, up to the moment in which one closes.
fn who_takes_over_a_port_resets_nobody(leg: Leg) {
    let (engine, _go) = engine();
    let mut serves = sharing_a_port(leg, &engine, 0);
    asked_all_along(serves.address, || {
        for _ in 0..TAKE_OVERS {
            let next = sharing_a_port(leg, &engine, serves.address.port());
            end(serves);
            serves = next;
        }
        serves
    });
}

/// As when an update is rolled back.
fn who_gives_a_port_back_resets_nobody(leg: Leg) {
    let (engine, _go) = engine();
    let stays = sharing_a_port(leg, &engine, 0);
    asked_all_along(stays.address, || {
        (0..TAKE_OVERS).for_each(|_| end(sharing_a_port(leg, &engine, stays.address.port())));
    });
}

fn sharing_a_port(leg: Leg, engine: &Engine, port: u16) -> Process {
    Process::at(leg, &serving(&[engine.address]), ("drain: {lead: 0s, deadline: 20s}", port, CORES))
}

fn end(mut process: Process) {
    process.terminate();
    assert_eq!(process.wait().code(), Some(0));
}

/// Clients that connect, ask and hear all, time and again, until this is done. What it returns serves them to the end.
fn asked_all_along<T>(address: std::net::SocketAddr, done: impl FnOnce() -> T) {
    let over = AtomicBool::new(false);
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(LAST_OF_A_CONNECTION.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let client = || {
        let mut asked = 0;
        while !over.load(Relaxed) {
            match ask() {
                Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => asked += 1,
                other => return Err(format!("{other:?} after {asked} answers")),
            }
        }
        Ok(asked)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let _serves = done();
        over.store(true, Relaxed);
        for client in clients {
            assert!(client.join().unwrap().unwrap() > 0);
        }
    });
}
