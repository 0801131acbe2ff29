//! A server of scripted bytes, for what no HTTP library would send: bodies after HEAD, resets after error answers,
//! empty reason phrases, streams without an end, silent closes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Most bytes of one request that are kept.
const REQUEST_LIMIT: usize = 16 << 20;

/// One step on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Reads one whole request: a head, and a body by content-length or chunked.
    Request,
    /// Writes these bytes at once.
    Send(Vec<u8>),
    /// Writes these bytes one write each, this far apart.
    Drip(Vec<Vec<u8>>, Duration),
    /// Waits.
    Wait(Duration),
    /// Waits until the peer has closed or reset the connection.
    AwaitClose,
    /// Goes back to the first step on the same connection.
    Again,
    /// Shuts the write side down and goes on.
    ShutdownWrite,
    /// Resets the connection.
    Reset,
}

/// What one connection does; after the last step it is closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script(Vec<Step>);

impl Script {
    /// A script of these steps.
    pub fn new(steps: impl Into<Vec<Step>>) -> Self {
        Self(steps.into())
    }

    /// Answers every request on the connection with these bytes.
    pub fn answer(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new([Step::Request, Step::Send(bytes.into()), Step::Again])
    }

    /// Adds a step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// Triton: HEAD is answered 405 with a content-length of 30 and the 30 bytes too.
    pub fn triton_head_405() -> Self {
        Self::answer(
            "HTTP/1.1 405 Not Allowed\r\nContent-Length: 30\r\nContent-Type: text/plain\r\n\r\n{\"error\":\"Method Not Allowed\"}",
        )
    }

