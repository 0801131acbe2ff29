//! The generator's event loop: many connections on one thread, level-triggered epoll, one sweep a tenth of a second.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::conn::{Conn, Counted, Phase, Step, connect};
use super::now_ns;
use super::plan::{Pace, Plan, Reuse};
use super::process::{self, Usage};
use super::report::{Failure, Report, Tally};
use super::schedule::Schedule;
use super::workload::Workload;

/// Timeouts are looked for this often, and failed connections are tried again.
const SWEEP_NS: u64 = 100_000_000;
/// Requests of an open loop that wait for a connection; more are given up.
const MAX_BACKLOG: usize = 100_000;
const BUFFER: usize = 128 * 1024;
const EVENTS: usize = 256;

/// Runs the plan to its end and reports.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let threads = plan.threads.clamp(1, plan.connections.max(1));
    let start_ns = now_ns();
    let from_ns = start_ns + nanos(plan.warmup);
    let window = Window { start_ns, from_ns, to_ns: from_ns + nanos(plan.duration) };
    let workers: Vec<Worker<'_>> =
        (0..threads).map(|index| Worker::new(plan, index, threads, window)).collect::<anyhow::Result<_>>()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = workers.into_iter().map(|worker| scope.spawn(|| worker.run())).collect();
        sleep_until(window.from_ns);
        let before = look(plan)?;
        let began_ns = now_ns();
        sleep_until(window.to_ns);
        let seconds = (now_ns() - began_ns) as f64 / 1e9;
        let after = look(plan)?;
        let mut tally = Tally::default();
        for thread in running {
            tally.merge(&thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??);
        }
        let usage: Vec<(Usage, Usage)> = before.into_iter().zip(after).collect();
        Ok(Report::new(plan, seconds, &tally, &usage))
    })
}

fn look(plan: &Plan) -> anyhow::Result<Vec<Usage>> {
    let one = |process: &super::plan::Process| process::usage(process.pid).with_context(|| process.label.clone());
    plan.processes.iter().map(one).collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn sleep_until(at_ns: u64) {
    std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
}

#[derive(Debug, Clone, Copy)]
struct Window {
    start_ns: u64,
    from_ns: u64,
    to_ns: u64,
}

struct Worker<'a> {
    plan: &'a Plan,
    window: Window,
    epoll: OwnedFd,
    conns: Vec<Conn>,
    /// Connections without a request, in an open loop.
    idle: Vec<usize>,
    /// Due times of requests that wait for a connection.
    backlog: VecDeque<u64>,
    /// Connections that start, or try again, at a time.
    later: VecDeque<(u64, usize)>,
    workload: Workload,
    schedule: Option<Schedule>,
    tally: Tally,
    connected: usize,
    answering: usize,
    opened: usize,
}

impl<'a> Worker<'a> {
    fn new(plan: &'a Plan, index: usize, threads: usize, window: Window) -> anyhow::Result<Self> {
        let count = plan.connections / threads + usize::from(index < plan.connections % threads);
        let seed = plan.seed ^ (index as u64) << 32;
        let schedule = match plan.pace {
            Pace::Open { rate, arrival } => Some(Schedule::new(rate / threads as f64, arrival, seed)),
            Pace::Closed | Pace::Trace { .. } => None,
        };
        let gap_ns = nanos(plan.ramp) / count.max(1) as u64;
        let closed = plan.pace == Pace::Closed;
        let starts = |slot: usize| (window.start_ns + gap_ns * slot as u64, slot);
        Ok(Self {
            plan,
            window,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            conns: (0..count).map(|_| Conn::new()).collect(),
            idle: if closed { Vec::new() } else { (0..count).collect() },
            backlog: VecDeque::new(),
            later: if closed { (0..count).map(starts).collect() } else { VecDeque::new() },
            workload: Workload::new(plan, index)?,
            schedule,
            tally: Tally::default(),
            connected: 0,
            answering: 0,
            opened: index,
        })
    }

    fn run(mut self) -> anyhow::Result<Tally> {
        let mut buffer = vec![0; BUFFER];
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        let mut sweep_ns = now_ns() + SWEEP_NS;
        loop {
            let now = now_ns();
            if now >= self.window.to_ns {
                return Ok(self.tally);
            }
            if now >= sweep_ns {
                self.sweep(now);
                sweep_ns = now + SWEEP_NS;
            }
            self.start_due(now);
            let wake_ns = self.wake_ns().min(sweep_ns).min(self.window.to_ns);
            let wait = Duration::from_nanos(wake_ns.saturating_sub(now_ns()));
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            let ready = match epoll::wait(&self.epoll, &mut events, Some(&wait)) {
                Ok((ready, _)) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            };
            for event in ready {
                self.ready(event.data.u64() as usize, event.flags, &mut buffer);
            }
        }
    }

    /// When the next thing is due that no socket announces.
    fn wake_ns(&self) -> u64 {
        let later = self.later.front().map_or(u64::MAX, |&(at, _)| at);
        later.min(self.next_arrival().unwrap_or(u64::MAX))
    }

    fn next_arrival(&self) -> Option<u64> {
        let start = self.window.start_ns;
        match (self.plan.pace, &self.schedule) {
            (Pace::Trace { speed }, _) => {
                let due_ms = self.workload.trace_due_ms()?;
                Some(start + (due_ms as f64 * 1e6 / speed.max(1e-6)) as u64)
            }
            (_, Some(schedule)) => Some(start + schedule.next_ns()),
            (_, None) => None,
        }
    }

