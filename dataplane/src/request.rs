//! One request, phase by phase: read → ask → decide → forward → relay → finish. Each phase returns a value to the next;
//! none calls back. Whatever ends it, the [`finish::Flight`] tells once.

mod ask;
mod attempts;
mod compose;
mod decide;
mod finish;
mod forward;
mod id;
mod local;
mod prompt;
mod read;
mod relay;
mod times;
mod triton;

use dataplane_core::http::{Downstream, Known, Method, RequestHead, Version};
use dataplane_core::inspect::{ApiKind, api_kind};

use crate::refusal::{Reason, Refusal};
use crate::server::connection::{After, Connection};
use crate::worker::Worker;
use finish::{Flight, Head};
use id::RequestId;

/// Why a request did not get its answer.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client left.
    Gone,
    /// It gets ours instead.
    Refused(Box<Refusal>),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// What an answer of any kind needs to know of the request.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: RequestId,
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    /// The request was HEAD: whatever answers it has no body.
    pub(crate) to_head: bool,
}

impl Client {
    fn new(head: &RequestHead, bytes: &[u8], worker: &Worker) -> Self {
        let mut rng = worker.rng.borrow_mut();
        let id = RequestId::new(head.known(bytes, Known::RequestId), || (rng.next_u64(), rng.next_u64()));
        Self { id, version: head.version, keep_alive: head.keep_alive, to_head: head.method == Method::Head }
    }

    /// What becomes of the connection after the answer, as far as it is known before it.
    pub(crate) fn connection(&self, worker: &Worker) -> Downstream {
        match self.version {
            _ if !self.keep_alive || worker.shared.draining() => Downstream::Close,
            Version::Http10 => Downstream::KeepHttp10,
            Version::Http11 => Downstream::Keep,
        }
    }
}

/// Serves the request whose first bytes are in the connection's reader.
pub(crate) async fn serve(connection: &mut Connection) -> After {
    let mut flight = Flight::begin(connection);
    let mut client = None;
    match run(connection, &mut flight, &mut client).await {
        Ok(after) => after,
        Err(Ended::Gone) => {
            flight.failed(Reason::ClientGone, "the client left", "router");
            After::Cut
        }
        Err(Ended::Refused(refusal)) => refuse(connection, &mut flight, client.as_ref(), &refusal).await,
    }
}

async fn run(connection: &mut Connection, flight: &mut Flight, client: &mut Option<Client>) -> Result<After, Ended> {
    let worker = connection.worker.clone();
    let head = read::head(connection).await?;
    let bytes = connection.reader.input().bytes();
    let client = &*client.insert(Client::new(&head, bytes, &worker));
    let path = read::path(&head, bytes);
    flight.head(Head {
        method: head.method_span.of(bytes),
        path,
        path_label: path_label(path),
        protocol: if head.version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" },
        id: &client.id,
    });
    if let Some(answer) = local::answer(&worker, &head, path) {
        read::body(connection, head).await?;
        return Ok(local::send(connection, flight, client, &answer).await);
    }
    if let Err(refusal) = ask::check_head(&head, bytes, path) {
        if !refusal.close {
            // The connection goes on, so the request must be taken out of it.
            read::body(connection, head).await?;
        }
        return Err(refusal.into());
    }
    let received = read::body(connection, head).await?;
    flight.received(received.body.len());
    let (received, ask) = ask::read(connection, received).await?;
    let (received, decided) = decide::decide(connection, flight, received, &ask).await?;
    let answered = attempts::run(connection, flight, client, attempts::Outgoing { received, ask, decided }).await?;
    relay::relay(connection, flight, client, answered).await
}

async fn refuse(connection: &mut Connection, flight: &mut Flight, client: Option<&Client>, refusal: &Refusal) -> After {
    let worker = connection.worker.clone();
    flight.refused(refusal);
    if let Some(limit) = refusal.limit {
        worker.metrics.hit(limit);
    }
    // Without a head nobody knows whether another request follows.
    let close = refusal.close || client.is_none();
    let kept = client.map_or(Downstream::Close, |c| c.connection(&worker));
    let kept = if close { Downstream::Close } else { kept };
    let mut out = Vec::with_capacity(512);
    let to_head = client.is_some_and(|c| c.to_head);
    refusal.write(&mut out, client.map(|c| c.id.as_str()), to_head, kept);
    match connection.write(out).await {
        true if kept == Downstream::Close => After::Close,
        true => After::Keep,
        false => After::Cut,
    }
}

/// The path as a label: one of a fixed list, whatever clients send.
fn path_label(path: &str) -> &'static str {
    match api_kind(path) {
        ApiKind::Chat => "/v1/chat/completions",
        ApiKind::Completions => "/v1/completions",
        ApiKind::Responses => "/v1/responses",
        ApiKind::Messages => "/v1/messages",
        ApiKind::Embeddings => "/v1/embeddings",
        ApiKind::Rerank => "/v1/rerank",
        ApiKind::Score => "/v1/score",
        ApiKind::Classify => "/v1/classify",
        ApiKind::Tokenize => "/tokenize",
        ApiKind::Audio => "/v1/audio",
        ApiKind::Infer => "/v2/models/infer",
        ApiKind::Generate => "/v2/models/generate",
        ApiKind::GenerateStream => "/v2/models/generate_stream",
        ApiKind::Predictions => "/predictions",
        ApiKind::Predict => "/v1/models/predict",
        ApiKind::Other if path == "/v1/models" || path == "/models" => "/v1/models",
        ApiKind::Other if path == "/healthz" || path == "/readyz" => "/healthz",
        ApiKind::Other => "other",
    }
}
