//! The same bytes as hyper reads them, message by message.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::message::Message;
use crate::wire::{Running, Wire, settle};

/// What hyper has seen so far.
#[derive(Debug, Default)]
struct Log {
    messages: Vec<Message>,
    /// How many of them have come to their end.
    whole: usize,
}

type Shared = Rc<RefCell<Log>>;

/// Hyper at one end of a connection.
pub(crate) struct Hyper {
    wire: Wire,
    log: Shared,
    running: Running,
    ended: bool,
}

impl Hyper {
    /// Reads requests, and answers each once it is whole.
    pub(crate) fn server(bytes: &[u8]) -> Self {
        let (wire, log) = (Wire::new(bytes), Shared::default());
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(wire.clone(), {
            let log = log.clone();
            service_fn(move |request| serve(log.clone(), request))
        });
        let running = Box::pin(async move { drop(connection.await) });
        Self { wire, log, running, ended: false }
    }

    /// Sends requests, each once the answer to the one before is whole, and reads the answers.
    pub(crate) fn client(bytes: &[u8], to_head: bool) -> Self {
        let (wire, log) = (Wire::new(bytes), Shared::default());
        let method = if to_head { Method::HEAD } else { Method::GET };
        let running = Box::pin(ask(wire.clone(), log.clone(), method));
        let mut client = Self { wire, log, running, ended: false };
        // Bytes before the first request would be nobody's.
        client.settle();
        client
    }

    /// Shows hyper the bytes before this place.
    pub(crate) fn show(&mut self, to: usize) {
        self.wire.allow(to);
        self.settle();
    }

    /// Closes the other side.
    pub(crate) fn close(&mut self) {
        self.wire.end();
        self.settle();
    }

    fn settle(&mut self) {
        self.ended = self.ended || settle(&mut self.running);
    }

    /// How many messages have come to their end.
    pub(crate) fn whole(&self) -> usize {
        self.log.borrow().whole
    }

    /// A message that has at least begun.
    pub(crate) fn message(&self, place: usize) -> Option<Message> {
        self.log.borrow().messages.get(place).cloned()
    }

    /// Hyper is done with the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// How often a client was told to go on.
    pub(crate) fn continues(&self) -> usize {
        self.wire.count_written(b"HTTP/1.1 100 Continue\r\n\r\n")
    }
}

async fn serve(log: Shared, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, &'static str> {
    let (head, body) = request.into_parts();
    let line = [
        Some(head.method.as_str().as_bytes()),
        Some(head.uri.path().as_bytes()),
        head.uri.query().map(str::as_bytes),
        head.uri.authority().map(|authority| authority.as_str().as_bytes()),
    ];
    let message = Message::new(line, minor(head.version), fields(&head.headers));
    if take(&log, message, body).await { Ok(Response::new(Empty::new())) } else { Err("the body is broken") }
}

async fn ask(wire: Wire, log: Shared, method: Method) {
    let shaken = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(wire).await;
    let (mut sender, connection) = shaken.expect("nothing is read or written yet");
    let asking = async move {
        while sender.ready().await.is_ok() {
            let mut request = Request::new(Empty::new());
            *request.method_mut() = method.clone();
            let Ok(response) = sender.send_request(request).await else { return };
            let (head, body) = response.into_parts();
            let usual = head.status.canonical_reason().unwrap_or_default().as_bytes();
            let reason = head.extensions.get::<ReasonPhrase>().map_or(usual, |reason| reason.as_bytes());
            let line = [Some(head.status.as_str().as_bytes()), Some(reason), None, None];
            let message = Message::new(line, minor(head.version), fields(&head.headers));
            if !take(&log, message, body).await {
                return;
            }
        }
    };
    let _ = futures_util::future::join(connection, asking).await;
}

/// Notes a message and its body; says whether it came to its end.
async fn take(log: &Shared, message: Message, mut body: Incoming) -> bool {
    log.borrow_mut().messages.push(message);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        if let (Some(data), Some(message)) = (frame.data_ref(), log.borrow_mut().messages.last_mut()) {
            message.body.extend_from_slice(data);
        }
    }
    log.borrow_mut().whole += 1;
    true
}

fn fields(map: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

fn minor(version: Version) -> u8 {
    u8::from(version == Version::HTTP_11)
}
