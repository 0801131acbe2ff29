//! What the resources are, and what is made of objects.

// A test binary has no outside.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod corpus;
mod defaults;
mod definitions;
mod examples;
mod fields;
mod process;
mod rules;
mod table;
mod validations;
mod verdicts;
mod webhook;
