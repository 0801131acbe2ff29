//! ModelServing: groups of pods that together serve a model.

mod rollout;
mod validate;

pub use validate::{transition, validate};

/// The plugins that there are.
pub const PLUGINS: [&str; 2] = ["demo-pod-tweaks", "lws-standard-labels"];
/// Labels of pods with this prefix are ours.
pub const LABEL_PREFIX: &str = "modelserving.volcano.sh/";
