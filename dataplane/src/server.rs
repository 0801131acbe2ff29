//! The client side of a core: listening, connections, and the sweep that gives every wait its limit.

pub(crate) mod connection;
pub(crate) mod dozing;
pub(crate) mod elders;
pub(crate) mod listener;
pub(crate) mod reader;
pub(crate) mod sweep;
pub(crate) mod watch;
