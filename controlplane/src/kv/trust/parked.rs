//! Messages that wait for a replay to end.

use std::collections::VecDeque;

use super::Message;

const MOST_MESSAGES: usize = 4_096;
const MOST_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Parked<B> {
    messages: VecDeque<Message<B>>,
    bytes: usize,
}

impl<B> Default for Parked<B> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), bytes: 0 }
    }
}

impl<B> Parked<B> {
    /// Where there is no room all are dropped, and how many these were is the error: the gap shows when the replay has
    /// ended, and is asked for then.
    pub(super) fn push(&mut self, message: Message<B>) -> Result<(), u64> {
        if self.messages.len() >= MOST_MESSAGES || self.bytes + message.size > MOST_BYTES {
            let lost = self.messages.len() as u64 + 1;
            self.clear();
            return Err(lost);
        }
        self.bytes += message.size;
        self.messages.push_back(message);
        Ok(())
    }

    /// One that was taken out and has to wait again.
    pub(super) fn push_front(&mut self, message: Message<B>) {
        self.bytes += message.size;
        self.messages.push_front(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message<B>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.size;
        Some(message)
    }

    pub(super) fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.bytes = 0;
    }
}
