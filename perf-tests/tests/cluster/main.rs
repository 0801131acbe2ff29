//! What a real API server makes of our definitions and objects. `.ci/run kube` runs these.

// A test binary has no outside.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod controllers;
#[path = "../../../controlplane/tests/it/corpus.rs"]
mod corpus;
mod definitions;
mod faults;
mod fleet;
mod objects;
mod pods;
mod replica;
mod source;
mod status;
mod tokens;
mod verdicts;
mod wait;
mod writes;
