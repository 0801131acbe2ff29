//! A seccomp filter that refuses io_uring, as hardened container runtimes do.

use std::io;

/// The system calls `io_uring_setup`, `io_uring_enter` and `io_uring_register`, the same on every architecture.
const FIRST: u32 = 425;
const LAST: u32 = 427;

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// From now on the io_uring calls of this thread, and of the threads that it starts, fail with EPERM. There is no way
/// back. It lets an operator and the tests see what a container with the usual seccomp profile sees.
pub fn deny_io_uring() -> io::Result<()> {
    let mut filter = [
        // The number of the call is the first word of seccomp_data.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, FIRST),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, LAST),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both calls only read their arguments; `program` and `filter` live until they have returned.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
