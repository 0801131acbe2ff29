//! What a person is told by a real API server of each object of the corpus is what we say of it: the sentences of CEL's rules and of the
//! webhook, and the warnings. So what files, webhook and API server say of the fields of earlier releases (appendix D of the
//! reference) is one text.

use std::collections::{BTreeMap, BTreeSet};

use controlplane::object::{Kind, Unknown, conform};
use controlplane::webhook;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Api, Patch, PatchParams};
use kube::client::Body;
use kube::core::Status;
use perf_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::c08_webhook;
use crate::corpus::{By, Case, corpus};
use crate::program::Home;

/// What somebody says of an object: sentences by field, and warnings where it is taken.
#[derive(Debug, Default, PartialEq)]
struct Said {
    causes: Vec<(String, String)>,
    warnings: Vec<String>,
}

/// What we say, whoever asks.
fn ours(case: &Case) -> Said {
    let operation = if case.old.is_some() { "UPDATE" } else { "CREATE" };
    let request = json!({"uid": "1", "operation": operation, "object": case.object, "oldObject": case.old, "kind": {}});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let answer = webhook::Request::read(review.to_string().as_bytes()).unwrap().judge();
    let causes = answer.status().map(causes).unwrap_or_default();
    Said { causes, warnings: answer.warnings().to_vec() }
}

fn causes(status: &Status) -> Vec<(String, String)> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.map(|cause| (cause.field.clone(), cause.message.clone())).collect()
}

/// Before CEL's rules a schema has its say, in the API server's own words.
fn is_of_schema(case: &Case) -> bool {
    let kind = Kind::of(&case.object).unwrap();
    !conform(kind, &mut case.object.clone(), Unknown::Refuse).is_empty()
}

async fn send(home: &Home, method: Method, path: &str, body: &Value) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, "application/json");
    home.admin.send(request.body(Body::from(body.to_string().into_bytes())).unwrap()).await.unwrap()
}

fn path(case: &Case, home: &Home) -> String {
    let kind = Kind::of(&case.object).unwrap();
    format!("/apis/{}/v1alpha1/namespaces/{}/{}", kind.group(), home.namespace, kind.plural())
}

