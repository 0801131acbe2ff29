//! kthena-dataplane: a thread-per-core proxy for inference traffic.

pub mod rt;
pub mod sys;
