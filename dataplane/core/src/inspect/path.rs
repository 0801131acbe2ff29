//! What a path says: which API it is, and for some engines which model.

use std::borrow::Cow;

use api::limits::MAX_MODEL_NAME_BYTES;

/// An inference API. It decides how usage is injected, how answers are watched and how errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ApiKind {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI completions.
    Completions,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// Embeddings and pooling.
    Embeddings,
    /// Rerank.
    Rerank,
    /// Score.
    Score,
    /// Classify.
    Classify,
    /// Tokenize and detokenize.
    Tokenize,
    /// Audio transcriptions and translations: forms.
    Audio,
    /// Triton's /infer, also TorchServe's form of it.
    Infer,
    /// Triton's /generate.
    Generate,
    /// Triton's /generate_stream.
    GenerateStream,
    /// TorchServe's /predictions and /explanations.
    Predictions,
    /// KServe v1 `:predict` and `:explain`.
    Predict,
    /// Anything else that is routed by the body's model.
    #[default]
    Other,
}

impl ApiKind {
    /// Whether `stream_options.include_usage` is a field of this API.
    pub fn takes_stream_options(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }
}

/// A model that the path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathModel<'a> {
    /// The name, percent-decoded.
    pub model: Cow<'a, str>,
    /// The bytes of the path that hold it.
    pub at: std::ops::Range<usize>,
    /// The API.
    pub api: ApiKind,
}

/// The API of a path; a query is ignored.
pub fn api_kind(path: &str) -> ApiKind {
    if let Some((_, api)) = model_segment(path) {
        return api;
    }
    let path = without_query(path);
    let versioned = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/v2/"));
    match versioned.or_else(|| path.strip_prefix('/')).unwrap_or(path) {
        "chat/completions" => ApiKind::Chat,
        "completions" => ApiKind::Completions,
        "responses" => ApiKind::Responses,
        "messages" => ApiKind::Messages,
        "embeddings" | "pooling" => ApiKind::Embeddings,
        "rerank" => ApiKind::Rerank,
        "score" => ApiKind::Score,
        "classify" => ApiKind::Classify,
        "tokenize" | "detokenize" => ApiKind::Tokenize,
        "audio/transcriptions" | "audio/translations" => ApiKind::Audio,
        _ => ApiKind::Other,
    }
}

/// The model in the path of Triton, TorchServe and KServe v1 calls. None where the path is none of these, or names a
/// model in a way that two programs could read differently: a slash, a control or a bad sequence behind percent signs.
pub fn model_in_path(path: &str) -> Option<PathModel<'_>> {
    let (at, api) = model_segment(path)?;
    let model = percent_decoded(&path[at.clone()])?;
    Some(PathModel { model, at, api })
}

fn without_query(path: &str) -> &str {
    &path[..memchr::memchr2(b'?', b'#', path.as_bytes()).unwrap_or(path.len())]
}

/// Where the model stands in the path; a query is ignored.
fn model_segment(path: &str) -> Option<(std::ops::Range<usize>, ApiKind)> {
    // Nearly all requests name their model in the body, and are asked this more than once.
    const STARTS: [&str; 4] = ["/v2/models/", "/v1/models/", "/predictions/", "/explanations/"];
    if !STARTS.iter().any(|start| path.starts_with(start)) {
        return None;
    }
    let path = without_query(path);
    let mut parts = path.strip_prefix('/')?.split('/');
    let (first, second) = (parts.next()?, parts.next()?);
    if matches!(first, "predictions" | "explanations") {
        // A version may follow, and then a path of the handler's own, as its OpenAI API is offered. None of it chooses the model.
        let plain = parts.all(|part| !is_dots(part));
        return plain.then(|| (span_of(path, second), ApiKind::Predictions));
    }
    let model = if second == "models" { parts.next()? } else { return None };
    match first {
        "v1" if parts.next().is_none() => {
            let (model, verb) = model.rsplit_once(':')?;
            matches!(verb, "predict" | "explain").then(|| (span_of(path, model), ApiKind::Predict))
        }
        "v2" => {
            let mut verb = parts.next()?;
            if verb == "versions" {
                parts.next().filter(|version| !version.is_empty())?;
                verb = parts.next()?;
            }
            let api = match verb {
                "infer" => ApiKind::Infer,
                "generate" => ApiKind::Generate,
                "generate_stream" => ApiKind::GenerateStream,
                _ => return None,
            };
            parts.next().is_none().then(|| (span_of(path, model), api))
        }
        _ => None,
    }
}

/// Whether some programs read the segment as a step up or none.
fn is_dots(segment: &str) -> bool {
    let (mut rest, mut dots) = (segment, 0);
    while let Some(after) = [".", "%2e", "%2E"].into_iter().find_map(|dot| rest.strip_prefix(dot)) {
        (rest, dots) = (after, dots + 1);
    }
    rest.is_empty() && matches!(dots, 1 | 2)
}

/// The range of `part`, which is a slice of `path`.
fn span_of(path: &str, part: &str) -> std::ops::Range<usize> {
    let start = part.as_ptr() as usize - path.as_ptr() as usize;
    start..start + part.len()
}

fn percent_decoded(segment: &str) -> Option<Cow<'_, str>> {
    if segment.is_empty() || segment.len() > 3 * MAX_MODEL_NAME_BYTES {
        return None;
    }
    let name = if segment.contains('%') { Cow::Owned(decode_percents(segment.as_bytes())?) } else { segment.into() };
    let dots = matches!(&*name, "." | "..");
    let odd = name.chars().any(|c| c.is_control() || c == '/' || c == '\\');
    (!dots && !odd && name.len() <= MAX_MODEL_NAME_BYTES).then_some(name)
}

fn decode_percents(segment: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut at = 0;
    while let Some(byte) = segment.get(at) {
        if *byte != b'%' {
            bytes.push(*byte);
            at += 1;
            continue;
        }
        let digit = |offset: usize| (*segment.get(at + offset)? as char).to_digit(16);
        bytes.push((digit(1)? << 4 | digit(2)?) as u8);
        at += 3;
    }
    String::from_utf8(bytes).ok()
}
