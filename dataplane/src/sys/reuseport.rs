//! Which of those who listen at one address (SO_REUSEPORT) gets a connection.
//!
//! The kernel keeps them in the order in which they began to listen, and puts the last one in the place of one that ends. It chooses by a
//! hash of the connection's addresses, unless a program is attached; where that names nobody it chooses by the hash again.

use std::io;
use std::os::fd::BorrowedFd;

use super::sock::{set_number, set_option};

/// All new connections go to the listener at this place, counted from 0, until [`steer_no_more`]. It needs no privilege.
pub(crate) fn steer(fd: BorrowedFd<'_>, place: u32) -> io::Result<()> {
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [libc::sock_filter { code, jt: 0, jf: 0, k: place }];
    let attached = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, of which there is as much as `attached` says; both live until the call returned.
    unsafe { set_option(fd, (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF), &attached) }
}

/// The kernel chooses by the hash again.
pub(crate) fn steer_no_more(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_number(fd, (libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF), 0)
}
