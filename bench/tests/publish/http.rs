//! A client that keeps its connection and says when it had to open another.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines of its head, names in lower case.
    fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find_map(|(known, value)| (known == name).then_some(&**value))
    }
}

/// A kept connection.
pub(crate) struct Connection {
    target: SocketAddr,
    stream: BufReader<TcpStream>,
    /// Connections made so far.
    pub(crate) opened: usize,
}

impl Connection {
    pub(crate) fn open(target: SocketAddr) -> Self {
        Self { target, stream: BufReader::new(connect(target)), opened: 1 }
    }

    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
    }

    /// The status of a short answer.
    pub(crate) fn chat(&mut self, model: &str) -> u16 {
        self.ask_chat(model).0
    }

    pub(crate) fn ask_chat(&mut self, model: &str) -> (u16, String) {
        let body = serde_json::json!({
            "model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Say yes."}],
        })
        .to_string();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
        self.ask(&format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }

    pub(crate) fn ask(&mut self, request: &str) -> (u16, String) {
        let Answer { status, body, .. } = self.exchange(request);
        (status, body)
    }

    pub(crate) fn exchange(&mut self, request: &str) -> Answer {
        if let Some(answer) = self.try_ask(request) {
            return answer;
        }
        self.opened += 1;
        self.stream = BufReader::new(connect(self.target));
        self.try_ask(request).unwrap()
    }

    /// None where the connection was closed before an answer began.
    fn try_ask(&mut self, request: &str) -> Option<Answer> {
        self.stream.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        if self.stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, fields: self.fields(), body: String::new() };
        let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
        let chunked = answer.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let body = if chunked { self.chunks() } else { self.exactly(length) };
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                return fields;
            }
            let (name, value) = line.trim().split_once(':').unwrap();
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            body.extend(self.exactly(length));
            self.exactly(2);
            if length == 0 {
                return body;
            }
        }
    }
}

fn connect(target: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(target).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
