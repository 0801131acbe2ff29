//! The wire's messages, generated from `proto/*.proto`; the comments there are the spec.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::large_futures)]

include!(concat!(env!("OUT_DIR"), "/kthena.dataplane.v1.rs"));
include!(concat!(env!("OUT_DIR"), "/kthena.dataplane.v1.serde.rs"));
