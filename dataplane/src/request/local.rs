//! What the proxy answers itself on the data port: health for load balancers, and the models of the table.

use std::sync::{Arc, Weak};

use dataplane_core::http::{Downstream, LocalResponse, Method, RequestHead, write_local_response};
use dataplane_core::table::Table;
use serde_json::json;

use super::Client;
use super::finish::Flight;
use crate::escape::unescaped;
use crate::server::connection::{After, Connection};
use crate::worker::Worker;

/// An answer made here.
pub(crate) struct Local {
    status: u16,
    body: Vec<u8>,
    to_head: bool,
}

/// The answer, if the request is for one of our own paths.
pub(crate) fn answer(worker: &Worker, head: &RequestHead, path: &str) -> Option<Local> {
    let to_head = head.method == Method::Head;
    if head.method != Method::Get && !to_head {
        return None;
    }
    let (status, body) = match path {
        "/healthz" => (200, br#"{"message":"ok"}"#.to_vec()),
        // Without what the admin port tells: clients need not know of files and snapshots.
        "/readyz" if worker.shared.ready() => (200, br#"{"message":"router is ready"}"#.to_vec()),
        "/readyz" => (503, br#"{"message":"router is not ready"}"#.to_vec()),
        "/v1/models" | "/models" => (200, models(worker)),
        _ => model(worker, path.strip_prefix("/v1/models/")?),
    };
    Some(Local { status, body, to_head })
}

/// Writes it.
pub(crate) async fn send(connection: &mut Connection, flight: &mut Flight, client: &Client, local: &Local) -> After {
    let kept = client.connection(&connection.worker);
    flight.status(local.status);
    let mut out = Vec::with_capacity(local.body.len() + 256);
    let answer = LocalResponse {
        status: local.status,
        content_type: "application/json",
        body: &local.body,
        to_head: local.to_head,
        request_id: Some(client.id.as_str().as_bytes()),
        connection: kept,
        extra: &[],
    };
    write_local_response(&mut out, &answer);
    match connection.write(out).await {
        true if kept == Downstream::Close => After::Close,
        true => After::Keep,
        false => After::Cut,
    }
}

/// The list is made once per table: with thousands of models it takes a while.
fn models(worker: &Worker) -> Vec<u8> {
    let table = worker.table();
    let mut cached = worker.models.borrow_mut();
    match &*cached {
        Some((of, body)) if Weak::ptr_eq(of, &Arc::downgrade(&table)) => body.clone(),
        _ => {
            let body = list(&table);
            *cached = Some((Arc::downgrade(&table), body.clone()));
            body
        }
    }
}

fn list(table: &Table) -> Vec<u8> {
    let data: Vec<_> = table.models().iter().map(|name| object(name)).collect();
    to_json(&json!({"object": "list", "data": data}))
}

/// One model; its name may be escaped, and may hold slashes in either form.
fn model(worker: &Worker, escaped: &str) -> (u16, Vec<u8>) {
    let name = unescaped(escaped);
    let table = worker.table();
    match name.as_deref().and_then(|name| table.known_model(name)) {
        Some(known) => (200, to_json(&object(known))),
        None => {
            let message = format!("The model `{}` does not exist.", name.as_deref().unwrap_or(escaped));
            let error = json!({
                "message": message, "type": "not_found_error", "param": "model", "code": "model_not_found",
            });
            (404, to_json(&json!({"error": error})))
        }
    }
}

fn object(name: &str) -> serde_json::Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "kthena"})
}

fn to_json(value: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value is always JSON")
}
