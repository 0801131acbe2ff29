//! One client connection: requests one after another until either side has had enough.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use super::dozing::{self, Asleep};
use super::reader::{Awaited, Reader};
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

/// A connection among those of its worker, until it is dropped.
struct Seat {
    watch: Rc<Watch>,
    worker: Rc<Worker>,
    /// It goes to sleep and is still the worker's.
    dozes: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.watches.remove(&self.watch);
        if !self.dozes {
            self.worker.closed();
        }
    }
}

/// Serves a socket that was accepted here or handed over, until it ends or dozes. The worker has counted it already.
pub(crate) async fn serve(fd: OwnedFd, peer: SocketAddr, worker: Rc<Worker>) {
    if let Some((connection, seat)) = Connection::on(fd, peer, worker) {
        connection.run(seat, (Waiting::FirstRequest, None)).await;
    }
}

/// Serves one that dozed, and is counted still.
pub(crate) async fn wake(asleep: Asleep, worker: Rc<Worker>) {
    let Asleep { fd, peer, waiting, due_ms } = asleep;
    if let Some((connection, seat)) = Connection::on(fd, peer, worker) {
        connection.run(seat, (waiting, Some(due_ms))).await;
    }
}

/// What a connection waited for.
enum Next {
    Request,
    /// The client left or idled too long.
    Gone,
    /// The process ends and owes the client nothing.
    Enough,
    /// Nothing has come for long.
    Doze,
}

impl Connection {
    fn on(fd: OwnedFd, peer: SocketAddr, worker: Rc<Worker>) -> Option<(Self, Seat)> {
        let stream = match Stream::from_fd(fd) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, %peer, "an accepted socket cannot be used");
                worker.closed();
                return None;
            }
        };
        let (read, writer) = stream.split();
        let watch = Rc::new(Watch::new(writer.killer(), read.canceller()));
        worker.watches.add(watch.clone());
        let seat = Seat { watch: watch.clone(), worker: worker.clone(), dozes: false };
        let reader = Reader::new(read, watch.clone());
        Some((Self { reader, writer, watch, peer, worker }, seat))
    }

    /// Serves requests; the wait for the first one may have begun earlier, and then has its end.
    async fn run(mut self, seat: Seat, (mut waiting, mut due_ms): (Waiting, Option<u64>)) {
        loop {
            match self.wait_for_request(waiting, due_ms.take()).await {
                Next::Request => {}
                Next::Gone => return,
                Next::Enough => return Box::pin(self.close()).await,
                Next::Doze => return self.doze(seat, waiting),
            }
            waiting = Waiting::Request;
            // Boxed, so that a connection that waits holds none of the request's state; written where it stays, for it is large.
            let request = Box::write(Box::new_uninit(), request::serve(&mut self));
            let after = Box::into_pin(request).await;
            if after == After::Keep {
                self.watch.end_request();
            }
            match after {
                After::Keep => {}
                // Boxed, as the request is: a connection that waits holds the state of neither.
                After::Close => return Box::pin(self.close()).await,
                After::Cut => return self.writer.set_reset_on_close(),
            }
        }
    }

    /// Waits for the first byte of a request. A closing process serves what has arrived, as it has where a wait goes on that had its end
    /// before, and a connection that was just accepted once.
    async fn wait_for_request(&mut self, waiting: Waiting, due_ms: Option<u64>) -> Next {
        let worker = &self.worker;
        let now_ms = worker.now_ms();
        match due_ms {
            Some(due_ms) => self.watch.wait_until(waiting, now_ms, due_ms),
            None => {
                let closing = waiting == Waiting::Request && worker.shared.closing();
                if closing && !self.reader.has_input() {
                    return Next::Enough;
                }
                self.watch.wait(waiting, now_ms, worker.limits_ms.keep_alive_idle);
            }
        }
        match self.reader.next_request().await {
            Awaited::Request => Next::Request,
            Awaited::Gone => Next::Gone,
            Awaited::Nothing => Next::Doze,
        }
    }

    /// Ends the task and keeps the connection.
    fn doze(self, mut seat: Seat, waiting: Waiting) {
        let Self { reader, writer, watch, peer, worker } = self;
        let due_ms = watch.due_ms();
        let fd = reader.into_half().unsplit(writer).into_fd();
        seat.dozes = true;
        dozing::put(Asleep { fd, peer, waiting, due_ms }, &worker);
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
