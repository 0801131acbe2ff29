//! Kthena's scheduler configuration, as existing installations have it.

use serde::Deserializer;

use super::Problem;
use crate::id::ProfileName;
use crate::snapshot::Profile;

/// A profile made from Kthena's configuration, and what of that has no effect here.
#[derive(Debug, Clone, PartialEq)]
pub struct KthenaProfile {
    /// What it amounts to.
    pub profile: Profile,
    /// Sentences for the operator.
    pub warnings: Vec<String>,
}

/// Reads the shape `{scheduler: {pluginConfig, plugins: {Filter, Score}}}` from YAML or JSON.
pub fn kthena_profile<'de, D: Deserializer<'de>>(
    _name: ProfileName,
    _config: D,
) -> Result<KthenaProfile, Vec<Problem>> {
    unimplemented!()
}
