//! The only code that is allowed to be unsafe: each block says why it is sound.
#![allow(unsafe_code)]

mod allocator;
mod bufs;
mod clock;
mod epoll;
mod memory;
mod reuseport;
mod seccomp;
mod sock;
mod uring;

pub use allocator::Allocator;
pub(crate) use bufs::TwoBufs;
pub(crate) use clock::coarse_ms;
pub(crate) use epoll::{EVENTS, ready_now};
pub(crate) use memory::collect_memory;
pub(crate) use reuseport::{steer, steer_no_more};
pub use seccomp::deny_io_uring;
pub(crate) use sock::{Sock, set_receive_low_water, set_unsent_low_water};
pub(crate) use uring::enter_nothing;
