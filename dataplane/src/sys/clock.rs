//! A clock that is cheap to read.

/// Milliseconds of the kernel's coarse monotonic clock. It lags by up to a tick (1 to 4 ms) and takes a tenth of the time
/// of the precise one. By libc, for rustix looks for the vdso by itself and crashes under valgrind, which counts instructions here.
pub(crate) fn coarse_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec to the address it is given.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    debug_assert_eq!(result, 0, "Linux has had this clock since 2.6.32");
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    #[test]
    fn it_goes_on_with_the_precise_clock() {
        let (coarse, precise) = (super::coarse_ms(), Instant::now());
        while precise.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        let passed = super::coarse_ms() - coarse;
        assert!(passed >= 10, "{passed} ms of 20");
    }
}
