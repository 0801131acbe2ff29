//! Runs of the whole system, beside the real programs of Kubernetes.

pub mod cluster;
pub mod helm;
