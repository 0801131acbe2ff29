//! What passes between the agent and the tables thread besides snapshots: how often marks are asked for, here and in the
//! whole fleet, and what this proxy's decisions and the others' left at endpoints. The agent asks for what is new when it can tell it; what it hears waits in a bounded queue, and what does not
//! fit there is counted and forgotten, for the next telling says it again.

use std::sync::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use api::uses::UseCount;
use crossbeam::channel::{Receiver, Sender, bounded};
use dataplane_core::index::{Predicted, Writer};

/// Messages of the control plane that wait for the tables thread: each of up to some thousand counts.
const QUEUE: usize = 64;
/// Of these, taken at once: each takes some hundred microseconds.
const AT_ONCE: usize = 4;
/// Marks in one report: 32 KiB.
const NEWS: usize = 2_048;

/// What is new here.
#[derive(Debug, Default)]
pub struct News {
    /// How often marks were asked for, at most some thousand: those used most.
    pub uses: Vec<UseCount>,
    /// What decisions left at endpoints.
    pub predicted: Vec<Predicted>,
}

/// What others say.
#[derive(Debug)]
pub enum Heard {
    /// How often the whole fleet asks for marks.
    Uses(Vec<UseCount>),
    /// What other proxies' decisions left at endpoints.
    Predicted(Vec<Predicted>),
}

/// The agent's side.
#[derive(Debug)]
pub(super) struct Fleet {
    heard: Sender<Heard>,
    lost: AtomicU64,
    wanted: AtomicBool,
    news: Mutex<News>,
}

/// The tables thread's side.
#[derive(Debug)]
pub(super) struct Inbox(Receiver<Heard>);

impl Fleet {
    pub(super) fn new() -> (Self, Inbox) {
        let (heard, inbox) = bounded(QUEUE);
        let fleet = Self { heard, lost: AtomicU64::new(0), wanted: AtomicBool::new(false), news: Mutex::default() };
        (fleet, Inbox(inbox))
    }

    /// What was new when this was last asked, and asks again.
    pub(super) fn take(&self) -> News {
        let news = std::mem::take(&mut *self.news.lock().expect("no thread panics while it holds the news"));
        self.wanted.store(true, Release);
        news
    }

    /// What was new is told to nobody: it is of before this stream, or names seats that are others' from here on.
    pub(super) fn drop_news(&self, writer: &mut Writer) {
        writer.drop_news();
        *self.news.lock().expect("no thread panics while it holds the news") = News::default();
    }

    pub(super) fn hear(&self, heard: Heard) {
        if self.heard.try_send(heard).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Messages that did not fit the queue.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

impl Inbox {
    /// On the tables thread: gives the agent what it waits for, and takes in what it heard. Whether there may be more.
    pub(super) fn exchange(&self, fleet: &Fleet, writer: &mut Writer, now_ms: u64) -> bool {
        if fleet.wanted.swap(false, Acquire) {
            let news = News { uses: writer.take_uses(NEWS), predicted: writer.take_predicted() };
            *fleet.news.lock().expect("no thread panics while it holds the news") = news;
        }
        for heard in self.0.try_iter().take(AT_ONCE) {
            match heard {
                Heard::Uses(counts) => counts.iter().for_each(|(mark, uses)| writer.raise_use(*mark, *uses, now_ms)),
                Heard::Predicted(marks) => writer.hear(&marks, now_ms),
            }
        }
        !self.0.is_empty()
    }

    /// Takes in all that waits, before the seats that it names may be others'.
    pub(super) fn empty(&self, fleet: &Fleet, writer: &mut Writer, now_ms: u64) {
        for _ in 0..QUEUE.div_ceil(AT_ONCE) {
            if !self.exchange(fleet, writer, now_ms) {
                break;
            }
        }
        fleet.drop_news(writer);
    }
}

#[cfg(test)]
mod tests {
    use dataplane_core::index::{Config, Event};

    use super::*;

    fn asked(writer: &mut Writer, times: usize) {
        let key = api::id::EndpointKey { uid: "e".into(), port: 1, rank: 0 };
        let seat = writer.seat(&key).unwrap();
        let owner = writer.owners().owner(seat).unwrap();
        for _ in 0..times {
            writer.apply(Event::Mark { owner, key: 7, parent: 0, tokens: 256 }, 0);
            writer.apply(Event::Seen { owner, key: 7, tokens: 0 }, 0);
        }
    }

    #[test]
    fn the_agent_gets_what_is_new_once_it_has_asked() {
        let (mut writer, (fleet, inbox)) = (Writer::new(Config::default()), Fleet::new());
        asked(&mut writer, 3);
        writer.note_news();
        asked(&mut writer, 2);
        inbox.exchange(&fleet, &mut writer, 0);
        assert_eq!(fleet.take().uses, [], "it has not asked yet");
        inbox.exchange(&fleet, &mut writer, 0);
        assert_eq!(fleet.take().uses, [(7, 2.0)], "since it was to be told");
        inbox.exchange(&fleet, &mut writer, 0);
        assert_eq!(fleet.take().uses, [], "and once only");
    }

    #[test]
    fn what_was_new_before_a_stream_began_is_told_to_nobody() {
        let (mut writer, (fleet, inbox)) = (Writer::new(Config::default()), Fleet::new());
        writer.note_news();
        asked(&mut writer, 9);
        fleet.take();
        inbox.exchange(&fleet, &mut writer, 0);
        asked(&mut writer, 9);
        fleet.drop_news(&mut writer);
        asked(&mut writer, 1);
        assert_eq!(fleet.take().uses, [], "neither what was taken already");
        inbox.exchange(&fleet, &mut writer, 0);
        assert_eq!(fleet.take().uses, [(7, 1.0)], "nor what was still to be taken");
    }

    #[test]
    fn what_waits_is_taken_in_before_seats_change() {
        let (mut writer, (fleet, inbox)) = (Writer::new(Config::default()), Fleet::new());
        (1..=QUEUE as u64).for_each(|mark| fleet.hear(Heard::Uses(vec![(mark, 2.0)])));
        inbox.empty(&fleet, &mut writer, 0);
        assert_eq!(writer.stats().uses, QUEUE);
    }

    #[test]
    fn what_is_heard_counts_and_what_does_not_fit_is_counted() {
        let (mut writer, (fleet, inbox)) = (Writer::new(Config::default()), Fleet::new());
        (1..QUEUE as u64 + 4).for_each(|mark| fleet.hear(Heard::Uses(vec![(mark, 2.0)])));
        assert_eq!(fleet.lost(), 3);
        while inbox.exchange(&fleet, &mut writer, 0) {}
        assert_eq!(writer.stats().uses, QUEUE);
    }
}
