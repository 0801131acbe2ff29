//! What happened, told off the hot cores: the access log, and the last decisions for `/debug/decision`. Cores push
//! records into a bounded queue; one thread drains it every few milliseconds, so that no request pays for a wake-up. A
//! full queue drops the record and counts it.

mod json;
mod record;
mod text;

use std::collections::{HashMap, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::config::{AccessLog, LogFormat, LogOutput};

pub use record::{Durations, ErrorRecord, Record};

/// Records that wait to be written. At 20k requests/s this is 0.8 s.
const QUEUE: usize = 16_384;
/// Requests whose decisions are remembered.
const DECISIONS: usize = 1_024;
const PERIOD: Duration = Duration::from_millis(5);

/// The cores' end of the queue, and what the debug page reads.
#[derive(Debug)]
pub struct Recorder {
    queue: ArrayQueue<Box<Record>>,
    stop: AtomicBool,
    decisions: Mutex<Decisions>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(QUEUE), stop: AtomicBool::new(false), decisions: Mutex::default() }
    }
}

impl Recorder {
    /// Hands a record over; false when there is no room.
    pub fn push(&self, record: Box<Record>) -> bool {
        self.queue.push(record).is_ok()
    }

    /// The record of a request, if it is among the last thousand.
    pub fn find(&self, request_id: &str) -> Option<Arc<Record>> {
        let decisions = self.decisions.lock().expect("no thread panics while it holds the decisions");
        decisions.by_id.get(request_id).cloned()
    }

    /// Starts the thread that writes. It ends after [`stop`](Self::stop), with the queue empty.
    pub fn start(self: &Arc<Self>, config: &AccessLog) -> io::Result<JoinHandle<()>> {
        let mut writer = Writer::open(config)?;
        let recorder = self.clone();
        std::thread::Builder::new().name("recorder".into()).spawn(move || {
            while !recorder.stop.load(Acquire) {
                recorder.drain(&mut writer);
                std::thread::sleep(PERIOD);
            }
            recorder.drain(&mut writer);
        })
    }

    /// Ends the thread once it has written what waits.
    pub fn stop(&self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
    }

    fn drain(&self, writer: &mut Writer) {
        let mut any = false;
        while let Some(record) = self.queue.pop() {
            any = true;
            writer.write(&record);
            self.decisions.lock().expect("no thread panics while it holds the decisions").add(record);
        }
        if any {
            writer.flush();
        }
    }
}

#[derive(Debug, Default)]
struct Decisions {
    order: VecDeque<Arc<str>>,
    by_id: HashMap<Arc<str>, Arc<Record>>,
}

impl Decisions {
    fn add(&mut self, record: Box<Record>) {
        if self.order.len() == DECISIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        let id: Arc<str> = record.request_id.as_str().into();
        if self.by_id.insert(id.clone(), record.into()).is_none() {
            self.order.push_back(id);
        }
    }
}

/// Formats records into one place.
struct Writer {
    out: Option<BufWriter<Box<dyn Write + Send>>>,
    format: LogFormat,
    line: Vec<u8>,
    failing: bool,
}

impl Writer {
    fn open(config: &AccessLog) -> io::Result<Self> {
        let out: Option<Box<dyn Write + Send>> = match (&config.output, config.enabled) {
            (_, false) => None,
            (LogOutput::Stdout, _) => Some(Box::new(io::stdout())),
            (LogOutput::Stderr, _) => Some(Box::new(io::stderr())),
            (LogOutput::File(path), _) => Some(Box::new(OpenOptions::new().append(true).create(true).open(path)?)),
        };
        let out = out.map(|w| BufWriter::with_capacity(1 << 16, w));
        Ok(Self { out, format: config.format, line: Vec::with_capacity(1024), failing: false })
    }

    fn write(&mut self, record: &Record) {
        let Some(out) = &mut self.out else { return };
        self.line.clear();
        match self.format {
            LogFormat::Text => text::format(record, &mut self.line),
            LogFormat::Json => json::format(record, &mut self.line),
        }
        self.line.push(b'\n');
        let result = out.write_all(&self.line);
        self.report(result);
    }

    fn flush(&mut self) {
        if let Some(out) = &mut self.out {
            let result = out.flush();
            self.report(result);
        }
    }

    /// A full disk is said once, not once a line.
    fn report(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "the access log cannot be written");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_recorder_has_written_everything() {
        let path = std::env::temp_dir().join(format!("kthena-access-{}.log", std::process::id()));
        let config = AccessLog { enabled: true, format: LogFormat::Text, output: LogOutput::File(path.clone()) };
        let recorder = Arc::new(Recorder::default());
        let thread = recorder.start(&config).unwrap();
        for n in 0..100 {
            assert!(recorder.push(Box::new(Record { request_id: format!("id-{n}"), ..Record::sample() })));
        }
        recorder.stop();
        thread.join().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert_eq!(recorder.find("id-7").unwrap().request_id, "id-7");
    }

    #[test]
    fn only_the_last_decisions_are_remembered() {
        let mut decisions = Decisions::default();
        for n in 0..DECISIONS + 10 {
            decisions.add(Box::new(Record { request_id: n.to_string(), ..Record::sample() }));
        }
        assert_eq!((decisions.order.len(), decisions.by_id.len()), (DECISIONS, DECISIONS));
        assert!(!decisions.by_id.contains_key("9") && decisions.by_id.contains_key("10"));
    }
}
