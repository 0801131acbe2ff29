//! Waiting for many sockets at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Events that are fetched at once.
pub(crate) const EVENTS: usize = 64;

/// Appends the data of what is ready now, of at most [`EVENTS`], without waiting.
///
/// Not `rustix::event::epoll::wait`: where another crate of the build wants microseconds it calls `epoll_pwait2`, which kernels before
/// 5.11 and seccomp profiles of their time do not know.
pub(crate) fn ready_now(epoll: BorrowedFd<'_>, ready: &mut Vec<u64>) -> io::Result<()> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    // SAFETY: the kernel writes at most `EVENTS` events to the array, which lives until the call returned.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS as libc::c_int, 0) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    ready.extend(events[..count].iter().map(|event| event.u64));
    Ok(())
}
