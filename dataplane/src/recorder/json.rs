//! The JSON form: one object a line, the reference's fields by its names, then ours.

use api::id::{BackendName, ModelName, RouteName};
use serde::Serialize;

use super::record::Record;
use super::stamp::Stamp;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    method: &'a str,
    path: &'a str,
    protocol: &'a str,
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error<'a>>,
    model_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selected_pod: Option<&'a str>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status_code: Option<u16>,
    #[serde(skip_serializing_if = "is_zero")]
    upstream_attempts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_origin: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    input_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    output_tokens: u64,
    duration_total: u64,
    duration_request_processing: u64,
    duration_upstream_processing: u64,
    duration_response_processing: u64,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_us: Option<u64>,
    prompt_blocks: u32,
    cached_blocks: u32,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'a str,
    message: &'a str,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Appends one object, without a line end.
pub(super) fn format(r: &Record, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let mut start = Vec::with_capacity(30);
    stamp.write(r.start, &mut start);
    let ms = |d: std::time::Duration| d.as_millis() as u64;
    let line = Line {
        timestamp: String::from_utf8(start).unwrap_or_default(),
        method: &r.method,
        path: &r.path,
        protocol: r.protocol,
        status_code: r.status,
        error: r.error.as_ref().map(|e| Error { r#type: e.kind, message: &e.message }),
        model_name: &r.model,
        model_route: r.route.as_ref().map(RouteName::as_str),
        model_server: r.backend.as_ref().map(BackendName::as_str),
        selected_pod: r.pod(),
        request_id: &r.request_id,
        backend_type: r.backend.as_ref().map(|_| "model_server"),
        backend_name: r.backend.as_ref().map(BackendName::as_str),
        upstream_model: r.upstream_model.as_ref().map(ModelName::as_str),
        upstream_status_code: r.upstream_status,
        upstream_attempts: r.attempts.into(),
        error_origin: r.error.as_ref().map(|e| e.origin),
        input_tokens: r.input_tokens,
        output_tokens: r.output_tokens,
        duration_total: ms(r.durations.total),
        duration_request_processing: ms(r.durations.request),
        duration_upstream_processing: ms(r.durations.upstream),
        duration_response_processing: ms(r.durations.response),
        client: r.client.to_string(),
        endpoint: r.endpoint.as_ref().map(|(_, a)| a.to_string()),
        ttft_us: r.ttft.map(|d| d.as_micros() as u64),
        prompt_blocks: r.blocks.0,
        cached_blocks: r.blocks.1,
        bytes_in: r.bytes.0,
        bytes_out: r.bytes.1,
    };
    serde_json::to_writer(out, &line).expect("a record of strings and numbers is always JSON");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_with_the_references_names() {
        let mut out = Vec::new();
        format(&Record { model: "a\n\"b".into(), ..Record::sample() }, &mut Stamp::default(), &mut out);
        assert!(!out.contains(&b'\n'));
        let v: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(v["model_name"], "a\n\"b");
        assert_eq!(v["selected_pod"], "pod-0");
        assert_eq!(v["duration_total"], 30);
        assert_eq!(v["timestamp"], "2023-11-14T22:13:20.120000000Z");
        assert!(v.get("error").is_none());
    }
}
