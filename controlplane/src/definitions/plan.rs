//! What to do with one definition, by what the cluster holds of it.

use serde_json::{Value, json};

use super::{RELEASE, Release};
use crate::crd;
use crate::object::Kind;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// There is none: create this.
    Create(Value),
    /// There is one of our release, an older one, or nobody's: apply this.
    Apply(Value),
    /// There is one of a newer release, which stays.
    Keep(Release),
    /// What it says of its release is no release, so it may be newer.
    Unclear(String),
}

pub(super) fn plan(kind: Kind, ours: &Release, held: Option<&Value>) -> Plan {
    let Some(held) = held else { return Plan::Create(definition(kind, ours)) };
    match held["metadata"]["annotations"][RELEASE].as_str().map(str::parse::<Release>) {
        Some(Err(sentence)) => return Plan::Unclear(sentence),
        Some(Ok(theirs)) if theirs > *ours => return Plan::Keep(theirs),
        Some(Ok(_)) | None => {}
    }
    let mut wanted = definition(kind, ours);
    // Whoever changed it since it was read may have brought a newer schema: then this is refused, and it is read again.
    wanted["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"].clone();
    Plan::Apply(wanted)
}

fn definition(kind: Kind, release: &Release) -> Value {
    let mut definition = crd::generate(kind);
    definition["metadata"]["annotations"] = json!({RELEASE: release.to_string()});
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::ModelRoute;

    fn check(release: Option<&str>, expected: fn(&Plan) -> bool) {
        let annotations = release.map_or(json!({}), |release| json!({RELEASE: release}));
        let held = json!({"metadata": {"resourceVersion": "7", "annotations": annotations}});
        let plan = plan(KIND, &"0.2.0".parse().unwrap(), Some(&held));
        assert!(expected(&plan), "{release:?}: {plan:?}");
    }

    #[test]
    fn only_a_newer_schema_stays() {
        let applied = |plan: &Plan| matches!(plan, Plan::Apply(wanted) if wanted["metadata"]["resourceVersion"] == "7");
        check(None, applied);
        check(Some("0.1.9"), applied);
        check(Some("0.2.0"), applied);
        check(Some("0.2.0-rc.1"), applied);
        check(Some("0.2.1"), |plan| matches!(plan, Plan::Keep(_)));
        check(Some("latest"), |plan| matches!(plan, Plan::Unclear(_)));
    }

    #[test]
    fn where_there_is_none_it_is_created_with_its_release() {
        let Plan::Create(wanted) = plan(KIND, &"0.2.0".parse().unwrap(), None) else { panic!() };
        assert_eq!(wanted["metadata"]["annotations"][RELEASE], "0.2.0");
        assert_eq!(wanted["spec"], crd::generate(KIND)["spec"]);
    }
}
