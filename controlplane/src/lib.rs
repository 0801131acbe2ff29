//! The control plane: custom resources in, tables out.

pub mod cli;
pub mod crd;
pub mod explain;
pub mod publish;
pub mod source;
pub mod world;
