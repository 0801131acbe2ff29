//! Our own reader comes to the verdicts of the corpus.

use std::process::Command;

use controlplane::object::{Kind, Object, Unknown, admit};
use controlplane::problem::Problem;
use serde_json::Value;

use crate::corpus::{By, Case, corpus};

fn verdict(case: &Case) -> Vec<Problem> {
    let kind = Kind::of(&case.object).expect("a kind of ours");
    match (admit(kind, case.object.clone(), Unknown::Refuse), &case.old) {
        (Err(problems), _) => problems,
        (Ok(_), None) => Vec::new(),
        (Ok(new), Some(old)) => {
            let old = admit(kind, old.clone(), Unknown::Refuse).expect("the old object is a good one");
            new.replaces(&old)
        }
    }
}

#[test]
fn the_verdicts_are_those_of_the_corpus() {
    let mut wrong = Vec::new();
    for (file, case) in corpus() {
        let found = verdict(&case);
        let paths_agree = found.iter().map(|p| &p.path).collect::<std::collections::BTreeSet<_>>()
            == case.expect.problems.keys().collect();
        let sentences_agree =
            found.iter().all(|p| case.expect.problems.get(&p.path).is_some_and(|part| p.sentence.contains(part)));
        if !paths_agree || !sentences_agree || case.expect.refused_by.is_some() == found.is_empty() {
            let found: Vec<_> = found.iter().map(Problem::to_string).collect();
            wrong.push(format!("{file}: {}\n  expected {:?}\n  found    {found:?}", case.name, case.expect));
        }
    }
    assert!(wrong.is_empty(), "{} verdicts differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// As a user runs it, over a directory with all of them, each in a file and a namespace of its own.
#[test]
fn check_of_a_directory_comes_to_the_verdicts_of_the_corpus() {
    let cases: Vec<_> = corpus().into_iter().filter(|(_, case)| case.old.is_none()).collect();
    let folder = tempfile::tempdir().unwrap();
    for (n, (_, case)) in cases.iter().enumerate() {
        let mut object = case.object.clone();
        object["metadata"]["namespace"] = Value::from("demo");
        // JSON is YAML. Also what refers to an object's own namespace refers to its new one.
        let object = object.to_string().replace(r#""demo""#, &format!(r#""case-{n}""#));
        std::fs::write(folder.path().join(format!("{n}.yaml")), object).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_kthena-controlplane");
    let output = Command::new(program).arg("check").arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let mut wrong = Vec::new();
    for (n, (file, case)) in cases.iter().enumerate() {
        let begin = format!("error: {n}.yaml: ");
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with(&begin)).collect();
        let says = |(path, part): (&String, &String)| {
            let part = part.replace("must be demo", &format!("must be case-{n}"));
            errors.iter().any(|error| error.contains(path) && error.contains(&part))
        };
        if errors.is_empty() == case.expect.refused_by.is_some() || !case.expect.problems.iter().all(says) {
            wrong.push(format!("{file}: {}\n  expected {:?}\n  said     {errors:?}", case.name, case.expect));
        }
    }
    assert!(wrong.is_empty(), "{} verdicts differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_large_and_covers_every_kind_both_ways() {
    let cases = corpus();
    assert!(cases.len() >= 150, "{} objects", cases.len());
    for kind in Kind::ALL {
        let of_kind = || cases.iter().filter(|(_, case)| Kind::of(&case.object) == Some(kind));
        assert!(of_kind().any(|(_, case)| case.expect.refused_by.is_none()), "no {kind} is accepted");
        assert!(
            of_kind().any(|(_, case)| case.expect.refused_by == Some(By::Schema)),
            "no {kind} is refused by its schema"
        );
        assert!(
            of_kind().any(|(_, case)| case.expect.refused_by == Some(By::Webhook)),
            "no {kind} is refused by us only"
        );
    }
}

#[test]
fn what_is_admitted_stays_admitted_when_it_comes_back_from_an_api_server() {
    for (file, case) in corpus().into_iter().filter(|(_, case)| case.expect.refused_by.is_none()) {
        let kind = Kind::of(&case.object).unwrap();
        let first = admit(kind, case.object.clone(), Unknown::Refuse).unwrap();
        let mut stored = to_json(&first);
        let again = admit(kind, stored.clone(), Unknown::Refuse);
        assert_eq!(again.as_ref(), Ok(&first), "{file}: {}: defaults are not stable", case.name);
        // A newer server's field is no reason to refuse, and nothing of it is kept.
        stored["spec"]["fromTheFuture"] = Value::Bool(true);
        stored["status"] = Value::from("of a form that this release cannot read");
        assert_eq!(admit(kind, stored, Unknown::Drop), Ok(first), "{file}: {}", case.name);
    }
}

fn to_json(object: &Object) -> Value {
    match object {
        Object::ModelRoute(object) => serde_json::to_value(object),
        Object::ModelServer(object) => serde_json::to_value(object),
        Object::ExternalModelProvider(object) => serde_json::to_value(object),
        Object::ModelServing(object) => serde_json::to_value(object),
        Object::ModelBooster(object) => serde_json::to_value(object),
        Object::AutoscalingPolicy(object) => serde_json::to_value(object),
        Object::AutoscalingPolicyBinding(object) => serde_json::to_value(object),
    }
    .unwrap()
}
