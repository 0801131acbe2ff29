//! The text form: the reference's fields in its order, then ours. Values are escaped, so that no client can forge a line.

use std::io::Write;

use api::id::{BackendName, ModelName, RouteName};

use super::record::Record;

/// Appends one line, without its end.
pub(super) fn format(r: &Record, out: &mut Vec<u8>) {
    let start = jiff::Timestamp::try_from(r.start).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let mut line = Line { out };
    line.raw(format_args!("[{start:.9}] \""));
    line.escaped(&r.method);
    line.raw(format_args!(" "));
    line.escaped(&r.path);
    line.raw(format_args!(" {}\" {}", r.protocol, r.status));
    if let Some(error) = &r.error {
        line.raw(format_args!(" error={}:", error.kind));
        line.value(&error.message);
    }
    line.field("model_name", Some(r.model.as_str()).filter(|m| !m.is_empty()));
    line.field("model_route", r.route.as_ref().map(RouteName::as_str));
    line.field("model_server", r.backend.as_ref().map(BackendName::as_str));
    line.field("selected_pod", r.pod());
    line.field("request_id", Some(&r.request_id));
    line.field("backend_type", r.backend.as_ref().map(|_| "model_server"));
    line.field("backend_name", r.backend.as_ref().map(BackendName::as_str));
    line.field("upstream_model", r.upstream_model.as_ref().map(ModelName::as_str));
    if let Some(status) = r.upstream_status {
        line.raw(format_args!(" upstream_status_code={status}"));
    }
    if r.attempts > 0 {
        line.raw(format_args!(" upstream_attempts={}", r.attempts));
    }
    line.field("error_origin", r.error.as_ref().map(|e| e.origin));
    if r.input_tokens > 0 || r.output_tokens > 0 {
        line.raw(format_args!(" tokens={}/{}", r.input_tokens, r.output_tokens));
    }
    let d = &r.durations;
    let ms = |d: std::time::Duration| d.as_millis();
    line.raw(format_args!(" timings={}ms({}+{}+{})", ms(d.total), ms(d.request), ms(d.upstream), ms(d.response)));
    line.raw(format_args!(" client={}", r.client));
    if let Some((_, address)) = &r.endpoint {
        line.raw(format_args!(" endpoint={address}"));
    }
    if let Some(ttft) = r.ttft {
        line.raw(format_args!(" ttft={}ms", ms(ttft)));
    }
    if r.blocks.0 > 0 {
        line.raw(format_args!(" cached_blocks={}/{}", r.blocks.1, r.blocks.0));
    }
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn raw(&mut self, args: std::fmt::Arguments<'_>) {
        self.out.write_fmt(args).expect("writing to memory does not fail");
    }

    fn field(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.raw(format_args!(" {name}="));
            self.value(value);
        }
    }

    /// Plain where that cannot be misread, else quoted.
    fn value(&mut self, value: &str) {
        if value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            self.raw(format_args!("\""));
            self.escaped(value);
            self.raw(format_args!("\""));
        }
    }

    fn escaped(&mut self, value: &str) {
        self.raw(format_args!("{}", value.escape_debug()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::ErrorRecord;
    use super::*;

    fn check(record: Record, expected: &str) {
        let mut out = Vec::new();
        format(&record, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_success_has_the_references_fields_in_its_order() {
        check(
            Record::sample(),
            "[2023-11-14T22:13:20.120000000Z] \"POST /v1/chat/completions HTTP/1.1\" 200 model_name=llama \
             model_route=default/r model_server=default/b selected_pod=pod-0 request_id=id backend_type=model_server \
             backend_name=default/b upstream_status_code=200 upstream_attempts=1 tokens=8/5 \
             timings=30ms(1+11+18) client=127.0.0.1:5000 endpoint=127.0.0.2:8000 ttft=12ms cached_blocks=32/40",
        );
    }

    #[test]
    fn a_model_name_cannot_forge_a_line() {
        let error = ErrorRecord { kind: "route_not_found", message: "route not found".into(), origin: "router" };
        let record = Record {
            model: "a\n[x] \u{1b}[31m\"".into(),
            error: Some(error),
            route: None,
            backend: None,
            endpoint: None,
            upstream_status: None,
            attempts: 0,
            input_tokens: 0,
            output_tokens: 0,
            ttft: None,
            blocks: (0, 0),
            status: 404,
            ..Record::sample()
        };
        check(
            record,
            "[2023-11-14T22:13:20.120000000Z] \"POST /v1/chat/completions HTTP/1.1\" 404 \
             error=route_not_found:\"route not found\" model_name=\"a\\n[x] \\u{1b}[31m\\\"\" request_id=id \
             error_origin=router timings=30ms(1+11+18) client=127.0.0.1:5000",
        );
    }
}
