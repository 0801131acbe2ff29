//! vLLM and SGLang, by their OpenAI servers: `/v1/models` lists the base models and the LoRA adapters, which have a parent.

use std::net::SocketAddr;

use api::id::ModelName;
use api::limits::{MAX_LOADED_ADAPTERS, MAX_MODEL_NAME_BYTES};
use api::snapshot::Engine;
use hyper::StatusCode;
use serde::Deserialize;

use super::question::{AskError, json};
use super::scrape::get;
use crate::world::{Facts, Unready};

#[derive(Debug, Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
    parent: Option<String>,
}

/// vLLM's /health answers 503 once its engine has died, while the server in front still lists its models. What SGLang's
/// says is not known well enough to go by.
pub(super) async fn facts(engine: Engine, address: SocketAddr) -> Result<Facts, AskError> {
    if engine == Engine::Vllm && get(address, "/health").await?.status == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(Facts { unready: Unready::All, ..Facts::default() });
    }
    let list = json("/v1/models", &get(address, "/v1/models").await?.ok()?)?;
    Ok(Facts { adapters: adapters(list), ..Facts::default() })
}

/// Sorted; none where they are more than an endpoint can have, for part of them would mean that the rest is not loaded.
fn adapters(List { data }: List) -> Option<Vec<ModelName>> {
    let fits = |name: &str| !name.is_empty() && name.len() <= MAX_MODEL_NAME_BYTES;
    let adapters = data.into_iter().filter(|model| model.parent.is_some() && fits(&model.id));
    let mut names: Vec<ModelName> = adapters.map(|model| model.id.into()).collect();
    names.sort_unstable();
    names.dedup();
    (names.len() <= MAX_LOADED_ADAPTERS).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Vec<String>>, String> {
        let list = json("/v1/models", text).map_err(|error| error.to_string())?;
        Ok(adapters(list).map(|names| names.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn adapters_are_the_models_that_have_a_parent() {
        let recorded: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/recorded/vllm-0.32.0-models.json")).unwrap();
        let recorded = read(recorded["body"].as_str().unwrap());
        assert_eq!(recorded, Ok(Some(vec!["sql-lora".to_owned()])));
        let text = r#"{"data": [{"id": "b", "parent": "m"}, {"id": "a", "parent": "m"}, {"id": "b", "parent": "m"},
                       {"id": "", "parent": "m"}, {"id": "m"}]}"#;
        assert_eq!(read(text), Ok(Some(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(read(r#"{"data": []}"#), Ok(Some(vec![])));
    }

    #[test]
    fn more_adapters_than_an_endpoint_has_are_not_known() {
        let list = |count: usize| {
            let models: Vec<_> = (0..count).map(|i| format!(r#"{{"id": "a{i}", "parent": "m"}}"#)).collect();
            format!(r#"{{"data": [{}]}}"#, models.join(","))
        };
        assert_eq!(read(&list(MAX_LOADED_ADAPTERS)).unwrap().unwrap().len(), MAX_LOADED_ADAPTERS);
        assert_eq!(read(&list(MAX_LOADED_ADAPTERS + 1)), Ok(None));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for text in ["", "[]", "{}", r#"{"data": [1]}"#] {
            assert!(read(text).unwrap_err().starts_with("its answer to /v1/models"), "{text}");
        }
    }
}
