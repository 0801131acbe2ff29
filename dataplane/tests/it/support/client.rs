//! A client of plain sockets: it sends the bytes that it is given and sees those that come.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::wire::{Head, dechunk, find};

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    have: Vec<u8>,
}

/// An answer, its body without chunks.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By FIN.
    Closed,
    /// By RST.
    Reset,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, have: Vec::new() }
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends as many bytes as the other side takes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // The other side may close before it has all, which is what some tests are about.
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends and reads one answer.
    pub(crate) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.send(bytes).reply()
    }

    /// Ends the sending side only.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads the next head.
    pub(crate) fn head(&mut self) -> Head {
        let at = self.wait_for(|have| find(have, b"\r\n\r\n"), "a head");
        let rest = self.have.split_off(at + 4);
        Head(String::from_utf8(std::mem::replace(&mut self.have, rest)).unwrap())
    }

    /// Reads one whole answer, with its body.
    pub(crate) fn reply(&mut self) -> Reply {
        let head = self.head();
        let body = self.body_of(&head);
        Reply { head, body }
    }

    fn body_of(&mut self, head: &Head) -> Vec<u8> {
        if matches!(head.status(), 100..=199 | 204 | 304) {
            return Vec::new();
        }
        if let Some(length) = head.field("content-length") {
            let length: usize = length.parse().unwrap();
            self.wait_for(|have| (have.len() >= length).then_some(0), "a body");
            let rest = self.have.split_off(length);
            return std::mem::replace(&mut self.have, rest);
        }
        if head.field("transfer-encoding").is_some() {
            let end = self.wait_for(|have| Some(dechunk(have)).filter(|d| d.2).map(|d| d.1), "the last chunk");
            let rest = self.have.split_off(end);
            return dechunk(&std::mem::replace(&mut self.have, rest)).0;
        }
        self.rest().0
    }

    /// Reads until these bytes have come; they and all before them are taken.
    pub(crate) fn through(&mut self, needle: &str) -> String {
        let at = self.wait_for(|have| find(have, needle.as_bytes()), needle);
        let rest = self.have.split_off(at + needle.len());
        String::from_utf8(std::mem::replace(&mut self.have, rest)).unwrap()
    }

    /// Reads to the end of the connection.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.read() {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => break End::Reset,
                Err(e) => panic!("the connection was not ended: {e}; have {:?}", String::from_utf8_lossy(&self.have)),
            }
        };
        (std::mem::take(&mut self.have), end)
    }

    /// Whether something has come of the answer, or comes so soon.
    pub(crate) fn answers_within(&mut self, pause: Duration) -> bool {
        self.stream.set_read_timeout(Some(pause)).unwrap();
        let came = !self.have.is_empty() || matches!(self.read(), Ok(read) if read > 0);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        came
    }

    fn wait_for<T>(&mut self, mut found: impl FnMut(&[u8]) -> Option<T>, what: &str) -> T {
        loop {
            if let Some(value) = found(&self.have) {
                return value;
            }
            match self.read() {
                Ok(n) if n > 0 => {}
                other => panic!("no {what}: {other:?}; have {:?}", String::from_utf8_lossy(&self.have)),
            }
        }
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let mut piece = [0; 16 << 10];
        // A read with a time limit is not restarted by the kernel when the thread is interrupted.
        let n = loop {
            match self.stream.read(&mut piece) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.have.extend_from_slice(&piece[..n]);
        Ok(n)
    }
}
