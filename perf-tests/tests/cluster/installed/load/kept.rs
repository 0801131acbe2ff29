//! Connections that are kept, as client libraries do it: one that the server has closed is noticed before it is used again; a request that was
//! sent is not sent once more, for nobody knows what became of it (RFC 9110, 9.2.2).

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::super::clients::{WHOLE, judged, request};

/// Of one client to one address.
#[derive(Clone)]
pub(super) struct Connections(Arc<All>);

struct All {
    address: String,
    idle: Mutex<VecDeque<TcpStream>>,
    opened: AtomicUsize,
    closed: AtomicUsize,
}

impl Connections {
    pub(super) fn to(address: &str) -> Self {
        let (address, idle) = (address.to_owned(), Mutex::default());
        Self(Arc::new(All { address, idle, opened: AtomicUsize::default(), closed: AtomicUsize::default() }))
    }

    pub(super) fn opened(&self) -> usize {
        self.0.opened.load(Relaxed)
    }

    /// Those that the server ended although no answer had said so.
    pub(super) fn closed(&self) -> usize {
        self.0.closed.load(Relaxed)
    }

    /// The one that has idled longest, so that none idles for long. And how often it was used.
    async fn take(&self) -> io::Result<TcpStream> {
        // The runtime looks for what has come, an end too.
        yield_now().await;
        loop {
            let Some(stream) = self.0.idle.lock().unwrap().pop_front() else { break };
            match stream.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(stream),
                _ => self.0.closed.fetch_add(1, Relaxed),
            };
        }
        self.0.opened.fetch_add(1, Relaxed);
        TcpStream::connect(&self.0.address).await
    }

    /// A request that is answered whole; after it the connection is kept unless the answer says that it ends.
    pub(super) async fn ask(&self, model: &str) -> Result<(), String> {
        let exchange = async {
            let mut stream = self.take().await?;
            stream.write_all(request(model, "hi", (2, false), "keep-alive").as_bytes()).await?;
            let (answer, ends) = answer(&mut stream).await?;
            if !ends {
                self.0.idle.lock().unwrap().push_back(stream);
            }
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(WHOLE, exchange).await.map_err(|_| format!("no answer after {WHOLE:?}"))?;
        judged(answer.map_err(|error| format!("on a connection that is kept: {error}"))?)
    }
}

/// One answer of a known length, and whether the connection ends with it.
async fn answer(stream: &mut TcpStream) -> io::Result<(String, bool)> {
    let mut answer = Vec::new();
    let mut missing = None;
    while missing != Some(0) {
        let mut more = [0; 4096];
        let read = stream.read(&mut more).await?;
        if read == 0 {
            let said = String::from_utf8_lossy(&answer);
            return Err(io::Error::other(format!("closed after {} bytes of an answer: {said}", answer.len())));
        }
        answer.extend(&more[..read]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = field(head, "content-length").and_then(|length| length.parse::<usize>().ok());
        let length = length.ok_or_else(|| io::Error::other(format!("an answer of unknown length: {head}")))?;
        missing = Some(length.saturating_sub(body.len()));
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let ends = field(&answer, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok((answer, ends))
}

/// Of a head.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}
