//! What must hold for every input, one module for each fuzz target. A plain test of the workspace includes this file by
//! path and runs the seeds through it, so it depends on nothing that needs libFuzzer.

pub mod chunk;
pub mod cuts;
pub mod decode;
pub mod head;
pub mod inspect;
pub mod sse;
