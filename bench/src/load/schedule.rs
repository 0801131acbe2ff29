//! When requests are due in an open loop. The schedule does not know how the last request went: that is what keeps a
//! slow answer from hiding the requests that waited behind it.

use super::plan::Arrival;
use super::rng::Rng;

/// Due times in nanoseconds since the start, without end.
#[derive(Debug)]
pub struct Schedule {
    mean_ns: f64,
    arrival: Arrival,
    next_ns: f64,
    rng: Rng,
}

impl Schedule {
    /// `rate` per second; the first is due one gap after the start.
    pub fn new(rate: f64, arrival: Arrival, seed: u64) -> Self {
        let mut schedule = Self { mean_ns: 1e9 / rate.max(1e-6), arrival, next_ns: 0.0, rng: Rng::new(seed) };
        schedule.advance();
        schedule
    }

    /// When the next request is due.
    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Goes on to the one after.
    pub fn advance(&mut self) {
        self.next_ns += match self.arrival {
            Arrival::Even => self.mean_ns,
            Arrival::Poisson => self.rng.exponential(self.mean_ns),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrival: Arrival, tolerance: f64) {
        let mut schedule = Schedule::new(1000.0, arrival, 3);
        let (mut due, mut last) = (0, 0);
        while schedule.next_ns() <= 20_000_000_000 {
            assert!(schedule.next_ns() >= last);
            (due, last) = (due + 1, schedule.next_ns());
            schedule.advance();
        }
        assert!((f64::from(due) / 20_000.0 - 1.0).abs() <= tolerance, "{due}");
    }

    #[test]
    fn arrivals_have_their_rate_and_order() {
        check(Arrival::Even, 0.0001);
        check(Arrival::Poisson, 0.03);
    }
}
