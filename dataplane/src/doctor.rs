//! `kthena-dataplane doctor`: which driver will run here and why, and what of the host is not as the pages of `tuning/`
//! advise.
//!
//! [`Host::read`] reads and judges nothing; [`examine`] judges and reads nothing, so that any host can be judged in a test.

mod cgroup;
mod cli;
mod host;
mod judge;
mod knob;
mod page;
mod read;
mod refusal;
mod report;
#[cfg(test)]
mod tests;

pub use cli::{Doctor, NEEDS_MENDING, WILL_NOT_START};
pub use host::{Host, Kernel, Quota, Ring, Wish};
pub use judge::examine;
pub use knob::Knob;
pub use page::Page;
pub use report::{Finding, Report, State};
