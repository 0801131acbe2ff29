//! ExternalModelProvider: an API outside the cluster.

mod validate;

pub use validate::validate;
