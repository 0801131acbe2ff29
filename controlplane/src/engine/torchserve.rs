//! TorchServe, by its management API: the only place that tells which workers live and what waits. /ping says Healthy while
//! models load and while they fail to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use api::id::ModelName;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::StatusCode;
use serde::Deserialize;

use super::question::{Answer, AskError, json, unready};
use super::reading::Reading;
use super::scrape::{Reply, get};
use crate::world::Facts;

/// Models of one server that are asked for. Each is a request of its own.
const MOST_MODELS: usize = 32;
/// Of these at once, or many models, or a slow server, would take longer than there is time.
const AT_ONCE: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    models: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    model_name: String,
}

/// One version of a model.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    workers: Vec<Worker>,
    job_queue_status: Option<Queue>,
}

#[derive(Debug, Deserialize)]
struct Worker {
    status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    pending_requests: u32,
}

/// What waits for all models, and which of those that servers name have no live worker.
pub(super) async fn ask(address: SocketAddr, named: &BTreeSet<ModelName>) -> Result<Answer, AskError> {
    let path = format!("/models?limit={MOST_MODELS}");
    let reply = get(address, &path).await?;
    if wants_token(&reply) {
        return Err(AskError::Token(reply.status));
    }
    let List { models } = json(&path, &reply.ok()?)?;
    let listed = models.into_iter().map(|entry| ModelName::from(entry.model_name));
    // Those that matter first; the list may go on.
    let mut names: Vec<ModelName> = named.iter().cloned().chain(listed.filter(|name| !named.contains(name))).collect();
    names.truncate(MOST_MODELS);
    let describing = names.into_iter().map(|name| async move {
        let versions = describe(address, &name).await?;
        Ok::<_, AskError>((name, versions))
    });
    let described: Vec<_> = stream::iter(describing).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(answer(&described.into_iter().collect(), named))
}

/// By default it does, and says so by a 400.
fn wants_token(Reply { status, text }: &Reply) -> bool {
    match *status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        StatusCode::BAD_REQUEST => text.contains("InvalidKeyException"),
        _ => false,
    }
}

/// Its versions; none of one that is not there.
async fn describe(address: SocketAddr, name: &ModelName) -> Result<Vec<Description>, AskError> {
    let path = format!("/models/{}", in_path(name.as_str()));
    let reply = get(address, &path).await?;
    if reply.status == StatusCode::NOT_FOUND { Ok(Vec::new()) } else { json(&path, &reply.ok()?) }
}

fn answer(described: &BTreeMap<ModelName, Vec<Description>>, named: &BTreeSet<ModelName>) -> Answer {
    let queues = described.values().flatten().filter_map(|version| version.job_queue_status.as_ref());
    let waiting: f64 = queues.map(|queue| f64::from(queue.pending_requests)).sum();
    let lives = |version: &Description| version.workers.iter().any(|worker| worker.status == "READY");
    let ready = described.iter().filter(|(_, versions)| versions.iter().any(lives)).map(|(name, _)| name.clone());
    // What was not asked is not said to be unready.
    let asked = named.iter().filter(|name| described.contains_key(*name)).cloned().collect();
    let unready = unready(&ready.collect(), &asked);
    Answer { load: Some(Reading::of_queue(waiting)), facts: Some(Facts { unready, ..Facts::default() }), fault: None }
}

/// Percent-encoded as one segment of a path.
fn in_path(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Unready;

    fn recorded(name: &str) -> Vec<Description> {
        let path = format!("{}/tests/recorded/torchserve-0.12.0-{name}.json", env!("CARGO_MANIFEST_DIR"));
        let recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        json("/models/small", recorded["body"].as_str().unwrap()).unwrap()
    }

    fn check<const N: usize>(models: [(&str, Vec<Description>); N], named: &[&str], expected: (f64, Unready)) {
        let described = models.into_iter().map(|(name, versions)| (ModelName::from(name), versions)).collect();
        let named = named.iter().map(|name| ModelName::from(*name)).collect();
        let Answer { load, facts, fault: _ } = answer(&described, &named);
        assert_eq!(
            (load.unwrap(), facts.unwrap().unready),
            (Reading::of_queue(expected.0), expected.1),
            "{described:?}"
        );
    }

    #[test]
    fn the_queue_is_that_of_all_models_and_a_model_without_a_live_worker_is_not_ready() {
        let not = |name: &str| Unready::Models([ModelName::from(name)].into());
        let (queue, none) = (recorded("describe-queue"), recorded("describe-no-worker"));
        check([("small", queue)], &["small"], (2.0, Unready::Nothing));
        check([("a", recorded("describe-queue")), ("b", recorded("describe-queue"))], &["a"], (4.0, Unready::Nothing));
        check([("a", recorded("describe-queue")), ("b", none)], &["a", "b"], (2.0, not("b")));
        check([("a", recorded("describe-queue")), ("gone", vec![])], &["gone"], (2.0, not("gone")));
        check([("a", recorded("describe-no-worker"))], &[], (0.0, Unready::All));
        let mut dead = recorded("describe-queue");
        dead[0].workers[0].status = "UNLOADING".to_owned();
        check([("a", dead)], &["a"], (2.0, Unready::All));
        check([("a", recorded("describe-queue"))], &["a", "not-asked"], (2.0, Unready::Nothing));
    }

    #[test]
    fn a_name_is_one_segment_of_the_path() {
        assert_eq!(in_path("gen-1.0"), "gen-1.0");
        assert_eq!(in_path("a/b ü?"), "a%2Fb%20%C3%BC%3F");
    }
}
