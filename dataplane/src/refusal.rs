//! Answers that the proxy makes itself when it cannot serve: OpenAI-shaped, with a request id, saying what to do.

use std::borrow::Cow;
use std::io::Write;

use dataplane_core::http::{BadChunk, BadRequest, Downstream, Fault, LocalResponse, write_local_response};

use crate::metrics::{Limit, Side};

/// Why a request was refused: the `error_type` of metrics and the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The bytes of the request.
    RequestParsing,
    /// No route has this model, or none of its rules match.
    RouteNotFound,
    /// The route's backend is missing or has no endpoint.
    PodDiscovery,
    /// No endpoint may take the request now.
    Scheduling,
    /// The proxy lacks something of its machine: descriptors, ports, memory.
    Proxy,
    /// The engine could not be reached or broke off.
    UpstreamTransport,
    /// The engine's answer broke the protocol.
    UpstreamResponse,
    /// The engine took too long.
    UpstreamTimeout,
    /// A bound of ours.
    Limit,
    /// The client left.
    ClientGone,
}

impl Reason {
    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::RequestParsing => "request_parsing",
            Self::RouteNotFound => "route_not_found",
            Self::PodDiscovery => "pod_discovery",
            Self::Scheduling => "scheduling",
            Self::Proxy => "proxy",
            Self::UpstreamTransport => "upstream_transport",
            Self::UpstreamResponse => "upstream_response",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Limit => "limit",
            Self::ClientGone => "client_gone",
        }
    }

    /// Whose fault it is that a request ends with this status: a server's error that is no engine's is ours.
    pub fn side(self, status: u16) -> Side {
        match self {
            Self::ClientGone => Side::Downstream,
            Self::RequestParsing | Self::RouteNotFound | Self::Limit if status < 500 => Side::Downstream,
            Self::RequestParsing | Self::RouteNotFound | Self::Limit | Self::Proxy => Side::Internal,
            Self::PodDiscovery
            | Self::Scheduling
            | Self::UpstreamTransport
            | Self::UpstreamResponse
            | Self::UpstreamTimeout => Side::Upstream,
        }
    }
}

/// One refusal, complete.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// Why.
    pub reason: Reason,
    /// The sentence for the user.
    pub message: Cow<'static, str>,
    /// A stable word for programs, OpenAI's where it has one.
    pub code: Option<&'static str>,
    /// The parameter at fault.
    pub param: Option<&'static str>,
    /// Seconds for `retry-after`.
    pub retry_after_s: Option<u32>,
    /// The methods for `allow` with 405.
    pub allow: Option<&'static str>,
    /// The connection cannot be used again: the framing is in doubt.
    pub close: bool,
    /// The bound that was hit, for the metric.
    pub limit: Option<Limit>,
}

impl Refusal {
    /// A refusal after which the connection stays usable.
    pub fn new(status: u16, reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            code: None,
            param: None,
            retry_after_s: None,
            allow: None,
            close: false,
            limit: None,
        }
    }

    /// With a stable word.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// With the parameter at fault.
    pub fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// With a time to wait.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// With the bound that was hit.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// After it the connection closes.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// For a head that the codec refused.
    pub fn bad_head(bad: &BadRequest) -> Self {
        let refusal = Self::new(bad.status, Reason::RequestParsing, bad.to_string()).code(bad.reason.label()).close();
        match bad.reason {
            Fault::UriTooLong => refusal.limit(Limit::Uri),
            Fault::HeadTooLarge | Fault::TooManyFields | Fault::NameTooLong => refusal.limit(Limit::Head),
            _ => refusal,
        }
    }

    /// For a body whose chunks the codec refused.
    pub fn bad_chunk(bad: &BadChunk) -> Self {
        Self::new(400, Reason::RequestParsing, format!("{} (request body)", bad.reason.text()))
            .code(bad.reason.label())
            .close()
    }

    /// For a body over the limit.
    pub fn body_too_large(limit: usize) -> Self {
        let text = format!("The request body is over {limit} bytes; the operator can raise limits.body_bytes.");
        Self::new(413, Reason::Limit, text).code("body_too_large").limit(Limit::Body).close()
    }

    /// For a process that holds too many bodies.
    pub fn memory_full() -> Self {
        Self::new(503, Reason::Limit, "Too many request bodies are held at once; try again.")
            .code("overloaded")
            .retry_after(1)
            .limit(Limit::Buffered)
            .close()
    }

    /// For a client that took too long to send its request.
    pub fn client_slow(what: &'static str) -> Self {
        // The sweep has counted the limit.
        Self::new(408, Reason::Limit, format!("The {what} did not arrive in time.")).close()
    }

    /// For an engine that took too long.
    pub fn upstream_slow() -> Self {
        // The sweep has counted the limit.
        Self::new(504, Reason::UpstreamTimeout, "The model server did not answer in time.").code("upstream_timeout")
    }

    /// The whole answer.
    pub fn write(&self, out: &mut Vec<u8>, request_id: Option<&str>, to_head: bool, connection: Downstream) {
        let mut seconds = [0u8; 10];
        let mut extra: [(&str, &[u8]); 2] = [("", b""); 2];
        let mut n = 0;
        if let Some(s) = self.retry_after_s {
            let mut left = &mut seconds[..];
            write!(left, "{s}").expect("ten digits hold any u32");
            let used = 10 - left.len();
            extra[n] = ("retry-after", &seconds[..used]);
            n += 1;
        }
        if let Some(allow) = self.allow {
            extra[n] = ("allow", allow.as_bytes());
            n += 1;
        }
        let answer = LocalResponse {
            status: self.status,
            content_type: "application/json",
            body: &self.body(),
            to_head,
            request_id: request_id.map(str::as_bytes),
            connection: if self.close { Downstream::Close } else { connection },
            extra: &extra[..n],
        };
        write_local_response(out, &answer);
    }

    /// OpenAI's error object.
    pub fn body(&self) -> Vec<u8> {
        let error = serde_json::json!({"error": {
            "message": self.message,
            "type": self.kind(),
            "param": self.param,
            "code": self.code,
        }});
        serde_json::to_vec(&error).expect("an object of strings is always JSON")
    }

    fn kind(&self) -> &'static str {
        match self.status {
            429 => "rate_limit_error",
            404 => "not_found_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_knows_its_side() {
        for (refusal, side) in [
            (Refusal::body_too_large(1), Side::Downstream),
            (Refusal::client_slow("body"), Side::Downstream),
            (Refusal::new(404, Reason::RouteNotFound, "no such model"), Side::Downstream),
            (Refusal::memory_full(), Side::Internal),
            (Refusal::new(503, Reason::RouteNotFound, "nothing is known yet"), Side::Internal),
            (Refusal::new(503, Reason::Proxy, "no descriptors"), Side::Internal),
            (Refusal::upstream_slow(), Side::Upstream),
            (Refusal::new(503, Reason::Scheduling, "full"), Side::Upstream),
        ] {
            assert_eq!(refusal.reason.side(refusal.status), side, "{refusal:?}");
        }
    }

    #[test]
    fn a_refusal_is_an_openai_error_that_says_how_long_to_wait() {
        let mut out = Vec::new();
        Refusal::memory_full().write(&mut out, Some("id-1"), false, Downstream::Keep);
        let text = String::from_utf8(out).unwrap().to_lowercase();
        assert!(text.starts_with("http/1.1 503 "), "{text}");
        for part in ["retry-after: 1\r\n", "x-request-id: id-1\r\n", "connection: close\r\n", "\"code\":\"overloaded\""]
        {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
