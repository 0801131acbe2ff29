//! vLLM's `kv-transfer-config`: how prefill hands its result to decode, as the engine's flag has it.

use serde_json::Value;

use crate::crd::{BoosterWorker, KvConnectorType, WorkerType};
use crate::problem::{At, Problems};

/// What a worker's `kv-transfer-config` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The protocol that the proxy has to speak.
    pub connector: KvConnectorType,
}

/// The flag's name; `_` and `-` are the same in flags.
const FLAG: &str = "kv-transfer-config";

/// What the worker says; none where it says nothing, or says something that cannot be used, which is a problem.
pub fn transfer(problems: &mut Problems, at: &At<'_>, worker: &BoosterWorker) -> Option<Transfer> {
    let config_at = at.field("config");
    let at = config_at.key(FLAG);
    let (_, flag) = (worker.config.as_ref()?.as_object()?.iter()).find(|(name, _)| name.replace('_', "-") == FLAG)?;
    let parsed = flag.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()).filter(Value::is_object);
    let Some(parsed) = parsed else {
        problems.add(&at, "must be a string with a JSON object in it, as vLLM's flag takes it");
        return None;
    };
    role_fits(problems, &at, worker.kind, parsed["kv_role"].as_str());
    let connector = match parsed["kv_connector"].as_str() {
        Some("LMCacheConnectorV1") => KvConnectorType::Lmcache,
        Some("MooncakeConnector" | "MooncakeConnectorV1") => KvConnectorType::Mooncake,
        Some("NixlConnector") => KvConnectorType::Nixl,
        other => {
            let sentence = format!(
                "kv_connector {:?} is not known: use LMCacheConnectorV1, MooncakeConnector, MooncakeConnectorV1 or NixlConnector",
                other.unwrap_or_default()
            );
            problems.add(&at, sentence);
            return None;
        }
    };
    Some(Transfer { connector })
}

fn role_fits(problems: &mut Problems, at: &At<'_>, kind: WorkerType, role: Option<&str>) {
    let allowed: [&str; 2] = match kind {
        WorkerType::Decode => ["kv_consumer", "kv_both"],
        _ => ["kv_producer", "kv_both"],
    };
    let fits = role.is_some_and(|role| allowed.contains(&role));
    problems.require(
        fits,
        at,
        format!("kv_role {:?} does not fit: use {}", role.unwrap_or_default(), allowed.join(" or ")),
    );
}
