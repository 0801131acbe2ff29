//! Connections that are held: what idle and slow ones cost in memory, and whether others feel them.
//!
//! Whether others feel them is told by a tail, and one burst of a machine that is shared makes any tail. So there are several windows of traffic alone, and
//! beside each one as long with the connections: quiet, loaded, quiet, loaded. What is compared is the median of the windows' p99.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::load::hold::{self, Hold, HoldPlan, HoldReport};
use crate::load::workload::Workload;
use crate::load::{self, Arrival, Pace, Plan, Report};
use crate::runner::stats::spread;

/// The proxy that is looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Where clients connect.
    pub target: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// A model that it serves.
    pub model: String,
}

/// How long and how often others are looked at.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Windows {
    /// Quiet ones, and as many loaded ones.
    pub count: usize,
    /// Each of them.
    pub each: Duration,
    /// From the connections' beginning until others are looked at, and as long after that.
    pub settle: Duration,
}

/// Held connections, and normal traffic without and with them.
#[derive(Debug, Clone, Serialize)]
pub struct Window {
    /// Alone.
    pub quiet: Report,
    /// While connections were held.
    pub during: Report,
    /// The connections.
    pub held: HoldReport,
}

/// All windows.
#[derive(Debug, Clone, Serialize)]
pub struct Beside(pub Vec<Window>);

impl Beside {
    /// The median p99 beside the connections, over that without.
    pub fn p99_over_quiet(&self) -> f64 {
        let of = |report: &Report| tail(report.requests, report.latency.p99_us);
        let p99 = |report: fn(&Window) -> &Report| self.0.iter().map(|window| of(report(window))).collect();
        over(p99(|window| &window.during), p99(|window| &window.quiet))
    }

    /// Connections that were there from the beginning of a window to its end, in the one that had the fewest.
    pub fn held(&self) -> usize {
        self.0.iter().map(|Window { held, .. }| held.held - held.ended_by_peer).min().unwrap_or(0)
    }

    /// What one of them took, in the window that took the most: the memory that the first one took is there for the next.
    pub fn kib_each(&self) -> f64 {
        self.0.iter().map(|window| window.held.rss_bytes_per_connection / 1024.0).fold(0.0, f64::max)
    }

    /// Answers beside the connections over those without, in the window that had the fewest.
    pub fn answered(&self) -> f64 {
        let share = |Window { quiet, during, .. }: &Window| during.requests as f64 / quiet.requests as f64;
        self.0.iter().map(share).fold(f64::INFINITY, f64::min)
    }

    /// Failed requests of others.
    pub fn errors(&self) -> u64 {
        self.0.iter().map(|window| window.during.errors.total()).sum()
    }
}

/// Where nobody was answered no latency is known, and it is not a good one.
fn tail(answers: u64, p99_us: f64) -> f64 {
    if answers > 0 { p99_us } else { f64::INFINITY }
}

fn over(loaded: Vec<f64>, quiet: Vec<f64>) -> f64 {
    let median = |values| spread(values).map_or(f64::NAN, |spread| spread.median);
    median(loaded) / median(quiet)
}

/// Answered requests before anything is measured, so that what is made once is made.
pub fn warm_up(subject: &Subject) -> anyhow::Result<Report> {
    load::run(&Plan { connections: 32, duration: Duration::from_secs(3), ..normal(subject) })
}

/// Holds `connections` and reports what they cost.
pub fn hold(subject: &Subject, hold: Hold, connections: usize, time: Duration) -> anyhow::Result<HoldReport> {
    let plan = Plan {
        stream: hold == Hold::NoRead,
        max_tokens: if hold == Hold::NoRead { 4096 } else { 16 },
        ..Plan::small(subject.target, &subject.model, 1024)
    };
    let mut request = Vec::new();
    Workload::new(&plan, 0)?.next(&mut request);
    let (target, pid, drip) = (subject.target, subject.pid, Duration::from_millis(500));
    hold::run(&HoldPlan { target, pid, hold, connections, request, time, drip })
}

/// Normal traffic alone and beside held connections, in turn.
pub fn beside(subject: &Subject, kind: Hold, connections: usize, windows: Windows) -> anyhow::Result<Beside> {
    let window = |_| {
        let plan = Plan { duration: windows.each, ..normal(subject) };
        let quiet = load::run(&plan)?;
        let slow = subject.clone();
        // The connections are there before the traffic begins, and stay until it has ended.
        let time = windows.each + 2 * windows.settle;
        let holding = std::thread::spawn(move || hold(&slow, kind, connections, time));
        std::thread::sleep(windows.settle);
        let during = load::run(&plan)?;
        let held = holding.join().map_err(|_| anyhow::anyhow!("the thread that holds connections panicked"))??;
        // Their ends are no part of the next quiet window.
        std::thread::sleep(windows.settle);
        Ok(Window { quiet, during, held })
    };
    (0..windows.count).map(window).collect::<anyhow::Result<_>>().map(Beside)
}

/// 200 requests a second over connections that are kept.
fn normal(subject: &Subject) -> Plan {
    Plan {
        connections: 32,
        pace: Pace::Open { rate: 200.0, arrival: Arrival::Poisson },
        ..Plan::small(subject.target, &subject.model, 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_burst_decides_nothing() {
        let check = |loaded: [f64; 3], quiet: [f64; 3], expected| {
            assert_eq!(over(loaded.to_vec(), quiet.to_vec()), expected, "{loaded:?} {quiet:?}");
        };
        check([440.0, 80_000.0, 430.0], [400.0, 390.0, 410.0], 1.1);
        check([440.0, 420.0, 450.0], [400.0, 390.0, 30_000.0], 1.1);
        check([880.0, 80_000.0, 860.0], [400.0, 390.0, 410.0], 2.2);
        assert!(over(Vec::new(), Vec::new()).is_nan());
        let stalled = [tail(600, 440.0), tail(0, 0.0), tail(0, 0.0)];
        check(stalled, [400.0, 390.0, 410.0], f64::INFINITY);
    }
}