    /// Triton: a stream without `[DONE]`, one event a chunk.
    pub fn triton_stream(events: usize, gap: Duration) -> Self {
        let mut writes = vec![
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec(),
        ];
        writes.extend((0..events).map(|n| {
            let event =
                format!("data: {{\"model_name\":\"gen\",\"model_version\":\"1\",\"text_output\":\"tok{n} \"}}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
        }));
        writes.push(b"0\r\n\r\n".to_vec());
        Self::new([Step::Request, Step::Drip(writes, gap), Step::Again])
    }

    /// Triton's /generate: an error in a 200.
    pub fn triton_error_in_200() -> Self {
        let body = "{\"error\":\"generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses\"}";
        Self::answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// TorchServe: an error answer, then RST.
    pub fn torchserve_error(status: &str) -> Self {
        let body = "{\n  \"code\": 503,\n  \"type\": \"ServiceUnavailableException\",\n  \"message\": \"Model \\\"small\\\" has no worker to serve inference request. Please use scale workers API to add workers.\"\n}\n";
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-request-id: 00000000-0000-4000-8000-000000000000\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        Self::new([Step::Request, Step::Send(answer.into_bytes()), Step::Reset])
    }

    /// TorchServe: success without a reason phrase; `connection: close` of the request is ignored.
    pub fn torchserve_success(body: &str) -> Self {
        Self::answer(format!(
            "HTTP/1.1 200 \r\nx-request-id: 00000000-0000-4000-8000-000000000000\r\ncontent-length: {}\r\nconnection: keep-alive\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Reads a request and closes without a byte.
    pub fn silent_close() -> Self {
        Self::new([Step::Request])
    }
}

/// Plays scripts on a port.
#[derive(Debug)]
pub struct RawServer {
    /// The bound address.
    pub addr: SocketAddr,
    log: Arc<Mutex<Log>>,
    accept: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    connections: usize,
    requests: Vec<Vec<u8>>,
}

impl RawServer {
    /// Plays `scripts` in turn, one per connection; the last one serves all connections after it.
    pub async fn start(listen: SocketAddr, scripts: Vec<Script>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let log = Arc::<Mutex<Log>>::default();
        let accept = tokio::spawn(accept(listener, scripts, Arc::clone(&log)));
        Ok(Self { addr, log, accept })
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).connections
    }

    /// The bytes of every request read so far, in order of arrival.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, scripts: Vec<Script>, log: Arc<Mutex<Log>>) {
    // Connections live in the set, so they end with this task.
    let mut connections = JoinSet::new();
    let mut scripts = scripts.into_iter().peekable();
    let mut last = Script::default();
    while let Ok((stream, _)) = listener.accept().await {
        last = scripts.next().unwrap_or(last);
        log.lock().unwrap_or_else(PoisonError::into_inner).connections += 1;
        connections.spawn(play(stream, last.clone(), Arc::clone(&log)));
        while connections.try_join_next().is_some() {}
    }
}

async fn play(mut stream: TcpStream, script: Script, log: Arc<Mutex<Log>>) {
    // A peer that closes early ends the script; that is not an error here.
    let _ = stream.set_nodelay(true);
    let mut pending = Vec::new();
    let mut at = 0;
    while let Some(step) = script.0.get(at) {
        at += 1;
        match run_step(&mut stream, step, &mut pending).await {
            Ok(Next::Step) => {}
            Ok(Next::Request(bytes)) => log.lock().unwrap_or_else(PoisonError::into_inner).requests.push(bytes),
            Ok(Next::First) => at = 0,
            Ok(Next::End) | Err(_) => return,
        }
    }
}

enum Next {
    Step,
    Request(Vec<u8>),
    First,
    End,
}

async fn run_step(stream: &mut TcpStream, step: &Step, pending: &mut Vec<u8>) -> std::io::Result<Next> {
    match step {
        Step::Request => return Ok(read_request(stream, pending).await?.map_or(Next::End, Next::Request)),
        Step::Send(bytes) => stream.write_all(bytes).await?,
        Step::Drip(writes, gap) => {
            for bytes in writes {
                stream.write_all(bytes).await?;
                tokio::time::sleep(*gap).await;
            }
        }
        Step::Wait(duration) => tokio::time::sleep(*duration).await,
        Step::AwaitClose => while stream.read(&mut [0; 4096]).await? > 0 {},
        Step::Again => return Ok(Next::First),
        Step::ShutdownWrite => stream.shutdown().await?,
        Step::Reset => {
            super::conn::linger_zero(stream)?;
            return Ok(Next::End);
        }
    }
    Ok(Next::Step)
}

/// One request's bytes; `None` when the peer closed first. Bytes beyond it stay in `pending`.
async fn read_request(stream: &mut TcpStream, pending: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = request_end(pending) {
            let rest = pending.split_off(end);
            return Ok(Some(std::mem::replace(pending, rest)));
        }
        if pending.len() > REQUEST_LIMIT || stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    }
}

/// Where the first request ends, once it is whole.
pub(crate) fn request_end(bytes: &[u8]) -> Option<usize> {
    let head_end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding:") {
        let last = memchr::memmem::find(&bytes[head_end - 2..], b"\r\n0\r\n\r\n")?;
        return Some(head_end - 2 + last + 7);
    }
    let length = head
        .split_once("\r\ncontent-length:")
        .and_then(|(_, rest)| rest.split("\r\n").next()?.trim().parse::<usize>().ok())
        .unwrap_or(0);
    let end = head_end.checked_add(length)?;
    (bytes.len() >= end).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_framing_says() {
        let check =
            |bytes: &str, expected: Option<usize>| assert_eq!(request_end(bytes.as_bytes()), expected, "{bytes:?}");
        check("GET / HTTP/1.1\r\n", None);
        check("GET / HTTP/1.1\r\n\r\nGET", Some(18));
        check("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", None);
        check("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabc", Some(40));
        check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx", Some(58));
        check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Some(52));
    }

    #[test]
    fn the_body_of_tritons_405_is_as_long_as_it_says() {
        let Script(steps) = Script::triton_head_405();
        let Step::Send(bytes) = &steps[1] else { panic!("{steps:?}") };
        let head = memchr::memmem::find(bytes, b"\r\n\r\n").unwrap() + 4;
        assert_eq!(bytes.len() - head, 30);
    }
}
