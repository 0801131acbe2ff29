//! ExternalModelProviders: judged, not published; data planes of this release do not call them.

use super::sentences;
use super::verdict::{Condition, ProviderVerdict, Reason};
use crate::crd::ExternalModelProviderSpec;
use crate::external_model_provider::validate;
use crate::world::{Held, ObjectName, World};

/// Whether the provider is valid, and whether its Secret is there. What the Secret holds is not known here.
pub(super) fn judge(name: &ObjectName, held: &Held<ExternalModelProviderSpec>, world: &World) -> ProviderVerdict {
    let read = held.spec.as_ref().map_err(|problems| problems.join("; "));
    let valid = read.and_then(|spec| validate(spec).map_err(|problems| sentences(&problems).join("; ")));
    let credentials = match valid.as_ref().ok().and_then(|spec| spec.auth.as_ref()) {
        None => Condition::yes(Reason::CredentialNotRequired, "No credential is configured"),
        Some(auth) => {
            let secret = name.sibling(&auth.secret_ref.name);
            if world.secrets.contains(&secret) {
                Condition::yes(Reason::CredentialResolved, "Credential Secret is available")
            } else {
                let sentence = format!(
                    "there is no Secret {secret} with the label \
                     networking.serving.volcano.sh/external-model-provider-credential: \"true\""
                );
                Condition::no(Reason::CredentialNotFound, sentence)
            }
        }
    };
    let accepted = match valid {
        Ok(_) => Condition::yes(Reason::Accepted, ""),
        Err(message) => Condition::no(Reason::Invalid, message),
    };
    ProviderVerdict { generation: held.generation, accepted, credentials }
}
