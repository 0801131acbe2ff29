//! Runs of the whole system: a real cluster, a kubelet that plays pods as processes, and a proxy that fails on demand.

pub mod cluster;
pub mod helm;
pub mod kubelet;
pub mod missing;
pub mod namespaces;
pub mod nodes;
pub mod proxy;
pub mod rights;
pub mod seccomp;
