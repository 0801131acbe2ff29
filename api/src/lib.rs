//! The contract between the planes: the wire (`proto`), the domain types (`snapshot`), the only way from one to the other
//! (`decode`, `encode`, `delta`, `json`), and what both planes must compute alike.
#![deny(missing_docs)]

pub mod decode;
pub mod delta;
pub mod duration;
pub mod encode;
pub mod hash;
pub mod id;
pub mod json;
pub mod kv;
pub mod limits;
pub mod predictions;
pub mod prefix;
pub mod proto;
#[cfg(any(test, feature = "testing"))]
pub mod sample;
pub mod seen;
pub mod snapshot;
pub mod template;
pub mod uses;
