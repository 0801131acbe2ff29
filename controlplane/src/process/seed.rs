//! The seed that salts the prefix hashes: the same for all who share a fleet, and at every start.

use std::io;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Error;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use super::cluster::Member;

/// The Secret; the chart makes it, empty.
const SECRET: &str = "kthena-fleet-seed";
const KEY: &str = "seed";
const MANAGER: &str = "kthena-controlplane-seed";
const PAUSE: Duration = Duration::from_secs(1);

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
        let why = match read_or_fill(&secrets).await {
            Ok(Some(seed)) => return seed,
            Ok(None) => continue,
            Err(why) => why,
        };
        if said != why {
            tracing::warn!("no fleet seed yet: {why}");
            said = why;
        }
        sleep(PAUSE).await;
    }
}

/// None where it has just been filled, by us or by another.
async fn read_or_fill(secrets: &Api<Secret>) -> Result<Option<u64>, String> {
    let secret = match secrets.get(SECRET).await {
        Ok(secret) => secret,
        Err(Error::Api(status)) if status.code == 404 => {
            return Err(format!("Secret {SECRET} is not there: create it, empty, as the chart does"));
        }
        Err(error) => return Err(said(&error)),
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
        Err(error) => Err(said(&error)),
    }
}

/// The API server's sentence, without all else that it said.
fn said(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("Secret {SECRET}: {}", status.message),
        other => format!("Secret {SECRET}: {other}"),
    }
}
