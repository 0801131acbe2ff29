//! The only code that is allowed to be unsafe: each block says why it is sound.
#![allow(unsafe_code)]

mod bufs;
mod memory;
mod seccomp;
mod sock;

pub(crate) use bufs::TwoBufs;
pub(crate) use memory::collect_memory;
pub use seccomp::deny_io_uring;
pub(crate) use sock::{Sock, set_receive_low_water};
