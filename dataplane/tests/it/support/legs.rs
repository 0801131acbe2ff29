//! The three drivers that every behaviour is shown on.

use std::io::Write;

use dataplane::rt::{self, DriverChoice};

/// How the proxy does its I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leg {
    /// io_uring.
    Uring,
    /// epoll, asked for.
    Epoll,
    /// epoll, because the kernel refuses io_uring to the proxy's threads.
    Denied,
}

impl Leg {
    pub(crate) fn choice(self) -> DriverChoice {
        match self {
            Self::Uring => DriverChoice::Uring,
            Self::Epoll => DriverChoice::Epoll,
            Self::Denied => DriverChoice::Auto,
        }
    }

    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Denied => "auto",
        }
    }

    /// Runs a job on a thread whose io_uring calls fail, if that is this leg. Threads that it starts inherit it.
    pub(crate) fn run<T: Send + 'static>(self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let denied = self == Self::Denied;
        let thread = std::thread::spawn(move || {
            if denied {
                dataplane::sys::deny_io_uring().unwrap();
            }
            job()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Shows a behaviour on a driver, or says that this machine has it not.
pub(crate) fn show(leg: Leg, behaviour: fn(Leg)) {
    if leg == Leg::Uring && rt::probe(DriverChoice::Uring).is_err() {
        // What a test prints is kept back where it passes, and this is to be seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: this machine forbids io_uring");
        return;
    }
    behaviour(leg);
}

/// Makes three tests of each behaviour, one for each driver.
macro_rules! on_every_driver {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { crate::support::legs::show(crate::support::legs::Leg::Uring, super::$name) })+
        }
        mod epoll {
            $(#[test] fn $name() { crate::support::legs::show(crate::support::legs::Leg::Epoll, super::$name) })+
        }
        mod denied {
            $(#[test] fn $name() { crate::support::legs::show(crate::support::legs::Leg::Denied, super::$name) })+
        }
    };
}
pub(crate) use on_every_driver;
