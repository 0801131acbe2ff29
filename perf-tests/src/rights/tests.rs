use serde_json::json;

use super::*;

const ACCOUNT: Account<'static> = Account { namespace: "here", name: "program" };

fn objects() -> Vec<Value> {
    let subjects = json!([{"kind": "ServiceAccount", "name": "program", "namespace": "here"}]);
    vec![
        json!({"kind": "Role", "metadata": {"name": "r", "namespace": "here"}, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["get", "patch"]},
            {"apiGroups": ["x.io"], "resources": ["things"], "verbs": ["create"]}]}),
        json!({"kind": "RoleBinding", "metadata": {"name": "r", "namespace": "here"}, "subjects": subjects,
               "roleRef": {"kind": "Role", "name": "r"}}),
        json!({"kind": "ClusterRole", "metadata": {"name": "c"}, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]},
            {"nonResourceURLs": ["/openid/v1/jwks"], "verbs": ["get"]}]}),
        json!({"kind": "ClusterRoleBinding", "metadata": {"name": "c"}, "subjects": subjects,
               "roleRef": {"kind": "ClusterRole", "name": "c"}}),
        // Somebody else's.
        json!({"kind": "ClusterRoleBinding", "metadata": {"name": "o"}, "subjects": [{"kind": "User", "name": "program"}],
               "roleRef": {"kind": "ClusterRole", "name": "none"}}),
    ]
}

fn event(verb: &str, reference: Value, more: Value) -> String {
    let mut event = json!({"user": {"username": "system:serviceaccount:here:program"}, "stage": "ResponseComplete",
        "verb": verb, "objectRef": reference, "responseStatus": {"code": 200}});
    more.as_object().unwrap().iter().for_each(|(key, value)| event[key] = value.clone());
    event.to_string()
}

fn secret(verb: &str, name: &str) -> String {
    event(verb, json!({"resource": "secrets", "namespace": "here", "name": name}), json!({}))
}

/// A log in which every right is used, and nothing else.
fn log() -> Vec<String> {
    vec![
        secret("get", "a"),
        secret("get", "b"),
        secret("patch", "a"),
        secret("patch", "b"),
        event("list", json!({"resource": "secrets"}), json!({})),
        event(
            "create",
            json!({"resource": "things", "apiGroup": "x.io", "namespace": "here"}),
            json!({"responseStatus": {"code": 201}}),
        ),
        event("get", Value::Null, json!({"requestURI": "/openid/v1/jwks"})),
        event("get", Value::Null, json!({"requestURI": "/apis/x.io/v1?timeout=32s"})),
    ]
}

fn findings(objects: &[Value], log: &[String]) -> Findings {
    compare(&granted(objects, ACCOUNT).unwrap(), &asked(&log.join("\n"), ACCOUNT))
}

#[test]
fn rights_that_are_each_used_have_nothing_against_them() {
    assert_eq!(findings(&objects(), &log()), Findings::default());
    assert_eq!(granted(&objects(), ACCOUNT).unwrap().len(), 7);
}

/// Also where another rule of the same role, or another role, gives it.
#[test]
fn a_right_that_is_given_twice_is_an_error_that_names_it() {
    let check = |rules: usize, rule: Value, said: &str| {
        let mut objects = objects();
        objects[rules]["rules"].as_array_mut().unwrap().push(rule);
        let given = granted(&objects, ACCOUNT).map(|rights| rights.len()).map_err(|error| error.to_string());
        assert_eq!(given, Err(said.to_owned()));
    };
    let things = json!({"apiGroups": ["x.io"], "resources": ["others", "things"], "verbs": ["create"]});
    check(0, things, "create things.x.io in here is given twice");
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["watch", "list"]});
    check(2, secrets, "list secrets is given twice");
}

#[test]
fn a_right_that_another_one_contains_is_not_missed() {
    let mut objects = objects();
    let all = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]});
    objects[2]["rules"].as_array_mut().unwrap().push(all);
    let unmissed = |objects: &[Value]| {
        let found = super::unmissed(&granted(objects, ACCOUNT).unwrap(), &asked(&log().join("\n"), ACCOUNT));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(unmissed(&objects), ["get secrets", "get secrets a in here", "get secrets b in here"]);
    assert_eq!(unmissed(&self::objects()), [""; 0]);
}

#[test]
fn whichever_right_is_taken_away_the_request_that_needs_it_is_named() {
    let (all, asked) = (granted(&objects(), ACCOUNT).unwrap(), asked(&log().join("\n"), ACCOUNT));
    for right in &all {
        let fewer = all.iter().filter(|other| *other != right).cloned().collect();
        let Findings { refused, uncovered, unneeded } = compare(&fewer, &asked);
        assert_eq!((refused.len(), uncovered.len(), unneeded.len()), (0, 1, 0), "{right}");
        assert!(right.covers(&uncovered[0]), "{right}: {}", uncovered[0]);
    }
}

#[test]
fn whichever_request_is_missing_the_right_that_it_needed_is_named() {
    for (index, line) in log().iter().enumerate().take(7) {
        let mut fewer = log();
        fewer.remove(index);
        assert_eq!(findings(&objects(), &fewer).unneeded.len(), 1, "{line}");
    }
}

#[test]
fn a_refusal_is_told_and_so_is_what_others_allowed() {
    let mut log = log();
    let forbidden =
        json!({"annotations": {"authorization.k8s.io/decision": "forbid"}, "responseStatus": {"code": 403}});
    log.push(event("delete", json!({"resource": "nodes", "name": "n"}), forbidden));
    log.push(secret("get", "c"));
    let said = findings(&objects(), &log).to_string();
    assert_eq!(said, "refused: delete nodes n\nnot of the chart: get secrets c in here\n");
}

#[test]
fn what_an_apply_made_took_the_right_to_create_as_well() {
    let applied = event(
        "patch",
        json!({"resource": "things", "apiGroup": "x.io", "namespace": "here", "name": "t"}),
        json!({"responseStatus": {"code": 201}}),
    );
    let verbs: Vec<_> = asked(&applied, ACCOUNT).into_iter().map(|asked| asked.right.verb).collect();
    assert_eq!(verbs, ["create", "patch"]);
}
