//! What a real API server makes of our definitions and objects. `.ci/run kube` runs these.

// A test binary has no outside.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod alerts;
mod behind;
mod c01_away;
mod c02_gap;
mod c04_crash;
mod c08_webhook;
mod c10_rollout;
mod c13_refused;
mod c16_rights;
mod certificates;
mod chart;
mod controllers;
#[path = "../../../controlplane/tests/it/corpus.rs"]
mod corpus;
mod crds;
mod data_plane;
mod definitions;
mod examples;
mod explain;
mod faults;
mod figures;
mod fleet;
mod installed;
mod issuers;
mod kubectl;
mod last_good;
mod migration;
mod network;
mod nodes;
#[allow(dead_code, reason = "the tests of the chart ask more of an object")]
#[path = "../chart/object.rs"]
mod object;
mod objects;
mod older;
mod path;
mod played;
mod pods;
mod program;
mod prometheus;
mod published;
mod replica;
mod replicas;
mod rights;
mod sentences;
mod source;
mod status;
mod tokens;
#[allow(dead_code, reason = "as object")]
#[path = "../chart/values.rs"]
mod values;
mod verdicts;
mod wait;
mod writes;
