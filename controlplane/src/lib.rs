//! The control plane: custom resources in, tables out.

pub mod publish;
