//! What happened, told off the hot cores: the access log, and the last decisions for `/debug/decision`. Cores push
//! records into a bounded queue; one thread drains it every 20 ms, so that no request pays for a wake-up. A
//! full queue drops the record and counts it.

mod json;
mod record;
mod stamp;
mod text;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::config::{AccessLog, LogFormat, LogOutput};

pub use record::{Durations, ErrorRecord, Record};
use stamp::Stamp;

/// Records that wait to be written. At 100k requests/s this is 0.16 s, eight periods.
const QUEUE: usize = 16_384;
/// Requests that are remembered.
const LAST: usize = 1_024;
const PERIOD: Duration = Duration::from_millis(20);

/// The cores' end of the queue, and what the debug page reads.
#[derive(Debug)]
pub struct Recorder {
    queue: ArrayQueue<Box<Record>>,
    stop: AtomicBool,
    last: Mutex<VecDeque<Box<Record>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(QUEUE), stop: AtomicBool::new(false), last: Mutex::default() }
    }
}

impl Recorder {
    /// Hands a record over; false when there is no room.
    pub fn push(&self, record: Box<Record>) -> bool {
        self.queue.push(record).is_ok()
    }

    /// Tells of a request's record, if it is among the last thousand.
    pub fn find<T>(&self, request_id: &str, tell: impl FnOnce(&Record) -> T) -> Option<T> {
        let last = self.last.lock().expect("no thread panics while it holds the records");
        last.iter().rev().find(|r| &*r.request_id == request_id).map(|r| tell(r))
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
        if self.queue.is_empty() {
            return;
        }
        let mut last = self.last.lock().expect("no thread panics while it holds the records");
        // At most what fits, so that a flood cannot keep the lock.
        for record in std::iter::from_fn(|| self.queue.pop()).take(QUEUE) {
            writer.write(&record);
            if last.len() == LAST {
                last.pop_front();
            }
            last.push_back(record);
        }
        drop(last);
        writer.flush();
    }
}

/// Formats records into one place.
struct Writer {
    out: Option<BufWriter<Box<dyn Write + Send>>>,
    format: LogFormat,
    line: Vec<u8>,
    stamp: Stamp,
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
        Ok(Self { out, format: config.format, line: Vec::with_capacity(1024), stamp: Stamp::default(), failing: false })
    }

    fn write(&mut self, record: &Record) {
        let Some(out) = &mut self.out else { return };
        self.line.clear();
        match self.format {
            LogFormat::Text => text::format(record, &mut self.stamp, &mut self.line),
            LogFormat::Json => json::format(record, &mut self.stamp, &mut self.line),
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
            assert!(recorder.push(Box::new(Record { request_id: format!("id-{n}").into(), ..Record::sample() })));
        }
        recorder.stop();
        thread.join().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 100);
        assert_eq!(recorder.find("id-7", |r| r.status), Some(200));
    }

    #[test]
    fn only_the_last_requests_are_remembered() {
        let recorder = Recorder::default();
        let off = AccessLog { enabled: false, format: LogFormat::Text, output: LogOutput::Stdout };
        let mut writer = Writer::open(&off).unwrap();
        for n in 0..LAST + 10 {
            recorder.push(Box::new(Record { request_id: n.to_string().into(), ..Record::sample() }));
        }
        recorder.drain(&mut writer);
        assert_eq!(recorder.find("9", |_| ()), None);
        assert_eq!(recorder.find("10", |_| ()), Some(()));
    }
}
