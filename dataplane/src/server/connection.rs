//! One client connection: requests one after another until either side has had enough.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use super::reader::Reader;
use super::watch::{Waiting, Watch};
use crate::request;
use crate::rt::{self, Stream, WriteHalf};
use crate::worker::Worker;

/// After an answer that ends the connection, what the client still sends is read and dropped, up to this much for this
/// long: closing over unread bytes sends a reset, which can destroy the answer on its way.
const LINGER_BYTES: usize = 64 << 10;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It waits for the next one.
    Keep,
    /// It is closed once the client has what was written.
    Close,
    /// It is closed at once: the client has left, or must see that the answer was cut.
    Cut,
}

/// A client connection as a request sees it.
pub(crate) struct Connection {
    pub(crate) reader: Reader,
    pub(crate) writer: WriteHalf,
    pub(crate) watch: Rc<Watch>,
    pub(crate) peer: SocketAddr,
    pub(crate) worker: Rc<Worker>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.watches.remove(&self.watch);
        self.worker.closed();
    }
}

/// Serves a socket that was accepted here or handed over, until it ends. The worker has counted it already.
pub(crate) async fn serve(fd: OwnedFd, peer: SocketAddr, worker: Rc<Worker>) {
    let stream = match Stream::from_fd(fd) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, %peer, "an accepted socket cannot be used");
            return worker.closed();
        }
    };
    let (read, writer) = stream.split();
    let watch = Rc::new(Watch::new(writer.killer(), read.canceller()));
    worker.watches.add(watch.clone());
    let reader = Reader::new(read, watch.clone());
    let mut connection = Connection { reader, writer, watch, peer, worker };
    let mut waiting = Waiting::FirstRequest;
    loop {
        match connection.wait_for_request(waiting).await {
            Next::Request => {}
            Next::Gone => return,
            Next::Enough => return Box::pin(connection.close()).await,
        }
        waiting = Waiting::Request;
        // Boxed, so that an idle connection holds none of the request's state; written where it stays, for it is large.
        let request = Box::write(Box::new_uninit(), request::serve(&mut connection));
        let after = Box::into_pin(request).await;
        if after == After::Keep {
            connection.watch.end_request();
        }
        match after {
            After::Keep => {}
            // Boxed, as the request is: an idle connection holds the state of neither.
            After::Close => return Box::pin(connection.close()).await,
            After::Cut => return connection.writer.set_reset_on_close(),
        }
    }
}

/// What a connection waited for.
enum Next {
    Request,
    /// The client left or idled too long.
    Gone,
    /// The process ends and owes the client nothing.
    Enough,
}

impl Connection {
    /// Waits for the first byte of a request. A closing process serves what has arrived, and a connection that was just
    /// accepted once.
    async fn wait_for_request(&mut self, waiting: Waiting) -> Next {
        let worker = &self.worker;
        let closing = waiting == Waiting::Request && worker.shared.closing();
        if closing && !self.reader.has_input() {
            return Next::Enough;
        }
        self.watch.wait(waiting, worker.now_ms(), worker.limits_ms.keep_alive_idle);
        if self.reader.next_request().await { Next::Request } else { Next::Gone }
    }

    /// Writes to the client, which has a limited time to read; false when it has left or does not read.
    pub(crate) async fn write(&mut self, bytes: Vec<u8>) -> bool {
        self.write_back(bytes).await.is_some()
    }

    /// As [`write`](Self::write), giving the buffer back.
    pub(crate) async fn write_back(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        self.watch.wait(Waiting::ClientRead, self.worker.now_ms(), self.worker.limits_ms.write_idle);
        let (result, bytes) = self.writer.write_all(bytes).await;
        result.is_ok().then_some(bytes)
    }

    /// Ends the connection so that the client gets all that was written.
    async fn close(mut self) {
        if self.writer.finish().is_err() {
            return;
        }
        if self.watch.fired().is_some() {
            // Its reading side was shut down, so all that can be done for the answer is to wait.
            return rt::sleep(LINGER_TIME).await;
        }
        let reader = &mut self.reader;
        let discard = async {
            let mut discarded = reader.take_input().bytes().len();
            while discarded < LINGER_BYTES && reader.more().await {
                discarded += reader.take_input().bytes().len();
            }
        };
        // The connection closes whether or not the wait is given up, so nothing is lost with it.
        let _ = rt::timeout(LINGER_TIME, discard).await;
    }
}
