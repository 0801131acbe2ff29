//! 300 requests a second and 200 streams at once, what came of each, and what clients saw of each trouble that came meanwhile.

mod kept;
mod seen;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perf_tests::nodes::enter;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::clients::{Gauge, Place, ask, streamed};
use super::site::Site;
use crate::wait::until;
use kept::Connections;
use seen::{Asked, BUCKET, Seen, Window};

/// What all clients together ask for in a second.
const REQUESTS_PER_S: u32 = 300;
/// Of which one after the other runs. At each moment some are between two, and in a trouble up to 27 were, so they are more than the 200 that are to be open.
const STREAMS: usize = 252;
/// Requests of one client that are under way at once: one that gets its answers more than a second late asks less often.
const AT_ONCE: usize = 64;
/// Tokens of the streams: an engine of the bed emits one each 100 ms, so these take 12 and 3 seconds.
const TOKENS: [u32; 3] = [120, 120, 30];
/// Between the first streams of a client.
const STAGGER: Duration = Duration::from_millis(30);
/// Between two looks at how many streams are open.
const LOOK: Duration = Duration::from_millis(100);

/// Streams that are open when the first trouble begins: at first they begin one after the other.
const AT_FIRST: usize = 240;
/// During each trouble: streams that are open in each moment that is looked at; requests in a second; answers to each client in each two seconds, as a part of
/// what it asks for; and the longest that anybody waits for one.
const LEAST_OPEN: usize = 200;
const LEAST_RATE: f64 = 285.0;
const LEAST_PART: f64 = 0.3;
const LONGEST: Duration = Duration::from_secs(10);

/// What the clients saw.
#[derive(Default)]
struct Notes {
    asked: Mutex<Vec<Asked>>,
    streams: Mutex<Vec<Result<(), String>>>,
    open: Gauge,
    looks: Mutex<Vec<(Instant, usize)>>,
    /// Connections that were kept, and those of them that were closed without a word between two requests.
    kept: AtomicUsize,
    closed: AtomicUsize,
}

/// Requests and streams from each place until it is told that it is over; then streams are awaited to their ends.
pub struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    looking: JoinHandle<()>,
    notes: Arc<Notes>,
    began: Instant,
    windows: Mutex<Vec<Window>>,
}

/// One of so many clients.
#[derive(Clone)]
struct Client {
    place: usize,
    address: String,
    model: &'static str,
    streams: usize,
    pace: Duration,
    over: Arc<AtomicBool>,
    notes: Arc<Notes>,
    connections: Connections,
}

impl Load {
    /// Returns when all of the streams are open.
    pub async fn start(places: &[Place], model: &'static str) -> Self {
        let (over, notes) = (Arc::<AtomicBool>::default(), Arc::<Notes>::default());
        let many = u32::try_from(places.len()).unwrap();
        let (streams, pace) = (STREAMS.div_ceil(places.len()), Duration::from_secs(1) * many / REQUESTS_PER_S);
        let client = |(place, Place { namespace, address }): (usize, Place)| {
            let connections = Connections::to(&address);
            let (over, notes) = (over.clone(), notes.clone());
            let client = Client { place, address, model, streams, pace, over, notes, connections };
            tokio::spawn(async move { enter(&namespace, move || client.run()).await.unwrap() })
        };
        let clients = places.iter().cloned().enumerate().map(client).collect();
        let at = notes.clone();
        let looking = tokio::spawn(async move {
            loop {
                at.looks.lock().unwrap().push((Instant::now(), at.open.now()));
                sleep(LOOK).await;
            }
        });
        until("streams at once", async || notes.open.now() >= AT_FIRST).await;
        Self { over, clients, looking, notes, began: Instant::now(), windows: Mutex::default() }
    }

    /// A trouble, from its begin until it is over; others may go on beside it.
    pub async fn during<T>(&self, what: &'static str, act: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let came = act.await;
        // Of less nothing could be said.
        sleep_until(began + BUCKET).await;
        self.windows.lock().unwrap().push(Window { what, began, ended: Instant::now() });
        came
    }

