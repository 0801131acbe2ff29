//! The reading side of a client's connection. One read stays posted while an answer is relayed, so that a client that
//! leaves is noticed at once; it is not cancelled when the answer ends but becomes the next request's read, until the sweep
//! wants its buffer back.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::watch::Watch;
use crate::rt::{self, PostedOutcome, PostedRead, ReadHalf};

/// Free bytes before a request's head, so that the head sent upstream can grow in place and head and body leave in one
/// write without a copy of the body.
pub(crate) const HEADROOM: usize = 1024;
/// Room for a first read: most heads, and small bodies with them.
const FIRST_READ: usize = 4096;
/// Bytes of a body that are waited for at once, where its length is known.
pub(crate) const WAIT_FOR: usize = 64 << 10;
/// Bytes of following requests that are taken while an answer is relayed; then the client has to wait.
const AHEAD: usize = 16 << 10;
/// Between two looks whether such a client has left.
const LOOK: Duration = Duration::from_millis(20);

/// Bytes of a client in the order in which they came, behind [`HEADROOM`].
#[derive(Debug, Default)]
pub(crate) struct Input(pub(crate) Vec<u8>);

impl Input {
    /// Room for so many bytes.
    pub(crate) fn with_room(bytes: usize) -> Self {
        let mut buf = Vec::with_capacity(HEADROOM + bytes);
        buf.resize(HEADROOM, 0);
        Self(buf)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.get(HEADROOM..).unwrap_or_default()
    }

    /// Takes the bytes from `at` on into an input of their own.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let tail = &self.bytes()[at..];
        if tail.is_empty() {
            return Self::default();
        }
        let mut next = Self::with_room(tail.len().max(FIRST_READ));
        next.0.extend_from_slice(tail);
        self.0.truncate(HEADROOM + at);
        next
    }

    /// Forgets the bytes and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.0.truncate(HEADROOM);
    }

    fn is_unallocated(&self) -> bool {
        self.0.capacity() == 0
    }
}

#[derive(Debug)]
enum Side {
    Free(ReadHalf),
    Posted(PostedRead),
    /// Only while it moves from one of the others to another.
    Moving,
}

/// What a wait for a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Its first bytes are here.
    Request,
    /// The client has left.
    Gone,
    /// Nothing has come for long, and nothing is pending or held any more.
    Nothing,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    Bytes,
    End,
    /// It was cancelled.
    Nothing,
}

/// The reading side with what it has read.
pub(crate) struct Reader {
    side: Side,
    input: Input,
    /// Bytes of the next request that a posted read has in its buffer.
    ahead: bool,
    ended: bool,
    watch: Rc<Watch>,
    /// The pause before the next look, once the client is not read any more.
    look: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("side", &self.side).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(half: ReadHalf, watch: Rc<Watch>) -> Self {
        Self { side: Side::Free(half), input: Input::default(), ahead: false, ended: false, watch, look: None }
    }

    /// What was read and not taken. Empty while a read is posted: then the read has it.
    pub(crate) fn input(&self) -> &Input {
        &self.input
    }

    /// Takes all that was read.
    pub(crate) fn take_input(&mut self) -> Input {
        std::mem::take(&mut self.input)
    }

    /// Gives back what belongs to the next request.
    pub(crate) fn put_back(&mut self, input: Input) {
        debug_assert!(self.input.is_unallocated(), "nothing was read since the request was taken");
        self.input = input;
    }

