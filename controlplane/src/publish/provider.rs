//! ExternalModelProviders: judged, not published; data planes of this release do not call them.

use super::sentences;
use super::verdict::{Condition, ProviderVerdict, Reason};
use crate::crd::{ExternalModelProviderSpec, SecretKey};
use crate::external_model_provider::validate;
use crate::world::{Credential, Held, ObjectName, World};

/// Whether the provider is valid, and whether its credential is there and can be sent. Whether it opens anything is not known here.
pub(super) fn judge(name: &ObjectName, held: &Held<ExternalModelProviderSpec>, world: &World) -> ProviderVerdict {
    let read = held.spec.as_ref().map_err(|problems| problems.join("; "));
    let valid = read.and_then(|spec| validate(spec).map_err(|problems| sentences(&problems).join("; ")));
    let credentials = match valid.as_ref().ok().and_then(|spec| spec.auth.as_ref()) {
        None => Condition::yes(Reason::CredentialNotRequired, "No credential is configured"),
        Some(auth) => credential(name, &auth.secret_ref, world),
    };
    let accepted = match valid {
        Ok(_) => Condition::yes(Reason::Accepted, ""),
        Err(message) => Condition::no(Reason::Invalid, message),
    };
    ProviderVerdict { generation: held.generation, accepted, credentials }
}

fn credential(name: &ObjectName, wanted: &SecretKey, world: &World) -> Condition {
    let (secret, key) = (name.sibling(&wanted.name), &wanted.key);
    let Some(held) = world.secrets.get(&secret) else {
        let sentence = format!(
            "there is no Secret {secret} with the label \
             networking.serving.volcano.sh/external-model-provider-credential: \"true\""
        );
        return Condition::no(Reason::CredentialNotFound, sentence);
    };
    match held.get(key.as_str()) {
        Some(Credential::Usable) => {
            Condition::yes(Reason::CredentialResolved, "Credential Secret and key are available")
        }
        Some(Credential::Invalid) => Condition::no(
            Reason::CredentialInvalid,
            format!(
                "Secret {secret} holds white space alone at {key:?}, or what no header can carry: write the credential there"
            ),
        ),
        None => Condition::no(
            Reason::CredentialKeyNotFound,
            format!(
                "Secret {secret} has no key {key:?}, or nothing there: write the credential there, or correct secretRef.key"
            ),
        ),
    }
}
