//! Kthena's scheduler configuration, judged alone.

use api::decode::kthena_profile;
use api::snapshot::Profile;

use super::contract;
use crate::world::ObjectName;

/// The name under which every backend uses it.
const NAME: &str = "scheduler";

/// A configuration that can be published.
#[derive(Debug)]
pub(super) struct AcceptedProfile {
    pub(super) profile: Profile,
    /// What of it has no effect, in sentences.
    pub(super) notes: Vec<String>,
}

/// Reads the text of `routerConfiguration`.
#[expect(clippy::ptr_arg, reason = "as every object is judged by what its source holds")]
pub(super) fn accept(_: &ObjectName, text: &String) -> Result<AcceptedProfile, Vec<String>> {
    let read = kthena_profile(NAME.into(), serde_norway::Deserializer::from_str(text));
    let read = read.map_err(|problems| contract::sentences(&problems, ""))?;
    Ok(AcceptedProfile { profile: contract::profile(read.profile)?, notes: read.warnings })
}
