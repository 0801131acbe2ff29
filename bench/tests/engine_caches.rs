//! An engine's cache hits, request by request: those that the server counts, those of its model in virtual time, those of the
//! scheduler's simulation, and those of a list that is written down as plainly as possible. All are the same, in caches so small that most of what
//! they hold is evicted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "engine/client.rs"]
mod client;
#[path = "engine/plain.rs"]
mod plain;
#[path = "engine/simulation.rs"]
mod simulation;

use std::time::{Duration, Instant};

use bench::engine::model::{Event, EventKind, JobId, Micros, Model};
use bench::engine::text::BLOCK_TOKENS;
use bench::engine::{Config, Engine, ModelConfig, Pace, Running, text};
use plain::Plain;
use serde_json::{Value, json};
use simulation::Simulation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MODEL: &str = "sim";
const PATIENCE: Duration = Duration::from_secs(15);
/// Of an answer that goes on until its client leaves, and between two of its tokens.
const MANY: u32 = 10_000;
const NEVER: Pace = Pace::Stream(3_600_000_000);

/// What is done, in this order; a request is named by its place in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is prefilled, and goes on if it is not over with its first token.
    Begin { request: usize, goes_on: bool },
    /// Its client leaves.
    Leave(usize),
}

/// The `n`th request runs until `stays(n)` others have begun.
fn steps(count: usize, stays: impl Fn(usize) -> usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for request in 0..count {
        let leaves = |earlier: &usize| stays(*earlier) > 0 && earlier + stays(*earlier) + 1 == request;
        steps.extend((0..request).filter(leaves).map(Step::Leave));
        steps.push(Step::Begin { request, goes_on: stays(request) > 0 });
    }
    steps
}

fn by_list(prompts: &[String], steps: &[Step], room: usize) -> Vec<usize> {
    let mut cache = Plain::new(room);
    let mut hits = Vec::new();
    for step in steps {
        match *step {
            Step::Begin { request, goes_on } => {
                hits.push(cache.begin(&prompts[request]));
                if !goes_on {
                    cache.end(&prompts[request]);
                }
            }
            Step::Leave(request) => cache.end(&prompts[request]),
        }
    }
    println!("{} of {} requests hit something, {} blocks were evicted", some(&hits), hits.len(), cache.evicted);
    assert!(cache.evicted > 5 * room && some(&hits) > hits.len() / 8, "a trace that shows nothing");
    hits
}

fn some(hits: &[usize]) -> usize {
    hits.iter().filter(|hits| **hits > 0).count()
}

fn engine(room: usize) -> ModelConfig {
    ModelConfig { cache_blocks: room, prefill_tokens_per_s: 100_000_000, pace: NEVER, ..ModelConfig::default() }
}

fn tokens(goes_on: bool) -> u32 {
    if goes_on { MANY } else { 1 }
}

/// The model in virtual time, a second for each step.
fn by_model(prompts: &[String], steps: &[Step], room: usize) -> Vec<usize> {
    const SECOND: Micros = 1_000_000;
    let mut model = Model::new(engine(room));
    let (mut now, mut events, mut ids): (Micros, Vec<Event>, Vec<JobId>) = (0, Vec::new(), Vec::new());
    for step in steps {
        now += SECOND;
        match *step {
            Step::Begin { request, goes_on } => {
                let job = text::job(prompts[request].as_bytes(), &format!("{MODEL}\0"), tokens(goes_on));
                ids.push(model.submit(now, job).unwrap());
                model.advance(now + SECOND / 2, &mut events);
            }
            Step::Leave(request) => assert!(model.cancel(now, ids[request])),
        }
    }
    let hits = events.iter().filter_map(|event| match event.kind {
        EventKind::Started { hit_tokens } => Some((hit_tokens / BLOCK_TOKENS) as usize),
        EventKind::Token | EventKind::Finished => None,
    });
    hits.collect()
}

/// The server, on real sockets. What a step does has been done before the next one begins, so no clock decides anything.
async fn by_server(prompts: &[String], steps: &[Step], room: usize) -> Vec<usize> {
    let config = Config { model: MODEL.to_owned(), engine: engine(room), ..Config::default() };
    let running = Engine::start(config).await.unwrap();
    let mut clients: Vec<Option<TcpStream>> = Vec::new();
    let (mut hits, mut before) = (Vec::new(), 0);
    for step in steps {
        match *step {
            Step::Begin { request, goes_on } => {
                let stream = first_event(&running, &prompts[request], tokens(goes_on)).await;
                clients.push(goes_on.then_some(stream));
                let now = running.stats().hit_tokens;
                hits.push((now - before) as usize / BLOCK_TOKENS as usize);
                before = now;
            }
            Step::Leave(request) => drop(clients[request].take().expect("it goes on until it leaves")),
        }
        runs(&running, clients.iter().flatten().count()).await;
    }
    hits
}

