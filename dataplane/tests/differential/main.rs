//! Our codec against hyper: what we accept, hyper accepts too, with the same values and the same ends.
//!
//! All cases follow from a seed, which is printed. `KTHENA_DIFFERENTIAL_SEED` sets another, `KTHENA_DIFFERENTIAL_CASES`
//! another number of streams of requests; of answers there are half as many. Hyper runs on bytes in memory and gets
//! each message but for its last byte, then that byte: so it shows where a message ends for it. What is refused by us is
//! of no interest here, and where hyper is known to read otherwise, `exceptions` says so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod compare;
mod corpus;
mod exceptions;
mod message;
mod mutate;
mod ours;
mod theirs;
mod wire;

/// The tables of hostile bytes are taken from their own test.
macro_rules! of_hostile {
    ($($name:ident $path:literal)+) => {
        $(#[path = $path] #[allow(dead_code, reason = "what sends and judges them is not needed here")] mod $name;)+
    };
}
of_hostile! {
    body "../hostile/body.rs"
    case "../hostile/case.rs"
    chunks "../hostile/chunks.rs"
    client "../hostile/client.rs"
    engine "../hostile/engine.rs"
    fields "../hostile/fields.rs"
    framing "../hostile/framing.rs"
    lane "../hostile/lane.rs"
    line "../hostile/line.rs"
    response "../hostile/response.rs"
}
#[path = "../../fuzz/src/cuts.rs"]
#[allow(dead_code, unreachable_pub, reason = "only its dice are needed here")]
mod cuts;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use compare::{Way, compare};
use cuts::Dice;
use exceptions::Exception;
use ours::Rest;

const THREADS: usize = 2;

#[test]
fn what_we_accept_of_a_client_hyper_reads_alike() {
    let cases = from_env("KTHENA_DIFFERENTIAL_CASES").unwrap_or(100_000);
    let tally = run(corpus::requests(), cases, |_| Way::Requests);
    tally.report("requests");
    assert!(tally.accepted * 4 > cases, "too little is accepted to show anything");
    assert!(tally.pipelined * 20 > cases, "too few streams hold more than one request");
}

#[test]
fn what_we_accept_of_an_engine_hyper_reads_alike() {
    let cases = from_env("KTHENA_DIFFERENTIAL_CASES").unwrap_or(100_000) / 2;
    let tally = run(corpus::answers(), cases, |dice| Way::Answers { to_head: dice.below(8) == 0 });
    tally.report("answers");
    assert!(tally.accepted * 4 > cases, "too little is accepted to show anything");
}

#[test]
fn each_exception_occurs_and_explains_its_example() {
    for exception in Exception::ALL {
        let (way, stream) = exception.example();
        let Err(found) = compare(way, &stream) else { panic!("hyper reads it as we do: {exception:?} can go") };
        assert_eq!(Exception::of(way, &stream, &found), Some(exception), "{found}");
    }
}

fn from_env<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// What came of many streams.
#[derive(Default)]
struct Tally {
    streams: usize,
    /// Streams of which we accept a message.
    accepted: usize,
    /// Streams of which we accept more than one.
    pipelined: usize,
    messages: usize,
    exceptions: BTreeMap<Exception, usize>,
}

impl Tally {
    fn add(&mut self, stream: Result<usize, Exception>) {
        self.streams += 1;
        match stream {
            Ok(messages) => {
                self.accepted += usize::from(messages > 0);
                self.pipelined += usize::from(messages > 1);
                self.messages += messages;
            }
            Err(exception) => *self.exceptions.entry(exception).or_default() += 1,
        }
    }

    fn sum(mut self, other: Self) -> Self {
        self.streams += other.streams;
        self.accepted += other.accepted;
        self.pipelined += other.pipelined;
        self.messages += other.messages;
        other.exceptions.into_iter().for_each(|(key, n)| *self.exceptions.entry(key).or_default() += n);
        self
    }

    fn report(&self, what: &str) {
        println!(
            "{what}: {} streams, {} with a message that we accept, {} with several, {} messages alike, exceptions {:?}",
            self.streams, self.accepted, self.pipelined, self.messages, self.exceptions
        );
    }
}

/// Compares the corpus as it is, then so many mutations of it. A case depends on the seed and its number alone.
fn run(mut corpus: Vec<Vec<u8>>, cases: usize, way: impl Fn(&mut Dice) -> Way + Sync) -> Tally {
    let seed: u64 = from_env("KTHENA_DIFFERENTIAL_SEED").unwrap_or(1);
    let refused = |stream: &Vec<u8>| matches!(way(&mut Dice::of(b"")).ours(stream).rest, Rest::Refused);
    corpus.sort_by_cached_key(refused);
    let good = corpus.partition_point(|stream| !refused(stream));
    println!("seed {seed}, {} streams in the corpus, {good} of them good", corpus.len());
    let one = |number: usize| {
        let mut dice = Dice::of(&[seed.to_le_bytes(), (number as u64).to_le_bytes()].concat());
        let way = way(&mut dice);
        let stream = corpus.get(number).cloned().unwrap_or_else(|| mutate::mutated(&corpus, good, &mut dice));
        judged(way, &stream).unwrap_or_else(|why| panic!("seed {seed}, case {number}: {why}"))
    };
    let share = |thread: usize| {
        let mut tally = Tally::default();
        (thread..corpus.len() + cases).step_by(THREADS).for_each(|number| tally.add(one(number)));
        tally
    };
    std::thread::scope(|scope| {
        let share = &share;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || share(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("it printed why it failed"))
            .fold(Tally::default(), Tally::sum)
    })
}

/// How many messages are alike, or which exception ends them; else what is wrong, on as few bytes as show it.
fn judged(way: Way, stream: &[u8]) -> Result<Result<usize, Exception>, String> {
    let explained = |stream: &[u8]| match catch_unwind(AssertUnwindSafe(|| compare(way, stream))) {
        Ok(Ok(messages)) => Ok(Ok(messages)),
        Ok(Err(found)) => Exception::of(way, stream, &found).map(Err).ok_or(found.to_string()),
        Err(_) => Err("a panic".to_owned()),
    };
    explained(stream).map_err(|_| {
        let least = smallest(stream, |less| explained(less).is_err());
        format!("{way:?} {}: {}", least.escape_ascii(), explained(&least).expect_err("so it was shortened"))
    })
}

/// Takes bytes away as long as what is left shows the same.
fn smallest(stream: &[u8], shows: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut stream = stream.to_vec();
    let mut size = stream.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at + size <= stream.len() {
            let less = [&stream[..at], &stream[at + size..]].concat();
            if shows(&less) { stream = less } else { at += size }
        }
        size /= 2;
    }
    stream
}
