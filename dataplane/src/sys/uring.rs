//! Who answers the system calls of io_uring: the kernel, or a seccomp filter before it.

/// The error's number that `io_uring_enter` has for a descriptor that is none. The kernel's own is EBADF, whatever
/// `kernel.io_uring_disabled` says, which only `io_uring_setup` looks at; any other is that of a filter, or of a kernel without io_uring.
pub(crate) fn enter_nothing() -> Option<i32> {
    let (none, nothing) = (-1_i64, 0_u64);
    // SAFETY: nothing is submitted and nothing waited for, and the kernel is given no memory: the two last arguments are a null
    // pointer and its size.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_enter, none, nothing, nothing, nothing, nothing, nothing) };
    if result < 0 { std::io::Error::last_os_error().raw_os_error() } else { None }
}
