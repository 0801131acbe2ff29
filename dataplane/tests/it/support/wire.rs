//! HTTP as text: what is sent, and what is read from bytes.

/// A head as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head(pub(crate) String);

impl Head {
    /// The first line.
    pub(crate) fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    /// The status of an answer; 0 where there is none.
    pub(crate) fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.0.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// A POST of JSON with further fields, each ended by CRLF.
pub(crate) fn post_with(path: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: proxy.test\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A POST of JSON.
pub(crate) fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post_with(path, "", body)
}

/// A chat completion by this model.
pub(crate) fn chat(model: &str) -> Vec<u8> {
    post(CHAT, format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#))
}

/// The same, streamed.
pub(crate) fn stream(model: &str) -> Vec<u8> {
    post(CHAT, format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#))
}

/// Where chat completions are.
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: proxy.test\r\n\r\n").into_bytes()
}

/// An answer with a length.
pub(crate) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The head of an event stream in chunks.
pub(crate) const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One chunk.
pub(crate) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// The last chunk.
pub(crate) const LAST: &str = "0\r\n\r\n";

/// The data of a chunked body so far, how many bytes it took, and whether it ended.
pub(crate) fn dechunk(bytes: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut data, mut at) = (Vec::new(), 0);
    while let Some(line) = find(&bytes[at..], b"\r\n") {
        let size = std::str::from_utf8(&bytes[at..at + line]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.unwrap_or_else(|| panic!("no chunk size in {:?}", &bytes[at..at + line]));
        let start = at + line + 2;
        if size == 0 {
            return if bytes.len() >= start + 2 { (data, start + 2, true) } else { (data, at, false) };
        }
        if bytes.len() < start + size + 2 {
            data.extend_from_slice(&bytes[start..bytes.len().min(start + size)]);
            return (data, at, false);
        }
        data.extend_from_slice(&bytes[start..start + size]);
        assert_eq!(&bytes[start + size..start + size + 2], b"\r\n", "a chunk ends with CRLF");
        at = start + size + 2;
    }
    (data, at, false)
}

/// Where the needle begins.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}
