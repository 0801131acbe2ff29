//! What is taken to be cached is what is cached: real tokenizers and chat templates, conversations that go on, are cut and
//! edited, and an engine that evicts. The prediction is made as the product makes it, from the request's bytes alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "accuracy/conversations.rs"]
mod conversations;
#[path = "accuracy/engine.rs"]
mod engine;
#[path = "accuracy/knowledge.rs"]
mod knowledge;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::limits::BLOCK_BYTES;
use api::prefix::{Salt, chain, seed};
use api::template::Renderer;
use controlplane::kv::text::Reading;
use controlplane::kv::vocabulary::{Vocabularies, Vocabulary};
use conversations::{Conversations, Model, Prompt, Request};
use dataplane_core::inspect::{Chat, Inspected, inspect_json};
use engine::{BLOCK, Engine};
use knowledge::Knowledge;
use serde_json::json;

const FLEET_SEED: u64 = 77;
/// Blocks of the engine's cache: so few that most conversations lose some of theirs before they go on.
const CAPACITY: usize = 900;
/// Of a hundred requests, those that are within the bounds.
const SHARE: f64 = 99.0;

/// The text of a prompt by its tokens: where each ends.
fn ends(prompt: &Prompt, vocabulary: &Vocabulary) -> (Vec<u8>, Vec<usize>) {
    let (mut text, mut ends) = (Vec::new(), Vec::new());
    for token in &prompt.tokens {
        assert!(vocabulary.read(*token, &mut text), "token {token} is none");
        ends.push(text.len());
    }
    (text, ends)
}

/// How a data plane hashes a request, as `request/prompt.rs` does, and whether segments were enough.
fn hashed(model: &Model, renderer: &Renderer, request: &Request) -> (Vec<u64>, bool) {
    let message = |(role, content): &(String, String)| json!({"role": role, "content": content});
    let messages: Vec<_> = request.messages.iter().map(message).collect();
    let body = json!({"model": model.name, "messages": messages}).to_string();
    let mut inspected = Inspected::default();
    inspect_json(body.as_bytes(), &mut inspected).unwrap();
    let salt = Salt { fleet_seed: FLEET_SEED, model: &model.name, adapter: "", cache_salt: "" };
    let chat = Chat { template: &model.template, seed: seed(&salt), unix_s: 0 };
    let mut blocks = Vec::new();
    if inspected.hash_chat(body.as_bytes(), &chat, &mut blocks).is_some() {
        return (blocks, true);
    }
    let text = renderer.render_body(&model.template, body.as_bytes(), 0).unwrap();
    blocks.clear();
    chain(chat.seed, text.as_bytes(), &mut blocks);
    (blocks, false)
}

/// What came of one model's requests.
#[derive(Default)]
struct Tally {
    by_segments: usize,
    prompt_tokens: usize,
    cached_tokens: usize,
    /// By kind of request: how many, and how many within the bounds.
    kinds: BTreeMap<String, (usize, usize)>,
    /// By how many tokens the prediction is over and under at most, and one of the metric.
    over: usize,
    under: usize,
    /// Within the bounds where tokens are taken to be of equal length, as the router's metric has them.
    metered: usize,
    /// What that metric comes to in all, and what it would with the tokenizer.
    metered_tokens: usize,
    predicted_tokens: usize,
}

impl Tally {
    fn requests(&self) -> usize {
        self.kinds.values().map(|(all, _)| all).sum()
    }

    fn share(&self) -> f64 {
        let within: usize = self.kinds.values().map(|(_, within)| within).sum();
        within as f64 * 100.0 / self.requests() as f64
    }

