//! The form of an object that outlives the control plane while a later one is refused.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A form of an object that was good.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastGoodForm {
    /// The generation of the object that had this spec.
    #[schemars(range(min = 1))]
    pub generation: i64,
    /// The UID of the object: to another one of its name this means nothing.
    pub uid: String,
    /// What the object said, defaults included.
    pub spec: FormerSpec,
}

/// A spec as JSON: its own schema may be narrower today.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormerSpec(pub Map<String, Value>);

impl JsonSchema for FormerSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FormerSpec".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Written as a whole: who owns which field of it is nobody's interest.
        json_schema!({
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}