/// Asks, and reads until the first token is here.
async fn first_event(running: &Running, prompt: &str, max_tokens: u32) -> TcpStream {
    let body = json!({"model": MODEL, "prompt": prompt, "max_tokens": max_tokens, "stream": true});
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(&client::request("POST", "/v1/completions", &[], &body.to_string())).await.unwrap();
    let mut answer = Vec::new();
    while memchr::memmem::find(&answer, b"data: ").is_none() {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer)).await;
        assert!(read.expect("a token comes").unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    stream
}

/// Waits until so many requests run, by the engine's own count.
async fn runs(running: &Running, expected: usize) {
    let (deadline, expected) = (Instant::now() + PATIENCE, format!(" {expected}"));
    loop {
        let page = client::call(running.addr, "GET", "/metrics", &[], "").await.body;
        let line = page.lines().find(|line| line.starts_with("vllm:num_requests_running")).unwrap().to_owned();
        if line.trim_end_matches(".0").ends_with(&expected) {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for{expected} requests: {line}");
        tokio::task::yield_now().await;
    }
}

/// 120 prompts of the Mooncake trace, of each the first 32 blocks.
fn mooncake() -> Vec<String> {
    let prompt = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let ids = line["hash_ids"].as_array().unwrap().iter().take(32);
        ids.map(|id| format!("{:<64}", format!("block {id}"))).collect()
    };
    include_str!("../fixtures/mooncake-120.jsonl").lines().map(prompt).collect()
}

/// 400 prompts: one of 12 beginnings, some of them hot, what a few share, and what nobody shares.
fn families() -> Vec<String> {
    let mut state = 7_u64;
    println!("seed {state}");
    let mut below = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let prompt = |request: u64| {
        let (family, branch) = (below(12).min(below(12)), below(3));
        let common = (0..4 + family).map(|at| format!("family {family}, {at}"));
        let shared = (0..below(6)).map(|at| format!("branch {family} {branch}, {at}"));
        let own = (0..below(2)).map(|at| format!("request {request}, {at}"));
        common.chain(shared).chain(own).map(|block| format!("{block:<64}")).collect()
    };
    (0..400).map(prompt).collect()
}

/// So that a prompt's last token is none of a whole block.
fn with_tail(prompts: Vec<String>) -> Vec<String> {
    prompts.into_iter().map(|prompt| prompt + "and more").collect()
}

fn same(name: &str, expected: &[usize], hits: &[usize]) {
    let differs = expected.iter().zip(hits).position(|(a, b)| a != b);
    assert_eq!(expected.len(), hits.len(), "{name}");
    assert!(differs.is_none(), "{name}: request {differs:?}, of\n{hits:?}\nnot\n{expected:?}");
}

/// Requests one after the other, as the simulation has them.
async fn alone(prompts: Vec<String>, room: usize) {
    let (prompts, mut simulation) = (with_tail(prompts), Simulation::new(room));
    let steps = steps(prompts.len(), |_| 0);
    let expected = by_list(&prompts, &steps, room);
    let simulated: Vec<usize> = prompts.iter().map(|prompt| simulation.serve(prompt)).collect();
    same("the simulation", &expected, &simulated);
    same("the model", &expected, &by_model(&prompts, &steps, room));
    same("the server", &expected, &by_server(&prompts, &steps, room).await);
}

/// Up to four at once, which hold their blocks; of some prompts the last token ends a block.
async fn held(prompts: Vec<String>, room: usize) {
    let mut prompts = prompts;
    prompts.iter_mut().step_by(2).for_each(|prompt| prompt.push_str("and more"));
    let steps = steps(prompts.len(), |request| request % 4);
    assert!(steps.iter().any(|step| matches!(step, Step::Leave(_))));
    let expected = by_list(&prompts, &steps, room);
    same("the model", &expected, &by_model(&prompts, &steps, room));
    same("the server", &expected, &by_server(&prompts, &steps, room).await);
}

#[tokio::test]
async fn mooncakes_requests_hit_what_a_list_says() {
    alone(mooncake(), 300).await;
}

#[tokio::test]
async fn families_of_prompts_hit_what_a_list_says() {
    alone(families(), 60).await;
}

#[tokio::test]
async fn requests_that_hold_their_blocks_hit_what_a_list_says() {
    held(families(), 90).await;
}
