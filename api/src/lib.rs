//! The contract between the planes.
#![deny(missing_docs)]

pub mod id;
pub mod limits;
pub mod prefix;
pub mod snapshot;
