//! Every wait of a connection has a limit, and none has a timer: a connection notes what it waits for and until when,
//! and a sweep over all connections of the core, once a second, ends what is due by shutting the socket down under the
//! operation that waits on it. The operation then returns, finds the note and acts on it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::metrics::Limit;
use crate::rt::{Killer, ReadCanceller};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nothing that has a limit of its own.
    Nothing,
    /// The first request of a connection.
    FirstRequest,
    /// The client's next request.
    Request,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// The client to read.
    ClientRead,
    /// The engine to read, or its answer's first byte.
    FirstByte,
    /// The engine's next bytes.
    Stream,
}

impl Waiting {
    fn limit(self) -> Option<Limit> {
        match self {
            Self::Nothing => None,
            Self::FirstRequest | Self::Request => Some(Limit::KeepAliveIdle),
            Self::Head => Some(Limit::HeaderTime),
            Self::Body => Some(Limit::BodyIdle),
            Self::ClientRead => Some(Limit::WriteIdle),
            Self::FirstByte => Some(Limit::FirstByte),
            Self::Stream => Some(Limit::StreamIdle),
        }
    }
}

/// The note of one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    waiting: Cell<Waiting>,
    due_ms: Cell<u64>,
    /// Of the whole request.
    total_due_ms: Cell<u64>,
    since_ms: Cell<u64>,
    fired: Cell<Option<Limit>>,
    client: Killer,
    engine: RefCell<Option<Killer>>,
    /// Ends the read that is posted, so that its buffer can be given back.
    posted: ReadCanceller,
    /// Whether that read holds a buffer.
    holds_buffer: Cell<bool>,
    place: Cell<usize>,
}

const NEVER: u64 = u64::MAX;

impl Watch {
    pub(crate) fn new(client: Killer, posted: ReadCanceller) -> Self {
        Self {
            waiting: Cell::new(Waiting::Nothing),
            due_ms: Cell::new(NEVER),
            total_due_ms: Cell::new(NEVER),
            since_ms: Cell::new(0),
            fired: Cell::new(None),
            client,
            engine: RefCell::new(None),
            posted,
            holds_buffer: Cell::new(false),
            place: Cell::new(usize::MAX),
        }
    }

    /// Notes what the connection waits for from now on.
    pub(crate) fn wait(&self, what: Waiting, now_ms: u64, limit_ms: u64) {
        self.wait_until(what, now_ms, now_ms.saturating_add(limit_ms));
    }

    /// The same, of a wait that began earlier.
    pub(crate) fn wait_until(&self, what: Waiting, now_ms: u64, due_ms: u64) {
        // What ended an earlier wait is no reason for how this one ends; the limit on the whole request stays.
        if self.fired.get() != Some(Limit::Total) {
            self.fired.set(None);
        }
        self.waiting.set(what);
        self.since_ms.set(now_ms);
        self.due_ms.set(due_ms);
    }

    /// Until when it waits.
    pub(crate) fn due_ms(&self) -> u64 {
        self.due_ms.get()
    }

    /// Nothing is waited for.
    pub(crate) fn nothing(&self) {
        self.waiting.set(Waiting::Nothing);
        self.due_ms.set(NEVER);
    }

    /// Limits the whole request; [`end_request`](Self::end_request) lifts it.
    pub(crate) fn limit_total(&self, now_ms: u64, limit_ms: u64) {
        self.total_due_ms.set(now_ms.saturating_add(limit_ms));
    }

    /// The engine connection that the request uses now.
    pub(crate) fn engine(&self, killer: Option<Killer>) {
        *self.engine.borrow_mut() = killer;
    }

    /// Forgets the request.
    pub(crate) fn end_request(&self) {
        self.nothing();
        self.total_due_ms.set(NEVER);
        self.engine(None);
        self.fired.set(None);
    }

    /// The limit that was hit, if one was.
    pub(crate) fn fired(&self) -> Option<Limit> {
        self.fired.get()
    }

    /// Whether the connection waits for a request.
    fn is_idle(&self) -> bool {
        matches!(self.waiting.get(), Waiting::FirstRequest | Waiting::Request)
    }

