//! AutoscalingPolicy: by which metrics, how fast and between which bounds ModelServings are scaled.

mod ratio;
mod validate;

pub use validate::validate;

pub(crate) use validate::{bounds, metric_source, target_ref};