    /// One request of which so many leading blocks of text were found, and so many tokens are cached.
    fn note(&mut self, kind: &str, ends: &[usize], matched: usize, cached: usize) {
        let bytes = matched * BLOCK_BYTES;
        let tokens_until = |byte: usize| ends.partition_point(|end| *end <= byte);
        let predicted = tokens_until(bytes);
        let bound = BLOCK.max(tokens_until(bytes + BLOCK_BYTES) - predicted);
        let metered = bytes * ends.len() / ends.last().unwrap();
        let within = predicted.abs_diff(cached) <= bound;
        let (all, good) = self.kinds.entry(kind.to_owned()).or_default();
        *all += 1;
        *good += usize::from(within);
        self.metered += usize::from(metered.abs_diff(cached) <= bound);
        self.metered_tokens += metered;
        self.predicted_tokens += predicted;
        self.over = self.over.max(predicted.saturating_sub(cached));
        self.under = self.under.max(cached.saturating_sub(predicted));
        self.prompt_tokens += ends.len();
        self.cached_tokens += cached;
    }
}

/// Plays all requests to one engine, each predicted before it is served.
fn play(model: &Model, requests: &[Request], vocabulary: &Arc<Vocabulary>) -> (Tally, Engine) {
    let reading = Reading { vocabulary: vocabulary.clone(), fleet_seed: FLEET_SEED, model: (&*model.name).into() };
    let (mut knowledge, mut engine, mut tally) = (Knowledge::new(reading), Engine::new(CAPACITY), Tally::default());
    let renderer = Renderer::new(&model.template).unwrap();
    for (request, prompt) in requests.iter().zip(&model.prompts) {
        let (text, ends) = ends(prompt, vocabulary);
        let (blocks, by_segments) = hashed(model, &renderer, request);
        let mut of_tokens = Vec::new();
        let salt = Salt { fleet_seed: FLEET_SEED, model: &model.name, adapter: "", cache_salt: "" };
        chain(seed(&salt), &text, &mut of_tokens);
        assert_eq!(blocks, of_tokens, "the text is that of the tokens: {}", String::from_utf8_lossy(&text));
        tally.by_segments += usize::from(by_segments);
        tally.note(&request.kind, &ends, knowledge.matched(&blocks), engine.cached(&prompt.tokens));
        knowledge.hear(&engine.serve(prompt.answered.as_ref().unwrap_or(&prompt.tokens)));
    }
    assert_eq!(knowledge.unread(), 0);
    (tally, engine)
}

#[test]
fn what_is_taken_to_be_cached_is_cached_to_a_block_in_99_of_100_requests() {
    let Conversations { seed, requests, models, vocabularies } = Conversations::read();
    let vocabularies = Vocabularies::new(Some(vocabularies));
    assert_eq!(models.len(), 3);
    for model in &models {
        let (tally, engine) = play(model, &requests, &vocabularies.of(&model.name).unwrap());
        let share = tally.share();
        println!(
            "{} ({}), seed {seed}: {} requests, {share:.2} % within a block, {} over and {} under at most; {} by segments; \
             {} of {} tokens cached, {} blocks evicted; with tokens of equal length {:.2} %, in all {} of {}; by kind {:?}",
            model.name,
            model.package,
            tally.requests(),
            tally.over,
            tally.under,
            tally.by_segments,
            tally.cached_tokens,
            tally.prompt_tokens,
            engine.evicted,
            tally.metered as f64 * 100.0 / tally.requests() as f64,
            tally.metered_tokens,
            tally.predicted_tokens,
            tally.kinds,
        );
        assert!(tally.kinds.len() == 5 && tally.kinds.values().all(|(all, _)| *all >= 40), "{:?}", tally.kinds);
        assert!(engine.evicted > 2 * CAPACITY && tally.cached_tokens * 3 > tally.prompt_tokens);
        assert!(share >= SHARE, "{}: {share:.2} %", model.name);
        // What the router counts is a sum, and there it is nearly the same.
        let metered = tally.metered_tokens as f64 / tally.predicted_tokens as f64;
        assert!((0.98..=1.02).contains(&metered), "{}: {metered:.3}", model.name);
    }
}
