//! The runtime of a core: one thread, one monoio loop, on io_uring or epoll.
//!
//! Nothing else in this crate names monoio. What is offered here cannot lose bytes or file descriptors:
//!
//! - waits that may be given up hold nothing (readiness) or give back what they hold ([`PostedRead::cancel`]);
//! - a panic ends its task, never its core ([`spawn`]);
//! - no runtime is dropped while the kernel may still write into its buffers ([`run`]).

mod cores;
mod driver;
mod listener;
mod mailbox;
mod posted;
mod select;
mod sleepers;
mod stop;
mod stream;
mod task;
#[cfg(test)]
mod tests;

pub use cores::{cores, pin_to};
pub use driver::{Driver, DriverChoice, StartError, current_driver, epoll_forced, probe, run, try_uring};
pub use listener::{Accepted, Bound, Listener, SocketFile, UnixListener};
pub use mailbox::{Inbox, Post, mailbox};
pub use posted::{PostedOutcome, PostedRead, ReadCanceller};
pub use select::{Either, select2};
pub use sleepers::Sleepers;
pub use stop::StopToken;
pub use stream::{Killer, ReadHalf, Stream, WriteHalf, is_quiet};
pub use task::{Elapsed, drained, panics, sleep, spawn, spawn_vital, timeout, yield_now};
