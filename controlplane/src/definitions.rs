//! `kthena-controlplane crds apply`: brings the CustomResourceDefinitions of this release to a cluster.
//!
//! helm never upgrades what lies in a chart's `crds/`, and prunes stored fields when it rolls back what lies in its templates. So a
//! hook of the chart runs this instead: server-side apply, with force, and never an older schema over a newer one.

mod apply;
mod cli;
mod plan;
mod release;

pub use apply::{Error, Outcome, apply};
pub use cli::Crds;
pub use release::Release;

/// The annotation that says which release's schema a definition holds.
pub const RELEASE: &str = "serving.volcano.sh/schema-release";
/// Who owns the definitions' fields.
pub const MANAGER: &str = "kthena-controlplane-crds";
