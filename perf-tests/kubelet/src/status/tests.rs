use super::*;

fn running(ready: bool) -> View {
    View { state: State::Running { since: Timestamp::UNIX_EPOCH }, started: true, ready, ..View::new() }
}

fn ended(code: i32) -> View {
    let at = Timestamp::UNIX_EPOCH;
    let ended = Ended { code, reason: "Error", message: None, began: at, at };
    View { state: State::Ended(ended), ..View::new() }
}

fn back_off() -> View {
    let State::Ended(last) = ended(1).state else { unreachable!("one that ended") };
    View { last: Some(last), restarts: 1, ..View::new() }
}

fn pod(spec: &str) -> Pod {
    serde_norway::from_str(&format!("{{metadata: {{name: p, uid: u}}, spec: {spec}}}")).unwrap()
}

fn written(pod: &Pod, views: &Views, conditions: &mut Conditions, second: i64) -> Value {
    let facts = Facts {
        pod: Addresses { four: [127, 1, 2, 3].into(), six: None },
        host: Addresses { four: [127, 1, 0, 1].into(), six: None },
        node: "n".to_owned(),
    };
    patch(pod, &facts, views, conditions, Timestamp::from_second(second).unwrap())["status"].clone()
}

fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == name).unwrap()
}

#[test]
fn the_phase_says_what_its_containers_do() {
    let check = |inits: &[View], mains: &[View], over, expected| {
        let views = Views { inits: inits.to_vec(), mains: mains.to_vec(), over };
        assert_eq!(views.phase(), expected, "{views:?}");
    };
    check(&[], &[View::new(), running(true)], false, "Pending");
    check(&[running(false)], &[View::new()], false, "Pending");
    check(&[ended(0)], &[running(false)], false, "Running");
    check(&[], &[back_off()], false, "Running");
    check(&[], &[ended(0), running(true)], false, "Running");
    check(&[ended(0)], &[ended(0)], true, "Succeeded");
    check(&[ended(0)], &[ended(0), ended(137)], true, "Failed");
    check(&[ended(1)], &[View::new()], true, "Failed");
    let sidecar = |view| View { sidecar: true, ..view };
    check(&[sidecar(running(true))], &[View::new()], false, "Pending");
    check(&[sidecar(ended(137))], &[ended(0)], true, "Succeeded");
}

#[test]
fn a_sidecar_that_runs_holds_nothing_back_and_counts_for_readiness() {
    let (pod, mut conditions) =
        (pod("{initContainers: [{name: s, restartPolicy: Always}], containers: [{name: a}]}"), Conditions::default());
    let views = |ready| Views {
        inits: vec![View { sidecar: true, ..running(ready) }],
        mains: vec![running(true)],
        over: false,
    };
    let status = written(&pod, &views(false), &mut conditions, 1);
    assert_eq!(condition(&status, "Initialized")["status"], "True");
    assert_eq!(condition(&status, "Ready")["status"], "False");
    assert_eq!(condition(&written(&pod, &views(true), &mut conditions, 2), "Ready")["status"], "True");
}

#[test]
fn a_pod_is_ready_when_all_its_containers_are_and_its_gates_are_open() {
    let (plain, mut conditions) = (pod("{containers: [{name: a}, {name: b}]}"), Conditions::default());
    let half = Views { inits: vec![], mains: vec![running(true), running(false)], over: false };
    let whole = Views { mains: vec![running(true), running(true)], ..half.clone() };
    assert_eq!(condition(&written(&plain, &half, &mut conditions, 1), "Ready")["status"], "False");
    assert_eq!(condition(&written(&plain, &whole, &mut conditions, 2), "Ready")["status"], "True");

    let mut gated = pod("{containers: [{name: a}, {name: b}], readinessGates: [{conditionType: open}]}");
    let mut conditions = Conditions::default();
    let closed = written(&gated, &whole, &mut conditions, 1);
    assert_eq!(condition(&closed, "ContainersReady")["status"], "True");
    assert_eq!(condition(&closed, "Ready")["status"], "False");
    gated.status = serde_norway::from_str("{conditions: [{type: open, status: 'True'}]}").unwrap();
    assert_eq!(condition(&written(&gated, &whole, &mut conditions, 2), "Ready")["status"], "True");
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let (pod, mut conditions) = (pod("{containers: [{name: a}]}"), Conditions::default());
    let views = |ready| Views { inits: vec![], mains: vec![running(ready)], over: false };
    let time = |status: &Value| condition(status, "Ready")["lastTransitionTime"].as_str().unwrap().to_owned();
    assert_eq!(time(&written(&pod, &views(false), &mut conditions, 1)), "1970-01-01T00:00:01Z");
    assert_eq!(time(&written(&pod, &views(false), &mut conditions, 2)), "1970-01-01T00:00:01Z");
    assert_eq!(time(&written(&pod, &views(true), &mut conditions, 3)), "1970-01-01T00:00:03Z");
}
