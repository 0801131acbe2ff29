//! What a real API server makes of our definitions and objects. `.ci/run kube` runs these.

// A test binary has no outside.
#![allow(unreachable_pub, clippy::unwrap_used)]

#[path = "../../../controlplane/tests/it/corpus.rs"]
mod corpus;
mod crds;
mod definitions;
mod objects;
mod verdicts;
mod writes;