    fn start_due(&mut self, now: u64) {
        while let Some(&(at, slot)) = self.later.front().filter(|later| later.0 <= now) {
            self.later.pop_front();
            debug_assert!(at <= now);
            self.next_request(slot, now);
        }
        while let Some(due) = self.next_arrival().filter(|&due| due <= now) {
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
                self.arrive(due, now);
            } else if let Some(slot) = self.idle.pop() {
                self.request(slot, due);
            } else {
                // A trace's requests wait in the trace: their due times stay what they were.
                return;
            }
        }
    }

    fn arrive(&mut self, due: u64, now: u64) {
        if let Some(slot) = self.idle.pop() {
            self.request(slot, due);
        } else if self.backlog.len() < MAX_BACKLOG {
            self.backlog.push_back(due);
        } else {
            self.count_error(Failure::Backlog, now);
        }
    }

    /// The connection is free: it takes what is due, or waits.
    fn next_request(&mut self, slot: usize, now: u64) {
        if self.plan.pace == Pace::Closed {
            self.request(slot, now);
        } else if let Some(due) = self.backlog.pop_front() {
            self.request(slot, due);
        } else {
            self.idle.push(slot);
        }
    }

    fn request(&mut self, slot: usize, due: u64) {
        let conn = &mut self.conns[slot];
        if !self.workload.next(&mut conn.request) {
            return;
        }
        conn.begin(due, now_ns());
        if conn.fd.is_none() && self.open(slot).is_err() {
            return self.fail(slot, Failure::Connect);
        }
        match self.conns[slot].send() {
            Ok(true) => {}
            Ok(false) => self.arm(slot, EventFlags::IN | EventFlags::OUT),
            Err(_) => self.fail(slot, Failure::Reset),
        }
    }

    fn open(&mut self, slot: usize) -> io::Result<()> {
        let sources = &self.plan.sources;
        let source = (!sources.is_empty()).then(|| sources[self.opened % sources.len()]);
        self.opened += self.plan.threads.max(1);
        let fd = connect(self.plan.target, source)?;
        epoll::add(&self.epoll, &fd, EventData::new_u64(slot as u64), EventFlags::IN)?;
        self.conns[slot].open(fd);
        self.connected += 1;
        self.tally.connected_peak = self.tally.connected_peak.max(self.connected);
        Ok(())
    }

    fn arm(&mut self, slot: usize, flags: EventFlags) {
        if let Some(fd) = &self.conns[slot].fd {
            // It can only fail for a descriptor that is not in the set; the sweep would then time the request out.
            let _ = epoll::modify(&self.epoll, fd, EventData::new_u64(slot as u64), flags);
        }
    }

    fn ready(&mut self, slot: usize, flags: EventFlags, buffer: &mut [u8]) {
        if flags.contains(EventFlags::OUT) && self.conns[slot].phase == Phase::Sending {
            match self.conns[slot].send() {
                Ok(true) => self.arm(slot, EventFlags::IN),
                Ok(false) => {}
                Err(_) if self.conns[slot].sent == 0 => return self.fail(slot, Failure::Connect),
                Err(_) => return self.fail(slot, Failure::Reset),
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let now_ns = now_ns();
        let within = self.within(now_ns);
        let conn = &mut self.conns[slot];
        let was = conn.phase;
        let mut counted = Counted { tally: &mut self.tally, now_ns, within };
        let step = conn.receive(buffer, self.plan.stream, &mut counted);
        if was != Phase::Answering && conn.phase == Phase::Answering {
            self.answering += 1;
            self.tally.answering_peak = self.tally.answering_peak.max(self.answering);
        }
        match step {
            Step::Goes => {}
            Step::Done { keep } => self.done(slot, keep, now_ns),
            Step::Closed => self.close(slot),
            Step::Failed(failure) => self.fail(slot, failure),
        }
    }

    fn done(&mut self, slot: usize, keep: bool, now: u64) {
        let within = self.within(now);
        let conn = &self.conns[slot];
        if within {
            self.tally.requests += 1;
            self.tally.chunks += conn.chunks();
            self.tally.latency.record(now.saturating_sub(conn.times.due_ns));
        }
        if keep && self.plan.reuse == Reuse::KeepAlive {
            self.rest(slot);
        } else {
            self.close(slot);
        }
        self.next_request(slot, now);
    }

    fn fail(&mut self, slot: usize, failure: Failure) {
        let now = now_ns();
        self.count_error(failure, now);
        self.close(slot);
        // Not at once: a peer that refuses would be asked in a tight loop.
        self.later.push_back((now + SWEEP_NS, slot));
    }

    fn count_error(&mut self, failure: Failure, now: u64) {
        if self.within(now) {
            self.tally.errors.add(failure);
        }
    }

    fn close(&mut self, slot: usize) {
        self.rest(slot);
        if self.conns[slot].fd.take().is_some() {
            self.connected -= 1;
        }
    }

    fn rest(&mut self, slot: usize) {
        if self.conns[slot].phase == Phase::Answering {
            self.answering -= 1;
        }
        self.conns[slot].phase = Phase::Idle;
    }

    fn sweep(&mut self, now: u64) {
        let limit = nanos(self.plan.timeout);
        for slot in 0..self.conns.len() {
            let conn = &self.conns[slot];
            if conn.phase != Phase::Idle && now.saturating_sub(conn.times.sent_ns) > limit {
                self.fail(slot, Failure::Timeout);
            }
        }
    }

    fn within(&self, now: u64) -> bool {
        (self.window.from_ns..self.window.to_ns).contains(&now)
    }
}
