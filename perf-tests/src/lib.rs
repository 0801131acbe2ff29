//! Runs of the whole system: a real cluster, nodes for the `kubelet` that plays pods, and a proxy that fails on demand.

pub mod cluster;
pub mod helm;
pub mod missing;
pub mod namespaces;
pub mod nodes;
pub mod proxy;
pub mod rights;
pub mod seccomp;
