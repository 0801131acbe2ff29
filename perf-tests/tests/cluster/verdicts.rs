//! The API server alone comes to the verdicts of the corpus, and fills in the defaults that our own reader fills in.

use controlplane::object::{Kind, Unknown, conform};
use kube::core::Status;
use perf_tests::cluster::Cluster;
use serde_json::Value;

use crate::corpus::{By, Case, Expect, corpus};
use crate::objects::Place;

/// What the API server says of a case: as a creation, or as an update where there was an object before.
async fn judge(place: &Place, case: &Case) -> kube::Result<Value> {
    let Some(old) = &case.old else {
        return place.try_create(&case.object).await;
    };
    let stored = place.create(old).await.expect("the old object is a good one");
    let mut new = case.object.clone();
    new["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
    let verdict = place.try_replace(&new).await;
    place.delete(old).await.expect("the old object goes");
    verdict
}

#[tokio::test]
async fn the_api_server_refuses_what_the_corpus_says_that_it_refuses_and_nothing_else() {
    let cluster = Cluster::shared();
    let client = cluster.admin().await.unwrap();
    cluster.install_definitions(&client).await.unwrap();
    let namespace = cluster.namespace(&client, "verdicts").await.unwrap();
    let (mut wrong, mut judged) = (Vec::new(), 0);
    for (file, mut case) in corpus() {
        judged += 1;
        let kind = Kind::of(&case.object).expect("a kind of ours");
        for object in [Some(&mut case.object), case.old.as_mut()].into_iter().flatten() {
            move_to(object, &namespace);
        }
        let found = judge(&Place::of(&client, kind, &namespace), &case).await;
        let agrees = match &found {
            Ok(_) => case.expect.refused_by != Some(By::Schema),
            Err(kube::Error::Api(status)) if [400, 422].contains(&status.code) => {
                case.expect.refused_by == Some(By::Schema) && is_about_one_of(status, &case.expect)
            }
            Err(error) => panic!("{file}: {}: {error}", case.name),
        };
        if !agrees {
            let found = match found {
                Err(kube::Error::Api(status)) => status.message.clone(),
                _ => "accepted".to_owned(),
            };
            wrong.push(format!("{file}: {}\n  expected {:?}\n  found    {found}", case.name, case.expect));
        }
    }
    println!("{judged} objects of the corpus were judged");
    assert!(wrong.is_empty(), "{} verdicts differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a refusal is about a field that the corpus names, or about one that holds it: a rule speaks for the whole object that it
/// is written at. The corpus may name more fields, which only the webhook minds.
fn is_about_one_of(refusal: &Status, expect: &Expect) -> bool {
    let causes = refusal.details.iter().flat_map(|details| &details.causes);
    let mut fields: Vec<_> = causes.map(|cause| dotted(&cause.field)).collect();
    // A field that does not exist has no cause but is in quotes in the sentence.
    fields.extend(refusal.message.split('"').map(dotted));
    let holds = |field: &str, path: &str| {
        path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || (!field.is_empty() && rest.starts_with('.')))
    };
    expect.problems.keys().map(|path| dotted(path)).any(|path| fields.iter().any(|field| holds(field, &path)))
}

/// API servers write a key as `.key` or `[key]`, depending on who refuses.
fn dotted(path: &str) -> String {
    path.replace('[', ".").replace(']', "")
}

#[tokio::test]
async fn the_defaults_of_the_api_server_are_ours() {
    let cluster = Cluster::shared();
    let client = cluster.admin().await.unwrap();
    cluster.install_definitions(&client).await.unwrap();
    let namespace = cluster.namespace(&client, "defaults").await.unwrap();
    let mut wrong = Vec::new();
    for (file, case) in corpus().into_iter().filter(|(_, case)| case.expect.refused_by.is_none()) {
        let (kind, mut ours) = (Kind::of(&case.object).expect("a kind of ours"), case.object);
        move_to(&mut ours, &namespace);
        let theirs = Place::of(&client, kind, &namespace).try_create(&ours).await.expect("an object that is accepted");
        assert_eq!(conform(kind, &mut ours, Unknown::Refuse), [], "{file}: {}", case.name);
        if ours["spec"] != theirs["spec"] {
            wrong.push(format!("{file}: {}\n  ours   {}\n  theirs {}", case.name, ours["spec"], theirs["spec"]));
        }
    }
    assert!(wrong.is_empty(), "{} objects differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn move_to(object: &mut Value, namespace: &str) {
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.insert("namespace".to_owned(), namespace.into());
    }
}