    /// That nothing failed, and that all of the load was there during each trouble.
    pub async fn unharmed(self, site: &Site) {
        let Over { failed, closed, kept, windows, of_place } = self.end().await;
        if !failed.is_empty() {
            site.tell().await;
        }
        assert!(failed.is_empty(), "{} failed, as {:#?}", failed.len(), &failed[..failed.len().min(20)]);
        assert_eq!(closed, 0, "kept connections were closed between two requests");
        assert!(windows.len() > 1 && kept > 0, "there was nothing to say so of");
        for (what, Seen { rate, least, longest, open, mean }) in windows {
            let asked_enough = rate >= LEAST_RATE && least >= LEAST_PART * of_place;
            assert!(asked_enough, "{what}: {rate} a second, {least} to a client");
            assert!(open >= LEAST_OPEN, "{what}: {open} streams, {mean} on average");
            assert!(longest < LONGEST, "{what}: an answer came after {longest:?}");
        }
    }

    /// When the last of them is answered; it prints what each trouble came to.
    async fn end(self) -> Over {
        let whole = Window { what: "all of it", began: self.began, ended: Instant::now() };
        self.over.store(true, Relaxed);
        let places = self.clients.len();
        for client in self.clients {
            client.await.unwrap();
        }
        self.looking.abort();
        let [kept, closed] = [&self.notes.kept, &self.notes.closed].map(|count| count.load(Relaxed));
        let (asked, looks) = (take(&self.notes.asked), take(&self.notes.looks));
        let streams = take(&self.notes.streams);
        println!("{} requests, {} streams; {kept} connections were kept, {closed} closed", asked.len(), streams.len());
        let of_place = f64::from(REQUESTS_PER_S) / places as f64;
        let mut windows = Vec::new();
        for window in take(&self.windows).into_iter().chain([whole]) {
            let seen = window.seen(&asked, &looks, places);
            let (took, least) = (window.ended - window.began, seen.least / of_place * 100.0);
            println!(
                "{}, {took:.0?}: {:.0} requests a second, answers to each client {least:.0} % in any two, the last after {:.1?}; {} streams at the least, {:.0} on average",
                window.what, seen.rate, seen.longest, seen.open, seen.mean
            );
            windows.push((window.what, seen));
        }
        let failed =
            asked.into_iter().filter_map(|asked| asked.failed).chain(streams.into_iter().filter_map(Result::err));
        Over { failed: failed.collect(), closed, kept, windows, of_place }
    }
}

fn take<T>(from: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut from.lock().unwrap())
}

/// What came of all of it.
struct Over {
    failed: Vec<String>,
    kept: usize,
    closed: usize,
    /// Each trouble, and the whole of the time.
    windows: Vec<(&'static str, Seen)>,
    /// What each client asks for in a second.
    of_place: f64,
}

impl Client {
    async fn run(self) {
        let streams: JoinSet<_> = (0..self.streams).map(|n| self.clone().stream(n)).collect();
        let (mut asking, mut next) = (JoinSet::new(), Instant::now());
        for n in 0_u32.. {
            if self.over.load(Relaxed) {
                break;
            }
            next += self.pace;
            while asking.len() == AT_ONCE || asking.try_join_next().is_some() {
                if asking.len() == AT_ONCE {
                    asking.join_next().await;
                }
            }
            asking.spawn(self.clone().ask(n));
            sleep_until(next).await;
        }
        asking.join_all().await;
        streams.join_all().await;
        self.notes.kept.fetch_add(self.connections.opened(), Relaxed);
        self.notes.closed.fetch_add(self.connections.closed(), Relaxed);
    }

    /// Every second request comes by a connection that is kept.
    async fn ask(self, n: u32) {
        let Self { place, address, model, notes, connections, .. } = self;
        let began = Instant::now();
        let result = if n.is_multiple_of(2) { ask(&address, model).await } else { connections.ask(model).await };
        let failed = result.err().map(|why| format!("{address}: {why}"));
        notes.asked.lock().unwrap().push(Asked { place, began, ended: Instant::now(), failed });
    }

    /// One after the other. The first is the shorter the earlier it begins, so that not all of them end at once later.
    async fn stream(self, n: usize) {
        let Self { address, model, over, notes, streams, .. } = self;
        sleep(STAGGER * u32::try_from(n).unwrap()).await;
        let all = TOKENS[n % TOKENS.len()];
        let mut tokens = (all * u32::try_from(n + 1).unwrap()).div_ceil(u32::try_from(streams).unwrap());
        while !over.load(Relaxed) {
            let result = streamed((&address, model, tokens), &notes.open).await;
            notes.streams.lock().unwrap().push(result.map_err(|why| format!("{address}: {why}")));
            tokens = all;
        }
    }
}
