//! The generator against the floor and a small engine.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::plan::{Arrival, Conversations, Pace, Plan, Process, Reuse, Shape};
use super::report::Report;
use super::workload::Workload;
use super::{client, hold, now_ns, trace};
use crate::floor::tests::{engine, with_relay};

const EVENTS: usize = 10;

/// Ten events with their send time and `[DONE]` for a stream, else a short answer; 429 for the model `busy`.
fn answer(request: &[u8]) -> Vec<u8> {
    let says = |text: &str| memchr::memmem::find(request, text.as_bytes()).is_some();
    if says("\"model\":\"busy\"") {
        return b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno".to_vec();
    }
    if !says("\"stream\":true") {
        return b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"answer\":\"ok\"}".to_vec();
    }
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let events = (0..EVENTS).map(|n| format!("data: {{\"n\":{n},\"sent_ns\":{}}}\n\n", now_ns()));
    for event in events.chain(["data: [DONE]\n\n".to_owned()]) {
        answer.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

fn run(change: impl FnOnce(&mut Plan)) -> Report {
    run_at(answer, change)
}

fn run_at(answer: impl Fn(&[u8]) -> Vec<u8> + Clone + Send + 'static, change: impl FnOnce(&mut Plan)) -> Report {
    let (upstream, _) = engine(answer);
    let mut report = None;
    with_relay(upstream, |target| {
        let mut plan = Plan::small(target, "sim", 1024);
        plan.connections = 4;
        plan.duration = Duration::from_millis(300);
        plan.processes = vec![Process { label: "self".to_owned(), pid: std::process::id() }];
        change(&mut plan);
        report = Some(client::run(&plan).unwrap());
    });
    report.unwrap()
}

#[test]
fn a_closed_loop_counts_requests_and_cpu() {
    let report = run(|plan| plan.threads = 2);
    assert_eq!(report.errors.total(), 0, "{:?}", report.errors);
    assert!(report.requests > 20, "{}", report.requests);
    assert_eq!(report.latency.count, report.requests);
    assert_eq!(report.concurrency.connected_peak, 4);
    assert!(report.processes[0].cpu_us_per_request > 0.0 && report.latency.p50_us > 0.0);
    serde_json::to_string(&report).unwrap();
}

#[test]
fn streams_are_counted_by_event_and_hop() {
    let report = run(|plan| (plan.stream, plan.reuse) = (true, Reuse::NewConnection));
    assert_eq!(report.errors.total(), 0, "{:?}", report.errors);
    // A stream that straddles an end of the window is counted in part.
    let whole = report.requests * EVENTS as u64;
    assert!(report.requests > 20 && report.events.abs_diff(whole) <= 80, "{} {}", report.requests, report.events);
    assert_eq!(report.chunks, report.requests * (EVENTS as u64 + 1));
    assert_eq!(report.hop.count, report.events);
    assert!(report.ttft.count > 0 && report.gap.count > 0 && report.concurrency.answering_peak >= 1);
}

#[test]
fn an_open_loop_holds_its_rate() {
    let pace = Pace::Open { rate: 200.0, arrival: Arrival::Even };
    let report = run(|plan| (plan.pace, plan.duration) = (pace, Duration::from_millis(500)));
    assert!((60..=101).contains(&report.requests), "{}", report.requests);
}

/// What had to wait behind a slow answer waited from when it was due, not from when it was sent.
#[test]
fn a_stall_is_in_the_latency_of_all_that_were_due_in_it() {
    const STALL: Duration = Duration::from_millis(400);
    let asked = Arc::new(AtomicUsize::new(0));
    let stalls_once = move |request: &[u8]| {
        if asked.fetch_add(1, Ordering::SeqCst) == 5 {
            std::thread::sleep(STALL);
        }
        answer(request)
    };
    let pace = Pace::Open { rate: 100.0, arrival: Arrival::Even };
    let report =
        run_at(stalls_once, |plan| (plan.pace, plan.connections, plan.duration) = (pace, 1, Duration::from_secs(1)));
    assert_eq!(report.errors.total(), 0, "{:?}", report.errors);
    // 40 were due in it, the last of them at its end; had each been timed from when it was sent, one alone were slow.
    assert!(report.latency.max_us >= 390_000.0 && report.latency.max_us < 1_000_000.0, "{:?}", report.latency);
    let slow = report.latency.p90_us;
    assert!(slow >= 200_000.0, "a tenth of a second's requests waited for more than 0.3 s: {:?}", report.latency);
}

#[test]
fn a_trace_is_replayed_at_its_times_with_its_prompts_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.jsonl");
    let line = |n: u64| {
        format!(r#"{{"timestamp": {}, "input_length": 600, "output_length": {}, "hash_ids": [1, {n}]}}"#, n * 50, n + 2)
    };
    std::fs::write(&file, (0..20).map(|n| line(n) + "\n").collect::<String>()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let remembers = move |request: &[u8]| {
        told.lock().unwrap().push((Instant::now(), request.to_vec()));
        answer(request)
    };
    let begun = Instant::now();
    let report = run_at(remembers, |plan| {
        plan.pace = Pace::Trace { speed: 2.0 };
        plan.shape = Shape::Trace { file: file.clone(), limit: 20 };
        plan.duration = Duration::from_secs(5);
    });
    assert_eq!((report.requests, report.errors.total()), (20, 0), "{:?}", report.errors);
    let entries = trace::read(std::fs::read(&file).unwrap().as_slice()).unwrap();
    let seen = seen.lock().unwrap();
    for (n, ((at, request), entry)) in seen.iter().zip(&entries).enumerate() {
        // Twice as fast as it was; the generator began after we did.
        assert!(*at - begun >= Duration::from_millis(entry.timestamp / 2), "{n} came too early");
        let head = memchr::memmem::find(request, b"\r\n\r\n").unwrap() + 4;
        let body: serde_json::Value = serde_json::from_slice(&request[head..]).unwrap();
        let mut prompt = Vec::new();
        trace::prompt(&mut prompt, entry);
        assert_eq!(body["messages"][0]["content"].as_str().unwrap().as_bytes(), prompt, "{n}");
        assert_eq!(body["max_tokens"], entry.output_length, "{n}");
    }
    let span = seen[19].0 - seen[0].0;
    assert!(span < Duration::from_millis(900), "475 ms of it, and not 950: {span:?}");
}

#[test]
fn failures_are_told_apart() {
    let report = run(|plan| plan.model = "busy".to_owned());
    assert!(report.errors.status > 0 && report.errors.total() == report.errors.status && report.requests == 0);
    let report = run(|plan| plan.target = "127.0.0.1:1".parse().unwrap());
    assert!(report.errors.connect + report.errors.reset > 0 && report.requests == 0, "{:?}", report.errors);
}

#[test]
fn idle_connections_are_held() {
    let (upstream, _) = engine(answer);
    with_relay(upstream, |target| {
        let mut request = Vec::new();
        assert!(workload(target, Shape::Fixed { bytes: 500 }).next(&mut request));
        let plan = hold::HoldPlan {
            target,
            pid: std::process::id(),
            hold: hold::Hold::Idle,
            connections: 50,
            request,
            time: Duration::from_millis(10),
            drip: Duration::from_millis(10),
        };
        let report = hold::run(&plan).unwrap();
        assert_eq!((report.held, report.ended_by_peer), (50, 0));
    });
}

fn workload(target: SocketAddr, shape: Shape) -> Workload {
    Workload::new(&Plan { shape, ..Plan::small(target, "sim", 0) }, 0).unwrap()
}

fn bodies(shape: Shape, count: usize) -> Vec<serde_json::Value> {
    let mut source = workload("127.0.0.1:1".parse().unwrap(), shape);
    let mut out = Vec::new();
    (0..count)
        .map(|_| {
            assert!(source.next(&mut out));
            let head = memchr::memmem::find(&out, b"\r\n\r\n").unwrap() + 4;
            let length = format!("Content-Length: {}\r\n", out.len() - head);
            assert!(memchr::memmem::find(&out[..head], length.as_bytes()).is_some());
            serde_json::from_slice(&out[head..]).unwrap()
        })
        .collect()
}

#[test]
fn prompts_are_distinct_and_as_long_as_asked() {
    let made = bodies(Shape::Fixed { bytes: 1024 }, 3);
    assert_ne!(made[0]["messages"][0]["content"], made[1]["messages"][0]["content"]);
    assert!(made.iter().all(|body| serde_json::to_string(body).unwrap().len() == 1024));
}

#[test]
fn conversations_grow_over_a_shared_system_prompt() {
    let shape = Conversations {
        systems: 1,
        zipf: 1.0,
        system_bytes: 100,
        turn_bytes: 20,
        answer_bytes: 30,
        turns: 3,
        active: 1,
    };
    let made = bodies(Shape::Conversations(shape), 4);
    let messages: Vec<_> = made.iter().map(|body| body["messages"].as_array().unwrap()).collect();
    assert_eq!(messages.iter().map(|list| list.len()).collect::<Vec<_>>(), [2, 4, 6, 2]);
    assert_eq!(messages[0][..], messages[1][..2]);
    assert_eq!(messages[1][..], messages[2][..4]);
    assert_eq!(messages[0][0], messages[3][0]);
    assert_ne!(messages[0][1], messages[3][1]);
}
