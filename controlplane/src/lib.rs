//! The control plane: custom resources in, tables out.

pub mod crd;
pub mod publish;
