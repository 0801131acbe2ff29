//! AutoscalingPolicyBinding: the target of a policy that has none of its own.

mod validate;

pub use validate::validate;