    /// Whether bytes of the next request are here.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.bytes().is_empty() || self.ahead && matches!(self.side, Side::Posted(_))
    }

    /// Waits for the first bytes of the next request, which may be here already. An empty line alone is none: some clients
    /// send one after a body.
    pub(crate) async fn next_request(&mut self) -> Awaited {
        loop {
            match self.input.bytes() {
                b"\r\n" => self.input.clear(),
                b"" => {}
                _ => return Awaited::Request,
            }
            if let (true, Side::Posted(posted)) = (self.ahead, &self.side) {
                // The read waits for more, but what it holds may be a whole request.
                posted.cancel();
            }
            match poll_fn(|cx| self.poll_read(cx)).await {
                Got::Bytes => {}
                Got::End => return Awaited::Gone,
                Got::Nothing => return Awaited::Nothing,
            }
        }
    }

    /// The side, after a wait that came to [`Awaited::Nothing`].
    ///
    /// # Panics
    /// After anything else: what is pending or was read would be lost.
    pub(crate) fn into_half(self) -> ReadHalf {
        let Side::Free(half) = self.side else { panic!("something is pending") };
        assert!(self.input.bytes().is_empty() && !self.ended, "something was read");
        half
    }

    /// Waits for more bytes of the client; false when it has left. A wait that is given up stays posted.
    pub(crate) async fn more(&mut self) -> bool {
        poll_fn(|cx| self.poll_more(cx)).await
    }

    /// Waits for bytes of a request of which `missing` bytes are still to come, so that few reads take them.
    pub(crate) async fn more_of(&mut self, missing: usize) -> bool {
        if let Side::Free(half) = &mut self.side {
            let room = self.input.0.capacity() - self.input.0.len();
            if half.wait_bytes(missing.min(room).min(WAIT_FOR)).await.is_err() {
                return false;
            }
        }
        self.more().await
    }

    /// Makes room for so many more bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if self.input.is_unallocated() {
            self.input = Input::with_room(bytes);
        } else {
            self.input.0.reserve_exact(bytes);
        }
    }

    /// Ready when the client has left. Bytes that it sends meanwhile are kept for its next request, up to a bound
    /// beyond which it is not read any more but looked at every now and then.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.ended {
                return Poll::Ready(());
            }
            if let Side::Free(half) = &self.side
                && self.input.bytes().len() >= AHEAD
            {
                if half.peer_has_left() {
                    return Poll::Ready(());
                }
                ready!(self.look.get_or_insert_with(|| Box::pin(rt::sleep(LOOK))).as_mut().poll(cx));
                self.look = None;
                continue;
            }
            match self.poll_more(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            match self.poll_read(cx) {
                Poll::Ready(Got::Bytes) => return Poll::Ready(true),
                Poll::Ready(Got::End) => return Poll::Ready(false),
                // Whoever is in the middle of a request waits on.
                Poll::Ready(Got::Nothing) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Got> {
        loop {
            if self.ended {
                return Poll::Ready(Got::End);
            }
            let posted = match &mut self.side {
                Side::Posted(posted) => posted,
                Side::Free(_) | Side::Moving => {
                    self.post();
                    continue;
                }
            };
            let Poll::Ready((half, outcome)) = Pin::new(posted).poll(cx) else { return Poll::Pending };
            self.side = Side::Free(half);
            self.watch.holds_buffer(false);
            return Poll::Ready(match outcome {
                PostedOutcome::Read(result, buf) => {
                    self.input = Input(buf);
                    self.took(result)
                }
                PostedOutcome::Cancelled(buf) if buf.len() > HEADROOM => {
                    self.input = Input(buf);
                    Got::Bytes
                }
                PostedOutcome::Cancelled(_) => Got::Nothing,
            });
        }
    }

    fn took(&mut self, result: io::Result<usize>) -> Got {
        self.ended = !matches!(result, Ok(n) if n > 0);
        if self.ended { Got::End } else { Got::Bytes }
    }

    /// Posts a read into the input.
    fn post(&mut self) {
        let Side::Free(half) = std::mem::replace(&mut self.side, Side::Moving) else { return };
        let mut input = std::mem::take(&mut self.input);
        if input.is_unallocated() {
            input = Input::with_room(FIRST_READ);
        }
        self.ahead = input.0.len() > HEADROOM;
        self.watch.holds_buffer(true);
        self.side = Side::Posted(half.post_read(input.0));
    }
}
