//! The webhook comes to the verdicts of the corpus, and hostile objects do not get it to panic.

use std::collections::BTreeSet;

use controlplane::object::{Kind, Unknown, admit};
use controlplane::problem::Problem;
use controlplane::webhook::{Answer, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::corpus::{By, Case, corpus};

fn ask(operation: &str, object: &Value, old: Option<&Value>) -> Answer {
    let request =
        json!({"uid": "1", "operation": operation, "object": object, "oldObject": old, "kind": {}, "dryRun": false});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Request::read(review.to_string().as_bytes()).unwrap().judge()
}

fn problems(answer: &Answer) -> Vec<Problem> {
    let causes = answer.status().and_then(|status| status.details.as_ref()).map(|details| details.causes.as_slice());
    let problem = |cause: &kube::core::response::StatusCause| Problem {
        path: cause.field.clone(),
        sentence: cause.message.clone(),
    };
    causes.unwrap_or_default().iter().map(problem).collect()
}

/// The same without the webhook. A status is not judged.
fn expected(case: &Case) -> Vec<Problem> {
    let kind = Kind::of(&case.object).unwrap();
    let mut object = case.object.clone();
    object.as_object_mut().unwrap().remove("status");
    match (admit(kind, object, Unknown::Drop), &case.old) {
        (Err(problems), _) => problems,
        (Ok(_), None) => Vec::new(),
        (Ok(new), Some(old)) => new.replaces(&admit(kind, old.clone(), Unknown::Drop).unwrap()),
    }
}

#[test]
fn the_webhook_comes_to_the_verdicts_of_the_corpus() {
    let (mut judged, mut wrong) = (0, Vec::new());
    for (file, case) in corpus() {
        let operation = if case.old.is_some() { "UPDATE" } else { "CREATE" };
        let answer = ask(operation, &case.object, case.old.as_ref());
        let (found, expected) = (problems(&answer), expected(&case));
        // What a schema refuses never comes here; where it is a field that is pruned, nothing is left to refuse.
        let must_refuse = case.expect.refused_by == Some(By::Webhook);
        let must_allow = case.expect.refused_by.is_none();
        let agrees = answer.is_allowed() == found.is_empty() && found == expected;
        if !agrees || (must_refuse && answer.is_allowed()) || (must_allow && !answer.is_allowed()) {
            wrong.push(format!("{file}: {}\n  found    {found:?}\n  expected {expected:?}", case.name));
        }
        judged += 1;
    }
    assert!(judged >= 331, "{judged} objects");
    assert!(wrong.is_empty(), "{} verdicts differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_refusal_is_worded_as_those_of_the_api_server() {
    let spec = json!({"modelName": "m", "rules": [
        {"modelMatch": {"uri": {"regex": "("}}, "targetModels": [{"modelServerName": "s"}]},
        {"modelMatch": {"uri": {"regex": "["}}, "targetModels": [{"modelServerName": "s"}]},
    ]});
    let answer = ask("CREATE", &route(spec), None);
    let status = answer.status().unwrap();
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let fields: Vec<_> = problems(&answer).into_iter().map(|problem| problem.path).collect();
    assert_eq!(fields, ["spec.rules[0].modelMatch.uri.regex", "spec.rules[1].modelMatch.uri.regex"]);
    for problem in problems(&answer) {
        assert!(status.message.contains(&problem.to_string()), "{}", status.message);
    }
}

fn route(spec: Value) -> Value {
    json!({"apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
           "metadata": {"name": "r", "namespace": "default"}, "spec": spec})
}

fn targets() -> Value {
    json!([{"targetModels": [{"modelServerName": "s"}]}])
}

#[test]
fn an_old_object_that_would_be_refused_today_can_still_lose_its_finalizers() {
    let mut old = route(json!({"modelName": "m", "rules": [
        {"modelMatch": {"uri": {"regex": "("}}, "targetModels": [{"modelServerName": "s"}]}]}));
    old["metadata"]["finalizers"] = json!(["example.org/a"]);
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!([]);
    assert!(ask("UPDATE", &new, Some(&old)).is_allowed());
    new["spec"]["modelName"] = json!("other");
    assert!(!ask("UPDATE", &new, Some(&old)).is_allowed(), "an edit is judged as a whole");
    assert!(
        ask("UPDATE", &route(json!({"modelName": "m", "rules": targets()})), Some(&old)).is_allowed(),
        "it is mended"
    );
    assert!(ask("DELETE", &Value::Null, Some(&old)).is_allowed());
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let check = |spec, part: &str| {
        let answer = ask("CREATE", &route(spec), None);
        assert!(answer.is_allowed());
        assert!(matches!(answer.warnings(), [warning] if warning.contains(part)), "{:?}", answer.warnings());
    };
    check(
        json!({"modelName": "m", "rules": targets(), "fromTheFuture": 1}),
        "spec.fromTheFuture: this release does not",
    );
    check(
        json!({"modelName": "m", "rules": targets(), "rateLimit": {"inputTokensPerUnit": 1, "unit": "second"}}),
        "503",
    );
    let plain = ask("CREATE", &route(json!({"modelName": "m", "rules": targets()})), None);
    assert!(plain.is_allowed() && plain.warnings().is_empty(), "{:?}", plain.warnings());
}

#[test]
fn what_is_no_question_of_an_api_server_is_said_to_be_none() {
    let check = |body: &str, part: &str| {
        let sentence = Request::read(body.as_bytes()).unwrap_err().to_string();
        assert!(sentence.contains(part), "{sentence}");
    };
    check("", "EOF");
    check("[]", "not an AdmissionReview");
    check(r#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}"#, "v1beta1");
    check(r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#, "without a request");
    check(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "not an AdmissionReview");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}});
    assert!(ask("CREATE", &pod, None).is_allowed(), "too wide a rule must not lock a cluster");
}

/// All places of an object.
fn pointers(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    found.insert(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| pointers(value, &format!("{at}/{name}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| pointers(value, &format!("{at}/{i}"), found))
        }
        _ => {}
    }
}

fn hostile() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "(\\PC|[(\\[{*+?|]){0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, {"": ""}, -1])),
        Just(Value::from("9".repeat(400))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn c09_no_object_gets_the_webhook_to_panic(
        chosen in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), hostile()), 1..4),
        create in any::<bool>(),
    ) {
        use std::sync::LazyLock;
        static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| corpus().into_iter().map(|(_, case)| case.object).collect());
        let old = chosen.get(&OBJECTS).clone();
        let mut object = old.clone();
        for (place, value) in edits {
            let mut places = BTreeSet::new();
            pointers(&object["spec"], "/spec", &mut places);
            pointers(&object["metadata"], "/metadata", &mut places);
            let places: Vec<String> = places.into_iter().collect();
            if let Some(target) = object.pointer_mut(place.get(&places).as_str()) {
                *target = value;
            }
        }
        let answer = ask(if create { "CREATE" } else { "UPDATE" }, &object, (!create).then_some(&old));
        prop_assert_eq!(answer.is_allowed(), answer.status().is_none());
    }
}
