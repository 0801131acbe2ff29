//! SIGTERM and SIGINT: the first drains, the second cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// How many have come.
#[derive(Debug, Clone)]
pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Listens from now on.
    ///
    /// # Panics
    /// Where the kernel does not know the signals, which is nowhere.
    pub fn listen() -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let mut signals =
            signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
                .expect("both signals can be caught");
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for _ in signals.forever() {
                    counted.fetch_add(1, Relaxed);
                }
            })
            .expect("a process can start one more thread when it begins");
        Self(count)
    }

    /// How many have come so far.
    pub fn count(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Waits for the first.
    pub fn wait(&self) {
        while self.count() == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
