//! The least time of many runs, printed as rows of a table.

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};

/// Prints a row for each measurement.
pub(crate) struct Page {
    runs: usize,
}

/// What a row is compared with.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    /// Nothing.
    None,
    /// The yardstick's nanoseconds.
    Yardstick(f64),
    /// A budget in microseconds.
    Budget(f64),
    /// Both.
    Both {
        /// Nanoseconds.
        yardstick: f64,
        /// Microseconds.
        budget: f64,
    },
}

impl Page {
    pub(crate) fn new(runs: usize) -> Self {
        println!("| what | µs | yardstick, µs | × yardstick | budget, µs |");
        println!("|---|---|---|---|---|");
        Self { runs }
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    /// The least nanoseconds of one call. Each run makes so many calls that the clock's own cost is lost in it.
    pub(crate) fn least<T>(&self, calls: usize, mut work: impl FnMut(usize) -> T) -> f64 {
        let one = |run: usize, work: &mut dyn FnMut(usize) -> T| {
            let begin = thread_ns();
            for call in 0..calls {
                black_box(work(run * calls + call));
            }
            (thread_ns() - begin) as f64 / calls as f64
        };
        (0..self.runs).map(|run| one(run, &mut work)).fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn row(&self, what: &str, ns: f64, beside: Beside) {
        let us = ns / 1e3;
        let (yardstick, budget) = match beside {
            Beside::None => (None, None),
            Beside::Yardstick(yardstick) => (Some(yardstick), None),
            Beside::Budget(budget) => (None, Some(budget)),
            Beside::Both { yardstick, budget } => (Some(yardstick), Some(budget)),
        };
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let ratio = shown(yardstick.map(|of| format!("{:.2}", ns / of)));
        let yardstick = shown(yardstick.map(|of| format!("{:.2}", of / 1e3)));
        let budget = shown(budget.map(|of| format!("{of:.0}")));
        println!("| {what} | {us:.3} | {yardstick} | {ratio} | {budget} |");
    }
}

/// This thread's own CPU time, so that other work on the machine does not count.
pub(crate) fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