    /// Whether a closing process owes the connection nothing: it has had an answer, or had time to ask.
    fn is_spent(&self, now_ms: u64) -> bool {
        let waited_ms = now_ms.saturating_sub(self.since_ms.get());
        let enough_ms = if self.waiting.get() == Waiting::Request { SPENT_MS } else { IDLE_MS };
        // Bytes that wait to be read are a request, which is served.
        self.is_idle() && waited_ms >= enough_ms && self.client.is_quiet()
    }

    /// Notes whether the read that is posted holds a buffer.
    pub(crate) fn holds_buffer(&self, holds: bool) {
        self.holds_buffer.set(holds);
    }

    /// Ends the connection: both sides return from whatever they wait for.
    pub(crate) fn kill(&self) {
        self.client.kill();
        if let Some(engine) = self.engine.borrow().as_ref() {
            engine.kill();
        }
    }

    fn sweep(&self, now_ms: u64) -> Swept {
        if now_ms >= self.total_due_ms.get() {
            self.total_due_ms.set(NEVER);
            return self.fire(Limit::Total);
        }
        if now_ms >= self.due_ms.get() {
            self.due_ms.set(NEVER);
            return self.waiting.get().limit().map_or(Swept::Nothing, |limit| self.fire(limit));
        }
        if self.is_idle() && self.holds_buffer.get() && now_ms.saturating_sub(self.since_ms.get()) >= IDLE_MS {
            self.posted.cancel();
            return Swept::GivesBack;
        }
        Swept::Nothing
    }

    fn fire(&self, limit: Limit) -> Swept {
        self.fired.set(Some(limit));
        match limit {
            // The answer 408 still has to go out.
            Limit::HeaderTime | Limit::BodyIdle => self.client.end_read(),
            Limit::KeepAliveIdle | Limit::WriteIdle => self.client.kill(),
            _ => {
                if let Some(engine) = self.engine.borrow().as_ref() {
                    engine.kill();
                }
            }
        }
        Swept::Hit(limit)
    }
}

/// What a look at a connection came to.
enum Swept {
    Nothing,
    Hit(Limit),
    /// Its read buffer is on its way back.
    GivesBack,
}

/// A connection that has idled so long gives its read buffer back, and with it all else but its socket: [`super::dozing`].
const IDLE_MS: u64 = 1_000;
/// A connection that has had an answer from a closing process, which told it to go, is kept so long.
const SPENT_MS: u64 = 200;

/// The notes of all connections of a core.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    list: RefCell<Vec<Rc<Watch>>>,
    /// Read buffers given back since somebody asked.
    given_back: Cell<usize>,
}

/// Connections looked at before others get the core: a look takes some ten nanoseconds.
const SLICE: usize = 2_048;

impl Watches {
    pub(crate) fn add(&self, watch: Rc<Watch>) {
        let mut list = self.list.borrow_mut();
        watch.place.set(list.len());
        list.push(watch);
    }

    pub(crate) fn remove(&self, watch: &Watch) {
        let mut list = self.list.borrow_mut();
        let place = watch.place.get();
        list.swap_remove(place);
        if let Some(moved) = list.get(place) {
            moved.place.set(place);
        }
    }

    /// Ends what is due among the next connections from `from` on; `hit` gets each limit. Returns where to go on.
    pub(crate) fn sweep(&self, from: usize, now_ms: u64, mut hit: impl FnMut(Limit)) -> Option<usize> {
        let list = self.list.borrow();
        let end = list.len().min(from + SLICE);
        for watch in list.get(from..end).unwrap_or_default() {
            match watch.sweep(now_ms) {
                Swept::Nothing => {}
                Swept::Hit(limit) => hit(limit),
                Swept::GivesBack => self.given_back.set(self.given_back.get() + 1),
            }
        }
        (end < list.len()).then_some(end)
    }

    /// Ends all connections that wait for a request in vain.
    pub(crate) fn kill_spent(&self, now_ms: u64) {
        self.list.borrow().iter().filter(|w| w.is_spent(now_ms)).for_each(|w| w.kill());
    }

    /// Ends all connections.
    pub(crate) fn kill_all(&self) {
        self.list.borrow().iter().for_each(|w| w.kill());
    }

    /// Read buffers given back since this was asked last.
    pub(crate) fn take_given_back(&self) -> usize {
        self.given_back.take()
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.list.borrow().len()
    }
}
