//! Connections to engines: one request at a time on each, kept per core and endpoint.

mod pool;

pub(crate) use pool::Pool;
