//! The chart as helm renders it: over a matrix of values, against the programs that it starts, and against its own documents.
//! `.ci/run helm` runs these.

// A test binary has no outside.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod beaten;
mod certificates;
mod copies;
mod doctor;
mod documents;
mod everything;
mod facts;
mod images;
mod kthena;
mod labels;
mod monitoring;
mod node;
mod notes;
mod object;
mod older;
mod programs;
mod refusals;
mod rollout;
mod shape;
mod values;