/// What the API server says, with our webhook beside it.
async fn theirs(home: &Home, case: &Case) -> Said {
    let (path, query) = (path(case, home), "dryRun=All&fieldValidation=Strict");
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let answer = match &case.old {
        None => send(home, Method::POST, &format!("{path}?{query}"), &case.object).await,
        Some(old) => {
            let made = send(home, Method::POST, &path, old).await.into_body().collect().await.unwrap().to_bytes();
            let made: Value = serde_json::from_slice(&made).unwrap();
            let mut new = case.object.clone();
            new["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
            let one = format!("{path}/{}", name(old));
            let answer = send(home, Method::PUT, &format!("{one}?{query}"), &new).await;
            drop(send(home, Method::DELETE, &one, &json!({})).await);
            answer
        }
    };
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let refused = (!head.status.is_success()).then(|| serde_json::from_slice::<Status>(&body).unwrap());
    let warnings = head.headers.get_all("warning").iter().map(|value| value.to_str().unwrap());
    Said { causes: refused.as_ref().map(causes).unwrap_or_default(), warnings: warnings.map(unquoted).collect() }
}

/// Of `299 - "text"` the text.
fn unquoted(warning: &str) -> String {
    let quoted =
        warning.strip_prefix("299 - \"").and_then(|rest| rest.strip_suffix('"')).expect("a warning of RFC 7234");
    quoted.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// A rule of CEL that says it in other words, for it cannot name a value, or stands for several of our sentences: a part of what it
/// says, and of what we say.
const OTHER_WORDS: [(&str, &str); 18] = [
    ("baseURL must be https://host[:port][/path], without user info", "baseURL must "),
    ("the value of a header must not contain line breaks", "the value must not contain line breaks"),
    ("secretRef.optional must be false or unset", "secretRef.optional must be false or unset"),
    ("minReplicas and maxReplicas were replaced: set replicas, and", "was replaced: set replicas, and for a range"),
    ("modelName must not stand in loraAdapters too", "a name stands in modelName or once in loraAdapters"),
    ("a route with loraAdapters must target modelServerName only", "lora routes must target modelServerName"),
    ("the weights of a rule's targetModels must not all be 0", "total weight must be greater than zero"),
    ("minReplicas must not be above maxReplicas", "minReplicas must not be"),
    ("must be a duration such as 10s", "must be a duration from 0s to 30m"),
    ("ratioConstraint needs two roles", "there is no role"),
    ("this kvConnector is not for this inferenceEngine", "is vLLM's"),
    ("this kvConnector is not for this inferenceEngine", "is for vLLM and SGLang"),
    ("roles name must be unique", "roles name must be unique"),
    ("minRoleReplicas must name roles of this template", "there is no role"),
    ("each with no more replicas than the role has", "is out of range: role"),
    ("partition of a role is for rolloutStrategy.type", "is for rolloutStrategy.type RoleRollingUpdate"),
    ("a plugin runs once", "a plugin runs once"),
    ("minRoleReplicas is required once set", "minRoleReplicas is immutable"),
];

/// Whether a rule of CEL says what we say of a field. It stands at the object that holds the field, and is told as a value that is
/// invalid.
fn says_the_same(told: &str, (field, sentence): &(String, String), used: &mut BTreeSet<usize>) -> bool {
    let Some(told) = told.strip_prefix("Invalid value: ") else { return false };
    let leaf = field.rsplit('.').next().unwrap_or_default();
    // We write of a text `"1d" must be …`, the API server `"1d": must be …`.
    let plain = |text: &str| text.replace("\": ", "\" ");
    let of_field = format!("{leaf} {sentence}");
    let same = [sentence, &of_field].iter().any(|ours| told == **ours || told.ends_with(&format!(": {ours}")));
    let other = OTHER_WORDS.iter().position(|(theirs, ours)| told.contains(theirs) && sentence.contains(ours));
    if same || plain(told) == plain(sentence) {
        return true;
    }
    used.extend(other);
    other.is_some()
}

/// What differs, in words; none where nothing does.
fn difference(case: &Case, ours: &Said, theirs: &Said, used: &mut BTreeSet<usize>) -> Option<String> {
    let same = match case.expect.refused_by {
        Some(By::Schema) => {
            theirs.causes.iter().all(|(_, told)| ours.causes.iter().any(|ours| says_the_same(told, ours, used)))
        }
        Some(By::Webhook) | None => ours == theirs,
    };
    (!same).then(|| format!("{}\n  ours   {ours:?}\n  theirs {theirs:?}", case.name))
}

/// For every kind that we judge, in this namespace.
async fn of_all_kinds(home: &Home) {
    c08_webhook::install(home).await;
    let mut configuration = c08_webhook::configuration(home);
    let rule = configuration["webhooks"][0]["rules"][0].clone();
    let rule = |kind: Kind| {
        let mut rule = rule.clone();
        (rule["apiGroups"], rule["resources"]) = (json!([kind.group()]), json!([kind.plural()]));
        rule
    };
    configuration["webhooks"][0]["rules"] = Kind::ALL.map(rule).to_vec().into();
    let configurations = Api::<ValidatingWebhookConfiguration>::all(home.admin.clone());
    let parameters = PatchParams::apply("tests").force();
    configurations.patch(&home.namespace, &parameters, &Patch::Apply(configuration)).await.unwrap();
}

/// Of appendix D: what is said of which object of the corpus.
const FORMER: [(&str, &str); 9] = [
    ("no target", "set exactly one of homogeneousTarget and heterogeneousTarget"),
    ("both targets", "set exactly one of homogeneousTarget and heterogeneousTarget"),
    ("a role of one of several", "subTargets is of homogeneousTarget only: remove it here"),
    ("an endpoint and sources", "set metricEndpoint or metricSources, not both"),
    ("backends of release 0.1", "backends was replaced by backend: write its one entry as spec.backend"),
    ("minReplicas and maxReplicas of release 0.1", "were replaced: set replicas, and for a range an AutoscalingPolicy"),
    ("routeWeight of release 0.1", "was replaced: set weight on the targetModels of a ModelRoute"),
    ("autoscalingPolicy of release 0.1", "was replaced: create an AutoscalingPolicy whose homogeneousTarget names"),
    ("metricName of release 0.4, a number as target", ""),
];

#[tokio::test]
async fn what_the_api_server_says_of_the_corpus_is_what_we_say_of_it() {
    let home = Home::new(Cluster::shared(), "sentences").await;
    of_all_kinds(&home).await;
    let flags = c08_webhook::flags(&home);
    let _control = home.control(&flags.each_ref().map(String::as_str));
    home.until_ready().await;
    let (mut compared, mut wrong, mut used, mut former) = (0, Vec::new(), BTreeSet::new(), BTreeMap::new());
    for (file, mut case) in corpus() {
        for object in [Some(&mut case.object), case.old.as_mut()].into_iter().flatten() {
            object["metadata"]["namespace"] = home.namespace.as_str().into();
        }
        if case.expect.refused_by == Some(By::Schema) && is_of_schema(&case) {
            continue;
        }
        let (ours, theirs) = (ours(&case), theirs(&home, &case).await);
        compared += 1;
        wrong.extend(difference(&case, &ours, &theirs, &mut used).map(|told| format!("{file}: {told}")));
        former.insert(case.name, theirs);
    }
    println!("{compared} objects compared");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(used.len(), OTHER_WORDS.len(), "other words that nobody says any more: {used:?}");
    for (name, sentence) in FORMER {
        let told = &former[name].causes;
        assert_eq!(told.is_empty(), sentence.is_empty(), "{name}: {told:?}");
        assert!(told.iter().all(|(_, message)| message.contains(sentence)), "{name}: {told:?}");
    }
}
