//! Slots of the relay's tables: client connections, upstream connections, and bytes that a socket did not take.

use std::io;
use std::os::fd::OwnedFd;

use super::framing::{Framing, Kind};

/// Bytes that a full socket buffer refused. While there are any, the side they came from is not read.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    from: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes at once what the socket takes and keeps the rest.
    pub(super) fn write(&mut self, fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.is_empty() { send(fd, bytes)? } else { 0 };
        self.bytes.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    pub(super) fn flush(&mut self, fd: &OwnedFd) -> io::Result<()> {
        self.from += send(fd, &self.bytes[self.from..])?;
        if self.from == self.bytes.len() {
            // The capacity goes too: an idle connection should hold nothing.
            *self = Self::default();
        }
        Ok(())
    }
}

fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    match rustix::io::write(fd, bytes) {
        Ok(sent) => Ok(sent),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// A client connection and the exchange it is in.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) fd: OwnedFd,
    /// The slot of the upstream connection it holds until it closes.
    pub(super) upstream: Option<usize>,
    pub(super) request: Framing,
    pub(super) response: Framing,
    /// Requests begun and not answered.
    pub(super) outstanding: u32,
    pub(super) to_client: Pending,
    pub(super) to_upstream: Pending,
}

impl Client {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            upstream: None,
            request: Framing::new(Kind::Request),
            response: Framing::new(Kind::Response),
            outstanding: 0,
            to_client: Pending::default(),
            to_upstream: Pending::default(),
        }
    }

    /// No exchange is under way, so the upstream connection can serve another client.
    pub(super) fn idle(&self) -> bool {
        self.outstanding == 0 && self.request.at_start() && self.response.at_start() && self.to_upstream.is_empty()
    }
}

/// An upstream connection: held by a client, or pooled.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) fd: OwnedFd,
    pub(super) client: Option<usize>,
}

/// Slots with stable indexes, the last freed used first.
#[derive(Debug)]
pub(super) struct Slots<T> {
    items: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, item: T) -> usize {
        if let Some(slot) = self.free.pop() {
            self.items[slot] = Some(item);
            return slot;
        }
        self.items.push(Some(item));
        self.items.len() - 1
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<T> {
        let item = self.items.get_mut(slot)?.take();
        if item.is_some() {
            self.free.push(slot);
        }
        item
    }

    pub(super) fn at(&mut self, slot: usize) -> Option<&mut T> {
        self.items.get_mut(slot)?.as_mut()
    }
}
