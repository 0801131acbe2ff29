//! From what the sources say to what every data plane runs.

pub mod serve;
