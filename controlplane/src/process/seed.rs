//! The seed that salts the prefix hashes: the same for all who share a fleet, and at every start.

use std::io;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Error;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::cluster::Member;
use crate::refusal::sentence;

/// The Secret; the chart makes it, empty.
const SECRET: &str = "kthena-fleet-seed";
const KEY: &str = "seed";
const MANAGER: &str = "kthena-controlplane-seed";
/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// After it was filled.
const GLANCE: Duration = Duration::from_millis(100);
/// For one look.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The same at every start on this machine.
pub(super) fn of_machine() -> io::Result<u64> {
    match std::fs::read("/etc/machine-id") {
        Ok(id) if id.len() >= 32 => Ok(xxhash_rust::xxh3::xxh3_64_with_seed(&id, u64::from_ne_bytes(*b"kthena\0\0"))),
        _ => {
            tracing::warn!(
                "no /etc/machine-id: what prompts are cached where is forgotten at a restart; give --fleet-seed"
            );
            random()
        }
    }
}

/// A new one.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What was given, or what the cluster's Secret says. The first replica that finds it empty fills it; of two, one loses and
/// reads again.
pub(super) async fn of_cluster(given: Option<u64>, member: &Member) -> u64 {
    if let Some(seed) = given {
        return seed;
    }
    let secrets: Api<Secret> = Api::namespaced(member.client.clone(), &member.home);
    let mut said = String::new();
    loop {
        let late = || Err(format!("the API server did not answer within {ANSWER_TIME:?}"));
        let why = match timeout(ANSWER_TIME, read_or_fill(&secrets)).await.unwrap_or_else(|_| late()) {
            Ok(Some(seed)) => return seed,
            // The next look finds it, unless somebody takes away again what is filled in: that must not become a storm.
            Ok(None) => String::new(),
            Err(why) => why,
        };
        if !why.is_empty() && said != why {
            tracing::warn!("no fleet seed yet: {why}");
        }
        let pause = if why.is_empty() { GLANCE } else { PAUSE };
        said = why;
        sleep(pause).await;
    }
}

/// None where it has just been filled, by us or by another.
async fn read_or_fill(secrets: &Api<Secret>) -> Result<Option<u64>, String> {
    let secret = match secrets.get(SECRET).await {
        Ok(secret) => secret,
        Err(Error::Api(status)) if status.code == 404 => {
            return Err(format!("Secret {SECRET} is not there: create it, empty, as the chart does"));
        }
        Err(error) => return Err(format!("Secret {SECRET}: {}", sentence(&error))),
    };
    if let Some(held) = secret.data.as_ref().and_then(|data| data.get(KEY)) {
        let text = String::from_utf8_lossy(&held.0);
        let number = u64::from_str_radix(text.trim(), 16);
        return number.map(Some).map_err(|_| format!("Secret {SECRET}: {KEY} is not a hexadecimal number of 64 bits"));
    }
    let seed = random().map_err(|error| format!("no random numbers: {error}"))?;
    let filled = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "resourceVersion": secret.metadata.resource_version},
        "stringData": {KEY: format!("{seed:016x}")},
    });
    match secrets.patch(SECRET, &PatchParams::apply(MANAGER).force(), &Patch::Apply(filled)).await {
        Ok(_) => Ok(None),
        Err(Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(format!("Secret {SECRET}: {}", sentence(&error))),
    }
}
