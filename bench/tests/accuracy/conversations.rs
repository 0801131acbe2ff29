//! What was recorded, see fixtures/accuracy/record.py: requests that follow from one another, and the tokens that each
//! model's own tokenizer makes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::template::{ChatTemplate, Probed, probe};
use serde::Deserialize;

/// Kind, where it comes from, how many messages of that it begins and ends with, and the messages between.
type RequestRow = (String, Option<usize>, usize, usize, Vec<(String, String)>);
/// How many tokens of the earlier prompt it begins and ends with, those between, and how many the earlier answer ends at.
type TokensRow = (usize, usize, Vec<u32>, usize);

#[derive(Deserialize)]
struct Recorded {
    seed: u64,
    requests: Vec<RequestRow>,
    models: Vec<ModelRow>,
    #[serde(flatten)]
    tokens: BTreeMap<String, Vec<TokensRow>>,
}

#[derive(Deserialize)]
struct ModelRow {
    name: String,
    package: String,
    /// A file of the templates' folder, or the template itself.
    template: String,
    variables: BTreeMap<String, String>,
}

/// A chat request.
pub(crate) struct Request {
    /// How it came about.
    pub(crate) kind: String,
    /// Role and content.
    pub(crate) messages: Vec<(String, String)>,
}

/// What a model makes of one request.
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    /// The prompt and its answer, where a later request goes on from that.
    pub(crate) answered: Option<Vec<u32>>,
}

/// A model, and its view of all requests.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) package: String,
    /// As the control plane publishes it.
    pub(crate) template: ChatTemplate,
    pub(crate) prompts: Vec<Prompt>,
}

pub(crate) struct Conversations {
    pub(crate) seed: u64,
    pub(crate) requests: Vec<Request>,
    pub(crate) models: Vec<Model>,
    /// Where the vocabularies are.
    pub(crate) vocabularies: PathBuf,
}

impl Conversations {
    /// Of the fixtures, or of another folder that record.py has written.
    pub(crate) fn read() -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/accuracy");
        let folder = std::env::var_os("KTHENA_CONVERSATIONS").map_or(fixtures, PathBuf::from);
        let text = std::fs::read_to_string(folder.join("conversations.json")).unwrap();
        let recorded: Recorded = serde_json::from_str(&text).unwrap();
        let Recorded { seed, requests, models, mut tokens } = recorded;
        let models = models.into_iter().map(|row| {
            let rows = tokens.remove(&row.name).unwrap();
            model(row, prompts(rows, &requests))
        });
        let models = models.collect();
        Self { seed, requests: spoken(requests), models, vocabularies: folder.join("vocabularies") }
    }
}

fn spoken(rows: Vec<RequestRow>) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::with_capacity(rows.len());
    for (kind, of, front, back, put) in rows {
        let messages = follow(of.map_or(&[][..], |of| &requests[of].messages), front, back, &put);
        requests.push(Request { kind, messages });
    }
    requests
}

fn prompts(rows: Vec<TokensRow>, requests: &[RequestRow]) -> Vec<Prompt> {
    let mut prompts: Vec<Prompt> = Vec::with_capacity(rows.len());
    for ((front, back, put, answered), (_, of, ..)) in rows.into_iter().zip(requests) {
        let tokens = follow(of.map_or(&[][..], |of| &prompts[of].tokens), front, back, &put);
        if let Some(of) = of.filter(|_| answered > 0) {
            // What an engine samples last it does not compute.
            prompts[of].answered = Some(tokens[..answered - 1].to_vec());
        }
        prompts.push(Prompt { tokens, answered: None });
    }
    prompts
}

/// What shares its beginning and its end with something earlier.
fn follow<T: Clone>(before: &[T], front: usize, back: usize, put: &[T]) -> Vec<T> {
    [&before[..front], put, &before[before.len() - back..]].concat()
}

fn model(row: ModelRow, prompts: Vec<Prompt>) -> Model {
    let ModelRow { name, package, template, variables } = row;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src/template/tests/models").join(&template);
    let source = if template.ends_with(".jinja") { std::fs::read_to_string(file).unwrap() } else { template };
    let template = ChatTemplate { tokens: variables, ..ChatTemplate::new(&source) };
    let Probed { content, segments, .. } = probe(&template).unwrap();
    let template = ChatTemplate { content, segments: segments.ok(), ..template };
    Model { name, package, template, prompts }
}
