//! Makes the bytes of the next request.

use std::fs::File;
use std::io::{BufReader, Write};

use super::plan::{Conversations, Plan, Shape};
use super::rng::{Rng, Zipf};
use super::text;
use super::trace::{self, Entry};

/// Seeds of system prompts lie apart from those of turns.
const SYSTEM_SEED: u64 = 1 << 60;

/// A source of requests; one per thread, seeded apart.
#[derive(Debug)]
pub struct Workload {
    head: String,
    model: String,
    stream: bool,
    max_tokens: u32,
    source: Source,
    body: Vec<u8>,
}

#[derive(Debug)]
enum Source {
    Fixed { text: Vec<u8>, rng: Option<Rng> },
    Conversations { shape: Conversations, zipf: Zipf, rng: Rng, active: Vec<Talk> },
    Trace { entries: Vec<Entry>, next: usize },
}

#[derive(Debug)]
struct Talk {
    system: u64,
    seed: u64,
    turns: usize,
}

impl Workload {
    /// For thread `index` of the plan's `threads`; a trace is dealt out among them.
    pub fn new(plan: &Plan, index: usize) -> anyhow::Result<Self> {
        let rng = Rng::new(plan.seed.wrapping_mul(0x1_0001).wrapping_add(index as u64));
        let mut workload = Self {
            head: format!("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", plan.path, plan.target),
            model: plan.model.clone(),
            stream: plan.stream,
            max_tokens: plan.max_tokens,
            source: Source::Fixed { text: Vec::new(), rng: None },
            body: Vec::new(),
        };
        workload.source = match &plan.shape {
            Shape::Fixed { bytes } => Source::Fixed { text: workload.padding(*bytes), rng: Some(rng) },
            Shape::Same { bytes } => Source::Fixed { text: workload.padding(*bytes), rng: None },
            Shape::Conversations(shape) => {
                let zipf = Zipf::new(shape.systems, shape.zipf);
                Source::Conversations { shape: *shape, zipf, rng, active: Vec::new() }
            }
            Shape::Trace { file, limit } => {
                let entries = trace::read(BufReader::new(File::open(file)?))?;
                let dealt = entries.into_iter().take(*limit).skip(index).step_by(plan.threads.max(1)).collect();
                Source::Trace { entries: dealt, next: 0 }
            }
        };
        Ok(workload)
    }

    /// When the next request of a trace is due, in milliseconds of the trace; `None` at its end and for other shapes.
    pub fn trace_due_ms(&self) -> Option<u64> {
        match &self.source {
            Source::Trace { entries, next } => entries.get(*next).map(|entry| entry.timestamp),
            _ => None,
        }
    }

    /// Replaces `out` by the next request; false where a trace has ended.
    pub fn next(&mut self, out: &mut Vec<u8>) -> bool {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let mut max_tokens = self.max_tokens;
        let more = match &mut self.source {
            Source::Fixed { text, rng } => {
                // The nonce comes first, so that not even the first block is shared.
                let nonce = rng.as_mut().map_or(0, Rng::bits);
                let _ = write!(body, "{{\"role\":\"user\",\"content\":\"{nonce:016x}");
                body.extend_from_slice(text);
                body.extend_from_slice(b"\"}");
                true
            }
            Source::Conversations { shape, zipf, rng, active } => {
                converse(&mut body, shape, zipf, rng, active);
                true
            }
            Source::Trace { entries, next } => match entries.get(*next) {
                Some(entry) => {
                    *next += 1;
                    max_tokens = entry.output_length.max(1);
                    body.extend_from_slice(b"{\"role\":\"user\",\"content\":\"");
                    trace::prompt(&mut body, entry);
                    body.extend_from_slice(b"\"}");
                    true
                }
                None => false,
            },
        };
        if more {
            self.render(out, &body, max_tokens);
        }
        self.body = body;
        more
    }

    fn render(&self, out: &mut Vec<u8>, messages: &[u8], max_tokens: u32) {
        let (before, after) = self.around(max_tokens);
        let length = before.len() + messages.len() + after.len();
        out.clear();
        let _ = write!(out, "{}Content-Length: {length}\r\n\r\n{before}", self.head);
        out.extend_from_slice(messages);
        out.extend_from_slice(after.as_bytes());
    }

    fn around(&self, max_tokens: u32) -> (String, &'static str) {
        let (model, stream) = (&self.model, self.stream);
        (format!("{{\"model\":\"{model}\",\"stream\":{stream},\"max_tokens\":{max_tokens},\"messages\":["), "]}")
    }

    /// Text that makes a body of one message `bytes` long.
    fn padding(&self, bytes: usize) -> Vec<u8> {
        let (before, after) = self.around(self.max_tokens);
        let fixed = before.len() + after.len() + "{\"role\":\"user\",\"content\":\"\"}".len() + 16;
        let mut text = Vec::new();
        text::fill(&mut text, 0, bytes.saturating_sub(fixed));
        text
    }
}

fn converse(body: &mut Vec<u8>, shape: &Conversations, zipf: &Zipf, rng: &mut Rng, active: &mut Vec<Talk>) {
    let at = rng.below(shape.active.max(1));
    if at >= active.len() || active[at].turns >= shape.turns {
        let talk = Talk { system: SYSTEM_SEED + zipf.pick(rng) as u64, seed: rng.bits(), turns: 0 };
        if at < active.len() {
            active[at] = talk;
        } else {
            active.push(talk);
        }
    }
    let at = at.min(active.len() - 1);
    let talk = &mut active[at];
    talk.turns += 1;
    let mut say = |role: &str, seed, bytes| {
        let _ = write!(body, "{{\"role\":\"{role}\",\"content\":\"");
        text::fill(body, seed, bytes);
        body.extend_from_slice(b"\"},");
    };
    say("system", talk.system, shape.system_bytes);
    for turn in 0..talk.turns as u64 {
        say("user", talk.seed.wrapping_add(2 * turn), shape.turn_bytes);
        if turn + 1 < talk.turns as u64 {
            say("assistant", talk.seed.wrapping_add(2 * turn + 1), shape.answer_bytes);
        }
    }
    body.pop();
}
