//! The client side of a core: listening, connections, the sweep that gives every wait its limit, and the pulse that tells how late the core is.

pub(crate) mod connection;
pub(crate) mod dozing;
pub(crate) mod elders;
pub(crate) mod listener;
pub(crate) mod pulse;
pub(crate) mod reader;
pub(crate) mod sweep;
pub(crate) mod watch;
