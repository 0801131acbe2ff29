//! Clients in pods: what they ask there and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use perf_tests::nodes::enter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Only a request that is never answered fails by time: a machine that is busy elsewhere is slow, and nothing else.
const WHOLE: Duration = Duration::from_secs(60);
const STREAMED: Duration = Duration::from_secs(180);
/// What all clients together keep up where the machine bears it.
pub const STREAMS: usize = 200;
pub const REQUESTS_PER_S: u32 = 300;
/// Requests of one client that are under way at once: one that gets its answers later asks less often.
const AT_ONCE: usize = 16;
/// Tokens of the streams: an engine of the bed emits one each 100 ms, so these take 12 and 3 seconds.
const TOKENS: [u32; 3] = [120, 120, 30];
/// Between the first streams of a client.
const STAGGER: Duration = Duration::from_millis(30);

/// All that is answered to one request; it says that the connection ends with it.
pub async fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A request for so many tokens, whole or streamed.
pub fn completion(model: &str, prompt: &str, (tokens, stream): (u32, bool)) -> String {
    let body = json!({"model": model, "max_tokens": tokens, "stream": stream,
        "messages": [{"role": "user", "content": prompt}]});
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One that is answered whole. An error is what came instead.
pub async fn ask(address: &str, model: &str) -> Result<(), String> {
    let answer = timeout(WHOLE, exchange(address, &completion(model, "hi", (2, false)))).await;
    let answer = answer.map_err(|_| format!("no answer after {WHOLE:?}"))?.map_err(|error| error.to_string())?;
    let body = answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    let is_good = answer.starts_with("HTTP/1.1 200 ") && body.is_some_and(|body| body["choices"].is_array());
    if is_good { Ok(()) } else { Err(answer) }
}

/// An answer whose body came in chunks, to the last one: they may end anywhere, in the midst of an event too.
fn unchunked(answer: &str) -> Option<String> {
    let (head, mut rest) = answer.split_once("\r\n\r\n")?;
    let mut whole = format!("{head}\r\n\r\n");
    loop {
        let (size, chunk) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return (chunk == "\r\n").then_some(whole);
        }
        whole.push_str(chunk.get(..size)?);
        rest = chunk.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// One that is streamed to its end.
pub async fn stream(address: &str, model: &str, tokens: u32) -> Result<(), String> {
    let mut answer = Vec::new();
    let reading = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(completion(model, "hi", (tokens, true)).as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    let broke = match timeout(STREAMED, reading).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no end after {STREAMED:?}")),
    };
    let answer = String::from_utf8_lossy(&answer);
    let whole = unchunked(&answer);
    let is_whole = whole.as_ref().is_some_and(|text| text.trim_end().ends_with("data: [DONE]"));
    let answer = whole.unwrap_or(answer.into_owned());
    let events = answer.matches("data: {").count();
    let is_good = answer.starts_with("HTTP/1.1 200 ") && is_whole && events >= tokens as usize;
    let end = || answer.chars().skip(answer.chars().count().saturating_sub(300)).collect::<String>();
    let said = || format!("{events} of {tokens} events: … {}{}", end(), broke.as_deref().unwrap_or_default());
    if is_good && broke.is_none() { Ok(()) } else { Err(said()) }
}

/// Where a client is and whom it asks.
#[derive(Clone)]
pub struct Place {
    /// Of a pod, as `ip netns` knows it.
    pub namespace: String,
    pub address: String,
}

#[derive(Debug, Default)]
pub struct Count {
    pub requests: usize,
    pub streams: usize,
    pub failed: Vec<String>,
    /// Requests in each second, and streams at once, on average.
    pub rate: f64,
    pub open: f64,
}

/// Requests and streams from each place until it is told that it is over; then streams are awaited to their ends.
pub struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Done>>,
    began: Instant,
}

/// What came of each request and of each stream, and when the streams began.
type Done = (Vec<Result<(), String>>, Vec<Result<(), String>>, Vec<Instant>);

/// One of so many clients.
#[derive(Clone)]
struct Client {
    address: String,
    model: &'static str,
    streams: usize,
    pace: Duration,
    over: Arc<AtomicBool>,
}

impl Load {
    pub fn start(places: &[Place], model: &'static str) -> Self {
        let over = Arc::<AtomicBool>::default();
        let many = u32::try_from(places.len()).unwrap();
        let (streams, pace) = (STREAMS.div_ceil(places.len()), Duration::from_secs(1) * many / REQUESTS_PER_S);
        let client = |Place { namespace, address }: Place| {
            let client = Client { address, model, streams, pace, over: over.clone() };
            tokio::spawn(async move { enter(&namespace, move || client.run()).await.unwrap() })
        };
        let clients = places.iter().cloned().map(client).collect();
        Self { over, clients, began: Instant::now() }
    }

    pub async fn end(self) -> Count {
        let (over, mut all) = (Instant::now(), Count::default());
        let seconds = (over - self.began).as_secs_f64();
        self.over.store(true, Relaxed);
        for client in self.clients {
            let (requests, streams, began) = client.await.unwrap();
            all.requests += requests.len();
            all.streams += streams.len();
            all.open += began.into_iter().map(|began| (over - began).as_secs_f64() / seconds).sum::<f64>();
            all.failed.extend(requests.into_iter().chain(streams).filter_map(Result::err));
        }
        all.rate = all.requests as f64 / seconds;
        all
    }
}

impl Client {
    async fn run(self) -> Done {
        let streams: JoinSet<_> = (0..self.streams).map(|n| self.clone().stream(n)).collect();
        let (mut asking, mut requests) = (JoinSet::new(), Vec::new());
        let mut next = Instant::now();
        while !self.over.load(Relaxed) {
            next += self.pace;
            if asking.len() == AT_ONCE {
                requests.extend(asking.join_next().await.map(Result::unwrap));
            }
            let Self { address, model, .. } = self.clone();
            asking.spawn(async move { ask(&address, model).await.map_err(|why| format!("{address}: {why}")) });
            while let Some(done) = asking.try_join_next() {
                requests.push(done.unwrap());
            }
            sleep_until(next).await;
        }
        requests.extend(asking.join_all().await);
        let streams: (Vec<_>, Vec<_>) = streams.join_all().await.into_iter().unzip();
        (requests, streams.0.concat(), streams.1)
    }

    /// One after the other, and when the first of them began.
    async fn stream(self, n: usize) -> (Vec<Result<(), String>>, Instant) {
        let Self { address, model, over, .. } = self;
        sleep(STAGGER * u32::try_from(n).unwrap()).await;
        let (began, mut results) = (Instant::now(), Vec::new());
        while !over.load(Relaxed) {
            let result = stream(&address, model, TOKENS[n % TOKENS.len()]).await;
            results.push(result.map_err(|why| format!("{address}: {why}")));
        }
        (results, began)
    }
}
