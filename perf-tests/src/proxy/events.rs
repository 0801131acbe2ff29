//! The events of a watch, one by one.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use serde::Deserialize;

use super::asked::Asked;
use super::rules::Fault;
use super::{State, serve};

struct Watch {
    body: Incoming,
    buffer: BytesMut,
    state: Arc<State>,
    asked: Asked,
    expired: bool,
}

/// Each is a line of JSON.
pub(super) fn pass(body: Incoming, state: Arc<State>, asked: Asked) -> impl Stream<Item = hyper::Result<Frame<Bytes>>> {
    let watch = Watch { body, buffer: BytesMut::new(), state, asked, expired: false };
    stream::unfold(watch, |mut watch| async {
        let line = watch.next().await?;
        Some((line.map(Frame::data), watch))
    })
}

impl Watch {
    async fn next(&mut self) -> Option<hyper::Result<Bytes>> {
        while !self.expired {
            let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') else {
                match self.body.frame().await? {
                    Ok(frame) => self.buffer.extend(frame.into_data().ok()),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let line = self.buffer.split_to(end + 1).freeze();
            let met = if is_of_object(&line) { self.state.meet_event(&self.asked) } else { None };
            match met {
                Some(Fault::LoseEvent) => {}
                Some(Fault::Expire) => {
                    self.expired = true;
                    return Some(Ok(too_old()));
                }
                _ => return Some(Ok(line)),
            }
        }
        None
    }
}

/// Not a bookmark, and no error of the API server's own.
fn is_of_object(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Event {
        r#type: String,
    }
    serde_json::from_slice::<Event>(line)
        .is_ok_and(|event| matches!(event.r#type.as_str(), "ADDED" | "MODIFIED" | "DELETED"))
}

fn too_old() -> Bytes {
    let event = serde_json::json!({"type": "ERROR", "object": serve::status(410)});
    Bytes::from(format!("{event}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_objects_count() {
        for (kind, expected) in
            [("ADDED", true), ("MODIFIED", true), ("DELETED", true), ("BOOKMARK", false), ("ERROR", false)]
        {
            let line = format!("{{\"type\":\"{kind}\",\"object\":{{}}}}\n");
            assert_eq!(is_of_object(line.as_bytes()), expected, "{kind}");
        }
    }
}
