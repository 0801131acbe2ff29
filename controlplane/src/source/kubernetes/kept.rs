//! What an object keeps in its status, and the scheduler's ConfigMap in an annotation: its last good form, which counts while a later one
//! is refused.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api_server::number;
use crate::object::Unknown;
use crate::source::manifest::{self, Manifest, Read, SCHEDULER, SCHEDULER_LAST_GOOD};

/// The form that is kept, read as any object is. None where there is none, where it is not of this very object or not of an earlier
/// generation of it, and where it is good no more, which the log says.
pub(super) fn last_good(object: &Value) -> Option<Manifest> {
    if object["kind"] == "ConfigMap" {
        return configuration(object);
    }
    let kept = &object["status"]["lastGood"];
    let (generation, spec) = (kept["generation"].as_i64()?, kept["spec"].as_object()?);
    let metadata = &object["metadata"];
    let earlier = generation > 0 && metadata["generation"].as_i64().is_some_and(|newest| generation < newest);
    let own = kept["uid"].is_string() && kept["uid"] == metadata["uid"];
    if !earlier || !own {
        return None;
    }
    let former = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"], "generation": generation},
        "spec": spec,
    });
    match manifest::read(former, Unknown::Drop) {
        Read::Object(_, manifest) => Some(manifest),
        Read::Refused(_, problems) => {
            let (kind, namespace, name) = (&object["kind"], &metadata["namespace"], &metadata["name"]);
            tracing::warn!(
                %kind, %namespace, %name, generation, ?problems,
                "its last good form is good no more and counts for nothing"
            );
            None
        }
        Read::Other => None,
    }
}

/// What the annotation holds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    uid: String,
    /// Absent from what an earlier release kept: then any form that is remembered goes before it.
    resource_version: Option<String>,
    text: String,
}

/// A resourceVersion in the place of a generation. They are decimal numbers that grow with each write of an object; what is none
/// counts for the start.
pub(super) fn order(version: Option<&str>) -> i64 {
    i64::try_from(version.map_or(0, number)).unwrap_or_default()
}

/// None where there is none, or none of this very ConfigMap and of its past. Whether it is good still is found out when it is to count.
fn configuration(object: &Value) -> Option<Manifest> {
    let metadata = &object["metadata"];
    let kept: Configuration = serde_json::from_str(metadata["annotations"][SCHEDULER_LAST_GOOD].as_str()?).ok()?;
    let generation = order(kept.resource_version.as_deref());
    let earlier = generation == 0 || generation < order(metadata["resourceVersion"].as_str());
    if metadata["uid"] != kept.uid || !earlier {
        return None;
    }
    let former = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"], "generation": generation},
        "data": {SCHEDULER.1: kept.text},
    });
    match manifest::read(former, Unknown::Drop) {
        Read::Object(_, manifest) => Some(manifest),
        Read::Refused(..) | Read::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_keeps_its_last_good_form_in_an_annotation_of_its_own() {
        let kept = |annotation: &str| {
            let annotations = json!({"networking.serving.volcano.sh/last-good-router-configuration": annotation});
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {"routerConfiguration": "scheduler: 7"},
                "metadata": {
                    "name": "kthena-router-config", "namespace": "d", "uid": "u", "resourceVersion": "30", "annotations": annotations,
                },
            });
            match last_good(&object)? {
                Manifest::Scheduler(custom) => Some((custom.generation, custom.spec.to_string())),
                other => panic!("{other:?}"),
            }
        };
        let text = |text: &str| text.to_owned();
        let of =
            |version: &str| format!(r#"{{"uid": "u", "resourceVersion": "{version}", "text": "scheduler: {{}}"}}"#);
        assert_eq!(kept(&of("20")), Some((20, text("scheduler: {}"))));
        let earlier = r#"{"uid": "u", "text": "scheduler: {}"}"#;
        assert_eq!(kept(earlier), Some((0, text("scheduler: {}"))), "as an earlier release keeps it");
        let other = r#"{"uid": "v", "resourceVersion": "20", "text": "scheduler: {}"}"#;
        let nobody = r#"{"resourceVersion": "20", "text": "scheduler: {}"}"#;
        for bad in [other, nobody, r#"{"uid": "u"}"#, "", "7", &of("30"), &of("31")] {
            assert_eq!(kept(bad), None, "{bad}");
        }
    }

    fn route(model: &str, weight: u32) -> Value {
        json!({"modelName": model, "rules": [{"targetModels": [{"modelServerName": "s", "weight": weight}]}]})
    }

    /// The generation and the model of what counts of an object of generation 5 and UID `u` that keeps this.
    fn kept(kept: Value) -> Option<(i64, Option<String>)> {
        let object = json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
            "metadata": {"name": "r", "namespace": "d", "uid": "u", "generation": 5},
            "spec": {"rules": 7}, "status": {"lastGood": kept},
        });
        match last_good(&object)? {
            Manifest::Route(custom) => Some((custom.generation, custom.spec.model_name.clone())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_good_form_of_this_very_object_is_read_as_any_object() {
        let mut newer = route("m", 1);
        newer["fromTheFuture"] = json!(true);
        assert_eq!(kept(json!({"generation": 4, "uid": "u", "spec": newer})), Some((4, Some("m".to_owned()))));
        assert_eq!(kept(json!({"generation": 4, "uid": "u", "spec": route("m", 0)})), None, "it is good no more");
    }

    #[test]
    fn what_is_not_of_this_object_or_not_of_its_past_means_nothing() {
        let of = |generation: i64, uid: &str| json!({"generation": generation, "uid": uid, "spec": route("m", 1)});
        assert!(kept(of(4, "u")).is_some());
        for other in [of(4, "v"), of(4, ""), of(5, "u"), of(6, "u"), of(0, "u"), of(-1, "u")] {
            assert_eq!(kept(other.clone()), None, "{other}");
        }
        for bad in [json!(null), json!(7), json!({"generation": 4, "spec": route("m", 1)}), json!({"generation": "4"})]
        {
            assert_eq!(kept(bad.clone()), None, "{bad}");
        }
    }
}
