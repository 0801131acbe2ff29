//! The text form: the reference's fields in its order, then ours. Values are escaped, so that no client can forge a line.
//! Written piece by piece rather than by format strings: this is a tenth of the proxy's own work at full load.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use api::id::{BackendName, ModelName, RouteName};

use super::record::Record;
use super::stamp::Stamp;

/// Appends one line, without its end.
pub(super) fn format(r: &Record, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let mut line = Line { out };
    line.text("[");
    stamp.write(r.start, line.out);
    line.text("] \"");
    line.escaped(&r.method);
    line.text(" ");
    line.escaped(&r.path);
    line.text(" ");
    line.text(r.protocol);
    line.text("\" ");
    line.number(r.status.into());
    if let Some(error) = &r.error {
        line.text(" error=");
        line.text(error.kind);
        line.text(":");
        line.value(&error.message);
    }
    names(r, &mut line);
    if r.input_tokens > 0 || r.output_tokens > 0 {
        line.numbers(" tokens=", &[r.input_tokens, r.output_tokens], "/");
    }
    timings(r, &mut line);
    ours(r, &mut line);
}

fn names(r: &Record, line: &mut Line<'_>) {
    line.field(" model_name=", Some(&*r.model).filter(|m| !m.is_empty()));
    line.field(" model_route=", r.route.as_ref().map(RouteName::as_str));
    line.field(" model_server=", r.backend.as_ref().map(BackendName::as_str));
    line.field(" selected_pod=", r.pod());
    line.field(" request_id=", Some(&r.request_id));
    line.field(" backend_type=", r.backend.as_ref().map(|_| "model_server"));
    line.field(" backend_name=", r.backend.as_ref().map(BackendName::as_str));
    line.field(" upstream_model=", r.upstream_model.as_ref().map(ModelName::as_str));
    if let Some(status) = r.upstream_status {
        line.numbers(" upstream_status_code=", &[status.into()], "");
    }
    if r.attempts > 0 {
        line.numbers(" upstream_attempts=", &[r.attempts.into()], "");
    }
    line.field(" error_origin=", r.error.as_ref().map(|e| e.origin));
}

fn timings(r: &Record, line: &mut Line<'_>) {
    let ms = |d: Duration| d.as_millis() as u64;
    let d = &r.durations;
    line.numbers(" timings=", &[ms(d.total)], "");
    line.numbers("ms(", &[ms(d.request), ms(d.upstream), ms(d.response)], "+");
    line.text(")");
}

fn ours(r: &Record, line: &mut Line<'_>) {
    line.text(" client=");
    line.address(&r.client);
    if let Some((_, address)) = &r.endpoint {
        line.text(" endpoint=");
        line.address(address);
    }
    if let Some(ttft) = r.ttft {
        line.numbers(" ttft=", &[ttft.as_millis() as u64], "");
        line.text("ms");
    }
    if r.blocks.0 > 0 {
        line.numbers(" cached_blocks=", &[r.blocks.1.into(), r.blocks.0.into()], "/");
    }
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, n: u64) {
        self.text(itoa::Buffer::new().format(n));
    }

    fn numbers(&mut self, name: &str, numbers: &[u64], between: &str) {
        self.text(name);
        for (at, n) in numbers.iter().enumerate() {
            if at > 0 {
                self.text(between);
            }
            self.number(*n);
        }
    }

    fn address(&mut self, address: &SocketAddr) {
        let SocketAddr::V4(v4) = address else {
            return write!(self.out, "{address}").expect("writing to memory does not fail");
        };
        let [a, b, c, d] = v4.ip().octets();
        self.numbers("", &[a.into(), b.into(), c.into(), d.into()], ".");
        self.numbers(":", &[v4.port().into()], "");
    }

    fn field(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name);
            self.value(value);
        }
    }

    /// Plain where that cannot be misread, else quoted.
    fn value(&mut self, value: &str) {
        if is_plain(value) {
            self.text(value);
        } else {
            self.text("\"");
            self.escaped(value);
            self.text("\"");
        }
    }

    fn escaped(&mut self, value: &str) {
        if is_plain(value) {
            return self.text(value);
        }
        write!(self.out, "{}", value.escape_debug()).expect("writing to memory does not fail");
    }
}

/// Whether a value needs neither quotes nor escapes. It looks at every byte, so that the compiler makes vector code of it.
fn is_plain(value: &str) -> bool {
    !value.bytes().fold(false, |odd, b| odd | !(0x21..0x7f).contains(&b) | (b == b'"') | (b == b'\\'))
}

#[cfg(test)]
mod tests {
    use super::super::record::ErrorRecord;
    use super::*;
    use crate::metrics::Side;

    fn check(record: Record, expected: &str) {
        let mut out = Vec::new();
        format(&record, &mut Stamp::default(), &mut out);
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
        let error = ErrorRecord {
            kind: "route_not_found",
            message: "route not found".into(),
            origin: "router",
            side: Side::Downstream,
        };
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
