//! Which driver a core runs on, and running it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Submission slots of a core's ring.
const ENTRIES: u32 = 4096;
/// Completion slots: one step of an engine may complete thousands of reads at once.
const COMPLETIONS: u32 = 16_384;

/// What the operator asked for (`io.driver`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring where the kernel and the container allow it, else epoll.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll.
    Epoll,
}

/// A rung of the ladder, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// io_uring with COOP_TASKRUN and SINGLE_ISSUER (Linux 6.0).
    UringSingle,
    /// io_uring with COOP_TASKRUN (Linux 5.19).
    UringCoop,
    /// io_uring without flags.
    UringPlain,
    /// epoll.
    Epoll,
}

/// Why no core can run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring was asked for and the kernel, a seccomp filter or a sysctl refuses it.
    #[error(
        "io.driver is uring, but this system refuses io_uring ({0}); allow io_uring_setup, io_uring_enter and \
             io_uring_register in the seccomp profile, check kernel.io_uring_disabled, or set io.driver to auto or epoll"
    )]
    UringRefused(#[source] io::Error),
    /// io_uring was asked for and the environment forbids it.
    #[error("io.driver is uring, but MONOIO_FORCE_LEGACY_DRIVER is set; unset it or set io.driver to auto or epoll")]
    UringForbidden,
    /// The chosen rung could not be built.
    #[error("cannot set up {0}: {1}")]
    Build(Driver, #[source] io::Error),
}

type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

thread_local! {
    static DRIVER: Cell<Option<Driver>> = const { Cell::new(None) };
}

impl Driver {
    /// The name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UringSingle => "uring/coop+single",
            Self::UringCoop => "uring/coop",
            Self::UringPlain => "uring/plain",
            Self::Epoll => "epoll",
        }
    }

    /// Whether this is one of the io_uring rungs.
    pub fn is_uring(self) -> bool {
        self != Self::Epoll
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The driver of the core that the calling thread runs, if it runs one.
pub fn current_driver() -> Option<Driver> {
    DRIVER.get()
}

/// Finds the best rung that works here. Called once at start-up, so that all cores run on the same one.
pub fn probe(choice: DriverChoice) -> Result<Driver, StartError> {
    let forced = epoll_forced();
    match choice {
        DriverChoice::Epoll => return Ok(Driver::Epoll),
        DriverChoice::Auto if forced => return Ok(Driver::Epoll),
        DriverChoice::Uring if forced => return Err(StartError::UringForbidden),
        DriverChoice::Auto | DriverChoice::Uring => {}
    }
    match (try_uring(), choice) {
        (Ok(driver), _) => Ok(driver),
        (Err(refused), DriverChoice::Uring) => Err(StartError::UringRefused(refused)),
        (Err(_), _) => Ok(Driver::Epoll),
    }
}

/// The best rung of io_uring that works here, or why none does.
pub fn try_uring() -> io::Result<Driver> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for rung in [Driver::UringSingle, Driver::UringCoop, Driver::UringPlain] {
        // A runtime that never ran has nothing in flight, so this one may be dropped.
        match build(rung) {
            Ok(_) if monoio::utils::detect_uring() => return Ok(rung),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::Unsupported, "an operation is missing")),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Whether the environment forbids io_uring, in the same words that monoio's own probe obeys.
pub fn epoll_forced() -> bool {
    let value = std::env::var("MONOIO_FORCE_LEGACY_DRIVER").unwrap_or_default();
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes")
}

fn build(driver: Driver) -> io::Result<Runtime> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_cqsize(COMPLETIONS).setup_clamp();
    match driver {
        Driver::UringSingle => ring.setup_single_issuer().setup_coop_taskrun(),
        Driver::UringCoop => ring.setup_coop_taskrun(),
        Driver::UringPlain => &mut ring,
        Driver::Epoll => {
            let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(ENTRIES);
            return Ok(builder.enable_timer().build()?.into());
        }
    };
    let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).with_entries(ENTRIES);
    Ok(builder.enable_timer().build()?.into())
}

/// Runs a core on the calling thread until the future that `main` makes ends.
///
/// The runtime is never dropped, not even by a panic: the kernel may still write into buffers of operations that it
/// holds. A process therefore ends by `process::exit`; a test ends its core by [`super::drained`], and what is left
/// stays allocated. A panic of the main future itself passes through: the caller aborts.
pub fn run<F: Future>(driver: Driver, main: impl FnOnce() -> F) -> Result<F::Output, StartError> {
    let runtime = build(driver).map_err(|error| StartError::Build(driver, error))?;
    let mut runtime = ManuallyDrop::new(runtime);
    DRIVER.set(Some(driver));
    let output = runtime.block_on(async {
        let output = main().await;
        // One more turn hands the kernel what was queued, such as the closing of sockets.
        super::sleep(Duration::from_millis(1)).await;
        output
    });
    DRIVER.set(None);
    Ok(output)
}
