//! Triton, by its repository: which models are ready. /v2/health/ready speaks for all models at once, and says no for one
//! that failed to load or is being unloaded while the others serve.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use api::id::ModelName;
use serde::Deserialize;

use super::question::{AskError, json};
use super::scrape::post;
use crate::world::{Facts, Unready};

const INDEX: &str = "/v2/repository/index";

#[derive(Debug, Deserialize)]
struct Version {
    name: String,
    state: Option<String>,
}

/// Of the models that servers name, those that it says are not ready.
pub(super) async fn facts(address: SocketAddr, named: &BTreeSet<ModelName>) -> Result<Facts, AskError> {
    let index = json(INDEX, &post(address, INDEX, r#"{"ready":true}"#).await?.ok()?)?;
    Ok(Facts { unready: unready(index, named), ..Facts::default() })
}

/// A model is ready if one of its versions is.
fn unready(index: Vec<Version>, named: &BTreeSet<ModelName>) -> Unready {
    let ready = index.into_iter().filter(|version| version.state.as_deref() == Some("READY"));
    super::question::unready(&ready.map(|version| version.name.into()).collect(), named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(index: &str, named: &[&str], expected: &Unready) {
        let named = named.iter().map(|name| ModelName::from(*name)).collect();
        assert_eq!(unready(json(INDEX, index).unwrap(), &named), *expected, "{index}");
    }

    #[test]
    fn a_model_is_ready_if_a_version_of_it_is() {
        let index = |name: &str| {
            let path = format!("{}/tests/recorded/triton-2.51.0-{name}.json", env!("CARGO_MANIFEST_DIR"));
            let recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            recorded["body"].as_str().unwrap().to_owned()
        };
        let not = |name: &str| Unready::Models([ModelName::from(name)].into());
        check(&index("index-ready"), &["echo", "gen"], &Unready::Nothing);
        check(&index("index-ready"), &[], &Unready::Nothing);
        check(&index("index-ready"), &["echo", "broken"], &not("broken"));
        check(&index("index-all"), &["echo", "broken"], &not("broken"));
        check(&index("index-unloading"), &["echo", "gen", "slowq"], &not("echo"));
        let versions = r#"[{"name": "m", "version": "1", "state": "UNAVAILABLE"}, {"name": "m", "version": "2", "state": "READY"}]"#;
        check(versions, &["m"], &Unready::Nothing);
        check(r#"[{"name": "m"}]"#, &["m"], &Unready::All);
        check("[]", &[], &Unready::All);
    }
}
