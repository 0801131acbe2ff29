//! Connections that are held: what idle and slow ones cost in memory, and whether others feel them.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::load::hold::{self, Hold, HoldPlan, HoldReport};
use crate::load::workload::Workload;
use crate::load::{self, Arrival, Pace, Plan, Report};

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

/// Held connections, and normal traffic without and with them.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// Alone.
    pub quiet: Report,
    /// While connections were held.
    pub during: Report,
    /// The connections.
    pub held: HoldReport,
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

/// Normal traffic alone, then beside held connections.
pub fn beside(subject: &Subject, kind: Hold, connections: usize, time: Duration) -> anyhow::Result<Beside> {
    let plan = Plan { duration: time, ..normal(subject) };
    let quiet = load::run(&plan)?;
    let slow = subject.clone();
    // The connections are there before the traffic begins, and stay until it has ended.
    let holding = std::thread::spawn(move || hold(&slow, kind, connections, time + Duration::from_secs(4)));
    std::thread::sleep(Duration::from_secs(2));
    let during = load::run(&plan)?;
    let held = holding.join().map_err(|_| anyhow::anyhow!("the thread that holds connections panicked"))??;
    Ok(Beside { quiet, during, held })
}

/// 200 requests a second over connections that are kept.
fn normal(subject: &Subject) -> Plan {
    Plan {
        connections: 32,
        pace: Pace::Open { rate: 200.0, arrival: Arrival::Poisson },
        ..Plan::small(subject.target, &subject.model, 1024)
    }
}
