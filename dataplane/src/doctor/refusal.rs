//! Who refuses io_uring on a host, and what is to be done about it.

use super::{Host, Kernel, Page};

/// The first kernel that has rings at all.
const FIRST_RINGS: Kernel = Kernel(5, 1);
const OLD: &str = "run it on Linux 6.1 or newer, or --io-driver epoll to be content";

/// Why, what mends it, and which page is about that.
pub(super) struct Refusal {
    pub(super) why: String,
    pub(super) mend: &'static str,
    pub(super) page: Page,
}

/// Why the kernel did not build a ring that was tried and ended with this error; None where it lacks an operation.
pub(super) fn refusal(host: &Host, error: Option<i32>) -> Refusal {
    let (page, why, mend) = match error {
        Some(libc::EPERM) => return not_permitted(host),
        Some(libc::ENOSYS) if host.seccomp_filter == Some(true) && host.kernel >= Some(FIRST_RINGS) => {
            return filtered();
        }
        Some(libc::ENOSYS) => (
            Page::IoDriver,
            "this system has no io_uring: a kernel before 5.1, gVisor, or a runtime that hides it".into(),
            "run it on Linux 6.1 or newer and a runtime that shows it, or --io-driver epoll to be content",
        ),
        Some(libc::ENOMEM) => (
            Page::Memory,
            "there is no memory for the rings".into(),
            "raise the control group's memory limit (before Linux 5.12: ulimit -l), or --cores with fewer cores",
        ),
        Some(number) => (Page::Kernel, format!("io_uring fails: {}", std::io::Error::from_raw_os_error(number)), OLD),
        None => (Page::Kernel, "the kernel's io_uring lacks an operation".into(), OLD),
    };
    Refusal { why, mend, page }
}

fn filtered() -> Refusal {
    Refusal {
        why: "a seccomp filter refuses io_uring, as the default profiles of container runtimes do".into(),
        mend: "kthena-dataplane install-seccomp on the node and a Localhost profile (helm: ioUring.seccomp=localhost of gateway or node), or --io-driver epoll to be content",
        page: Page::Seccomp,
    }
}

/// Both the sysctl and a filter may be in the way, and both have to be out of it: the page about the driver has either.
fn not_permitted(host: &Host) -> Refusal {
    let is_filtered = host.seccomp_filter == Some(true) && host.enter_error != Some(libc::EBADF);
    let whom = match host.io_uring_disabled {
        Some(2) => "all",
        Some(1) => "the unprivileged",
        _ if is_filtered => return filtered(),
        _ => {
            return Refusal {
                why: "io_uring is not permitted here".into(),
                mend: "see what a security module or the sysctl kernel.io_uring_disabled says, or --io-driver epoll to be content",
                page: Page::IoDriver,
            };
        }
    };
    let value = host.io_uring_disabled.unwrap_or_default();
    let sysctl = format!("the sysctl kernel.io_uring_disabled is {value}, which refuses io_uring to {whom}");
    let (why, mend) = if is_filtered {
        (
            format!("{sysctl}, and {}", filtered().why),
            "sysctl -w kernel.io_uring_disabled=0 and kthena-dataplane install-seccomp on the node and a Localhost profile (helm: ioUring.seccomp=localhost of gateway or node), or --io-driver epoll to be content",
        )
    } else {
        (sysctl, "sysctl -w kernel.io_uring_disabled=0 on the node, or --io-driver epoll to be content")
    };
    Refusal { why, mend, page: Page::IoDriver }
}
