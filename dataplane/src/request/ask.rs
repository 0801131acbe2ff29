//! What a request asks for: the model and the few fields that routing and scheduling need, read from the body or from
//! the path.

use std::time::Duration;

use dataplane_core::http::{Known, Method, RequestHead};
use dataplane_core::inspect::{
    self, ApiKind, BodyKind, InspectError, Inspected, api_kind, body_kind, inspect_json, inspect_multipart,
    model_in_path,
};

use super::Ended;
use super::forward::unless_gone;
use super::read::Received;
use crate::metrics::Limit;
use crate::refusal::{Reason, Refusal};
use crate::rt;
use crate::server::connection::Connection;

/// How long a large body may wait for a helper thread.
const OFFLOAD_TIME: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) api: ApiKind,
    pub(crate) model: String,
    /// The model stands here in the path; else it stands in the body.
    pub(crate) in_path: Option<std::ops::Range<usize>>,
    pub(crate) inspected: Inspected,
}

impl Ask {
    /// Whether the client waits for a stream of events.
    pub(crate) fn streams(&self) -> bool {
        self.inspected.stream == Some(true) || self.api == ApiKind::GenerateStream
    }

    /// What is needed of the body besides the model.
    pub(crate) fn cache_salt(&self, body: &[u8]) -> String {
        self.inspected.cache_salt.map(|text| text.decode(body).into_owned()).unwrap_or_default()
    }
}

/// Refuses what cannot be served, by the head alone: before its body is asked for.
pub(crate) fn check_head(head: &RequestHead, bytes: &[u8], path: &str) -> Result<(), Refusal> {
    let kind = body_kind(path, head.known(bytes, Known::ContentType));
    if head.encoded_slash && kind != BodyKind::Opaque && !path.starts_with("/v1/models/") {
        return Err(bad("the path holds %2f where no name is expected").code("bad_path").close());
    }
    if head.method == Method::Head || head.method == Method::Options {
        // Triton answers HEAD with a body, which would be read as the next answer.
        let mut refusal = Refusal::new(405, Reason::RequestParsing, "HEAD and OPTIONS are not served here.");
        refusal.allow = Some("GET, POST");
        return Err(if head.framing == dataplane_core::http::RequestFraming::None { refusal } else { refusal.close() });
    }
    let encoded = head.known(bytes, Known::ContentEncoding).is_some_and(|e| !e.eq_ignore_ascii_case(b"identity"));
    if encoded && kind != BodyKind::Opaque {
        let text = "The request body is compressed; routing must read it. Send it without Content-Encoding.";
        return Err(Refusal::new(415, Reason::RequestParsing, text).code("content_encoding").close());
    }
    Ok(())
}

/// Reads the request; a large body is read by a helper thread.
pub(crate) async fn read(connection: &mut Connection, received: Received) -> Result<(Received, Box<Ask>), Ended> {
    if received.body.len() <= connection.worker.shared.config.limits.offload_bytes {
        let ask = ask(&received)?;
        return Ok((received, ask));
    }
    let (received, ask) = offload(connection, move || {
        let ask = ask(&received);
        (received, ask)
    })
    .await?;
    Ok((received, ask?))
}

/// Runs a job on a helper thread, or refuses when they have too much to do.
pub(crate) async fn offload<T: Send + 'static>(
    connection: &mut Connection,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Ended> {
    let busy = || {
        Refusal::new(503, Reason::Limit, "Too many large requests are read at once; try again.")
            .code("overloaded")
            .retry_after(1)
            .limit(Limit::Offload)
    };
    // The client's time to send its body is over; ours is bounded.
    connection.watch.nothing();
    let pending = connection.worker.shared.offload.run(job).map_err(|_| busy())?;
    let done = unless_gone(rt::timeout(OFFLOAD_TIME, pending.value()), &mut connection.reader).await;
    match done.ok_or(Ended::Gone)? {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Refusal::new(500, Reason::RequestParsing, "The request could not be read.").close().into()),
        Err(_) => Err(busy().into()),
    }
}

fn ask(received: &Received) -> Result<Box<Ask>, Refusal> {
    let (path, body) = (received.path(), received.body());
    if let Some(named) = model_in_path(path) {
        let (api, model) = (named.api, named.model.into_owned());
        return Ok(Box::new(Ask { api, model, in_path: Some(named.at), inspected: Inspected::default() }));
    }
    let content_type = received.head.known(received.input.bytes(), Known::ContentType);
    let mut inspected = Inspected::default();
    if body.is_empty() && received.head.method != Method::Post {
        return Err(nothing_here(path));
    }
    match body_kind(path, content_type) {
        BodyKind::Multipart => inspect_multipart(body, content_type.unwrap_or_default(), &mut inspected),
        BodyKind::Json | BodyKind::Opaque => inspect_json(body, &mut inspected),
    }
    .map_err(|e| unreadable(&e))?;
    let model = inspected.model.map(|text| text.decode(body).into_owned()).unwrap_or_default();
    if model.trim().is_empty() {
        let text = "The request names no model; set `model`.";
        return Err(Refusal::new(404, Reason::RequestParsing, text).code("model_not_found").param("model"));
    }
    Ok(Box::new(Ask { api: api_kind(path), model, in_path: None, inspected }))
}

fn nothing_here(path: &str) -> Refusal {
    if path.starts_with("/v1/responses/") {
        let text = "Stored responses live in the engine that made them, and which one that was is not recorded here; \
                    send the whole conversation instead.";
        return Refusal::new(404, Reason::RouteNotFound, text).code("response_not_found");
    }
    Refusal::new(404, Reason::RouteNotFound, "Nothing is served at this path with this method.").code("not_found")
}

fn unreadable(error: &InspectError) -> Refusal {
    let mut refusal = bad(error.to_string());
    refusal.param = (!error.key.is_empty()).then_some(error.key);
    refusal.code(match error.kind {
        inspect::ErrorKind::Duplicate => "duplicate_key",
        inspect::ErrorKind::Depth => "too_deep",
        _ => "unreadable_body",
    })
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(400, Reason::RequestParsing, text)
}
