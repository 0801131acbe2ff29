//! What a real API server makes of our definitions and objects. `.ci/run kube` runs these.

// A test binary has no outside.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod alerts;
mod behind;
mod c01_away;
mod c02_gap;
mod c03_past;
mod c04_crash;
mod c06_conflicts;
mod c08_webhook;
mod c09_poison;
mod c10_rollout;
mod c11_same_name;
mod c13_refused;
mod c15_flaps;
mod c16_rights;
mod certificates;
#[allow(dead_code, reason = "its own tests ask more of it")]
#[path = "../../../controlplane/src/chance/testing.rs"]
mod chance;
mod chart;
mod charted;
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
mod histories;
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
mod odd;
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
mod scene;
mod sentences;
mod source;
mod status;
mod tokens;
mod told;
#[allow(dead_code, reason = "as object")]
#[path = "../chart/values.rs"]
mod values;
mod verdicts;
mod wait;
mod writes;
