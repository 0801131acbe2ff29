//! What was said lately, to be said again.

use std::collections::VecDeque;

use bytes::Bytes;

/// The frames of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Empty, number, payload: vLLM before 0.26.
    Plain,
    /// Empty, topic, number, payload: since then, and SGLang.
    WithTopic,
}

/// The last messages of one life.
#[derive(Debug)]
pub(super) struct Ring {
    most: usize,
    messages: VecDeque<(u64, Bytes)>,
    pub(super) next: u64,
}

impl Ring {
    pub(super) fn new(most: usize) -> Self {
        Self { most, messages: VecDeque::new(), next: 0 }
    }

    /// Numbers a message.
    pub(super) fn push(&mut self, payload: Bytes) -> u64 {
        let sequence = self.next;
        self.next += 1;
        self.messages.push_back((sequence, payload));
        if self.messages.len() > self.most {
            self.messages.pop_front();
        }
        sequence
    }

    /// The frames of an answer to a question, but for the identity that comes first.
    pub(super) fn answer(&self, from: u64, topic: &str, framing: Framing) -> Vec<Vec<Bytes>> {
        let asked = self.messages.iter().filter(|(sequence, _)| *sequence >= from);
        let end = (u64::MAX, Bytes::new(), "");
        let parts = asked.map(|(sequence, payload)| (*sequence, payload.clone(), topic));
        let frames = |(sequence, payload, topic): (u64, Bytes, &str)| {
            let sequence = Bytes::copy_from_slice(&sequence.to_be_bytes());
            match framing {
                Framing::Plain => vec![Bytes::new(), sequence, payload],
                Framing::WithTopic => vec![Bytes::new(), Bytes::copy_from_slice(topic.as_bytes()), sequence, payload],
            }
        };
        parts.chain([end]).map(frames).collect()
    }
}
