//! The last good form of an object, as its status keeps it while a later form is refused: pure.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Error;
use serde_json::{Value, json};

use crate::publish::{Fallback, GoodForm};

/// Its name in a status.
pub(super) const FIELD: &str = "lastGood";

/// Whether it is a form of this very object, and none that is yet to come. Whatever else is there means nothing, and is in nobody's way.
pub(super) fn is_own(kept: &Value, object: &ObjectMeta) -> bool {
    let own = object.uid.as_deref().is_some_and(|uid| kept["uid"] == *uid);
    own && kept["generation"].as_i64().is_some_and(|generation| Some(generation) <= object.generation)
}

/// What a status is to keep that kept `before`; none where it is to keep nothing. What it keeps already stays to the letter, whoever
/// wrote it, unless a later form takes its place.
pub(super) fn form(fallback: &Fallback, before: &Value, object: &ObjectMeta) -> Option<Value> {
    let there = Some(&before[FIELD]).filter(|kept| is_own(kept, object));
    let is_older = |good: &Arc<GoodForm>| there.is_none_or(|kept| kept["generation"].as_i64() < Some(good.generation));
    match fallback {
        Fallback::Unneeded | Fallback::TooLarge(_) => None,
        Fallback::Kept(good) if is_older(good) => {
            let GoodForm { generation, spec } = &**good;
            Some(json!({"generation": generation, "uid": object.uid.as_ref()?, "spec": spec}))
        }
        Fallback::Kept(_) | Fallback::Missing => there.cloned(),
    }
}

/// Whether an API server does not know the field: its definitions are of an earlier release.
pub(super) fn is_unknown(error: &Error) -> bool {
    let Error::Api(status) = error else { return false };
    status.message.contains(&format!(".status.{FIELD}")) && status.message.contains("not declared in schema")
}

/// The same patch for such a one.
pub(super) fn without(mut patch: Value) -> Value {
    if let Some(status) = patch["status"].as_object_mut() {
        status.remove(FIELD);
    }
    patch
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn good(generation: i64) -> Fallback {
        Fallback::Kept(Arc::new(GoodForm { generation, spec: json!({"by": "us"}) }))
    }

    /// The generation of what is kept after this, and who wrote it, where there was that of `before`.
    #[track_caller]
    fn check(fallback: &Fallback, before: Option<(i64, &str)>, expected: Option<(i64, &str)>) {
        let kept = |(generation, uid)| json!({"generation": generation, "uid": uid, "spec": {"by": "another"}});
        let before = json!({"lastGood": before.map(kept)});
        let object = ObjectMeta { uid: Some("u".into()), generation: Some(5), ..ObjectMeta::default() };
        let form = form(fallback, &before, &object);
        let found =
            form.as_ref().map(|kept| (kept["generation"].as_i64().unwrap(), kept["spec"]["by"].as_str().unwrap()));
        assert_eq!(found, expected, "{fallback:?} {before}");
        assert!(form.is_none_or(|kept| kept["uid"] == "u"));
    }

    #[test]
    fn a_later_form_takes_the_place_of_an_earlier_one_and_what_is_there_stays_to_the_letter() {
        check(&good(3), None, Some((3, "us")));
        check(&good(3), Some((2, "u")), Some((3, "us")));
        check(&good(3), Some((3, "u")), Some((3, "another")));
        check(&good(3), Some((4, "u")), Some((4, "another")));
        check(&good(3), Some((4, "another object's")), Some((3, "us")));
        check(&good(3), Some((1_000, "u")), Some((3, "us")));
        check(&Fallback::Missing, Some((2, "u")), Some((2, "another")));
        check(&Fallback::Missing, Some((2, "another object's")), None);
        check(&Fallback::Missing, None, None);
        check(&Fallback::Unneeded, Some((2, "u")), None);
        check(&Fallback::TooLarge(3), Some((2, "u")), None);
    }

    #[test]
    fn without_a_uid_nothing_is_kept() {
        let object = ObjectMeta { generation: Some(5), ..ObjectMeta::default() };
        assert_eq!(form(&good(3), &json!({"lastGood": {"generation": 2}}), &object), None);
    }

    #[test]
    fn definitions_of_an_earlier_release_get_all_but_the_form() {
        let error = |message: &str| Error::Api(Status::failure(message, "").boxed());
        let unknown = "failed to create typed patch object (d/r; g/v1alpha1, Kind=ModelRoute): .status.lastGood: field not declared in schema";
        assert!(is_unknown(&error(unknown)));
        assert!(!is_unknown(&error(".status.other: field not declared in schema")));
        assert!(!is_unknown(&error("the object has been modified")));
        let patch = json!({"metadata": {}, "status": {"observedGeneration": 3, "lastGood": {}}});
        assert_eq!(without(patch), json!({"metadata": {}, "status": {"observedGeneration": 3}}));
    }
}
