//! The task of one endpoint: what its tokens stand for, whether it writes chats as it is taken to, where it publishes, and a
//! follower for each of its ranks.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::id::EndpointKey;
use api::template::ChatTemplate;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::board::Line;
use super::{Ears, Numbers, Seat, State, Wanted};
use crate::chance::{jittered, random};
use crate::kv::agree::{Agreement, PAUSES, Question, agree};
use crate::kv::discover::{DiscoverError, Publisher, Told, discover};
use crate::kv::store::RankId;
use crate::kv::subscribe::{At, Heard, Source, Status, follow};
use crate::kv::text::Reading;
use crate::kv::vocabulary::{Vocabularies, Vocabulary};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// After one that failed, doubled up to the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// An engine that does not publish, or whose tokens cannot be read, is asked again after this time, and so is one that is
/// heard: it may have been started anew in its pod, with other settings.
const AGAIN: Duration = Duration::from_secs(60);
/// Tokens of a block where the engine does not say.
const BLOCK_TOKENS: u64 = 16;
/// Templates by which one engine's chats are written: each is of another backend that it is a member of.
const MOST_TEMPLATES: usize = 8;
/// Blocks of an engine the size of whose cache is not known, and the most of any.
const BLOCKS: (u64, u64) = (1 << 20, 1 << 23);

/// What attending takes.
pub(super) struct Post {
    pub(super) key: EndpointKey,
    pub(super) wanted: Wanted,
    /// The same, where chats are written by other templates by now.
    pub(super) newest: watch::Receiver<Wanted>,
    pub(super) rank: RankId,
    pub(super) numbers: Numbers,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) ears: Arc<Ears>,
    pub(super) vocabularies: Arc<Vocabularies>,
    pub(super) line: Line,
}

/// What hearing it takes.
struct Prepared {
    reading: Reading,
    told: Told,
    /// What came of asking it how it writes chats; never that it differs.
    chats: Agreement,
}

/// Attends to an endpoint until it is ended.
pub(super) async fn attend(mut post: Post) {
    let (mut pause, mut before) = (RETRY.0, None);
    loop {
        // What was said of it stands until it has been asked anew.
        let state = match post.prepare().await {
            Ok(prepared) => {
                pause = RETRY.0;
                post.hear(prepared).await;
                continue;
            }
            Err(state) => state,
        };
        let differs = matches!(state, State::Differs(_));
        if differs && before.as_ref() != Some(&state) {
            tracing::warn!(endpoint = %post.key.uid, reason = state.reason(), "what an engine caches is only predicted");
        } else {
            tracing::debug!(endpoint = %post.key.uid, state = state.word(), reason = state.reason(), "an engine's cache is not heard");
        }
        before = Some(state.clone());
        let wait = match state {
            State::Fault(_) => {
                let longer = (pause * 2).min(RETRY.1);
                std::mem::replace(&mut pause, longer)
            }
            _ => AGAIN,
        };
        let chats = if let State::Differs(why) = &state { Agreement::Differs(why.clone()) } else { Agreement::Unasked };
        post.line.set(state, chats, Vec::new());
        post.pause(jittered(wait, random())).await;
    }
}

/// Until chats are written by other templates than these; for ever, where nothing more will be known. An engine that is not heard
/// says how large it is a moment after it is there, and that is no reason to ask it again.
async fn rewritten(newest: &mut watch::Receiver<Wanted>, before: &[Option<Arc<ChatTemplate>>]) {
    if newest.wait_for(|wanted| wanted.templates != before).await.is_err() {
        pending::<()>().await;
    }
}

impl Post {
    /// Waits so long, or until chats are written otherwise, and then knows what is wanted by now.
    async fn pause(&mut self, time: Duration) {
        // Either is a reason to go on.
        let _ = timeout(time, rewritten(&mut self.newest, &self.wanted.templates)).await;
        self.wanted = self.newest.borrow_and_update().clone();
    }

    /// Waits so long, or until chats are written otherwise or its size is known, which it then knows.
    async fn rest(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            Ok(()) = self.newest.changed() => {
                self.wanted = self.newest.borrow_and_update().clone();
            }
        }
    }

    async fn prepare(&self) -> Result<Prepared, State> {
        let Wanted { model, fleet_seed, .. } = &self.wanted;
        let Some(model) = model.clone() else {
            let why = "requests call its model by no name or by several: set spec.model of its ModelServer";
            return Err(State::Unread(why.to_owned()));
        };
        // Who publishes nothing needs no vocabulary.
        let told = self.ask().await?;
        let vocabulary = self.vocabulary(&model).await.map_err(State::Unread)?;
        let chats = self.chats(&model, &vocabulary).await;
        if let Agreement::Differs(why) = chats {
            return Err(State::Differs(why));
        }
        let reading = Reading { vocabulary, fleet_seed: *fleet_seed, model };
        Ok(Prepared { reading, told, chats })
    }

    async fn vocabulary(&self, model: &Arc<str>) -> Result<Arc<Vocabulary>, String> {
        let (vocabularies, model) = (self.vocabularies.clone(), model.clone());
        let read = tokio::task::spawn_blocking(move || vocabularies.of(&model)).await;
        read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Whether it writes chats as data planes do for each of its backends.
    async fn chats(&self, model: &Arc<str>, vocabulary: &Vocabulary) -> Agreement {
        let now_s = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64);
        let mut worst = Agreement::Unasked;
        for template in self.wanted.templates.iter().take(MOST_TEMPLATES) {
            let (template, model) = (template.clone(), model.clone());
            let question = tokio::task::spawn_blocking(move || Question::new(template.as_deref(), &model, now_s)).await;
            let found = match question.map_err(|error| error.to_string()).and_then(|question| question) {
                Ok(question) => agree(self.wanted.address, &question, vocabulary, &PAUSES).await,
                Err(error) => Agreement::Unchecked(format!("chatTemplate renders none of our chats: {error}")),
            };
            worst = worst.max(found);
        }
        worst
    }

    async fn ask(&self) -> Result<Told, State> {
        let Wanted { engine, address, .. } = self.wanted;
        match discover(engine, address, ANSWER).await {
            Ok(told) if told.publishers.is_empty() => {
                Err(State::Silent("the engine publishes no KV events".to_owned()))
            }
            Ok(told) => Ok(told),
            Err(error @ DiscoverError::Silent) => Err(State::Silent(error.to_string())),
            Err(error) => Err(State::Fault(error.to_string())),
        }
    }

    /// Follows its ranks until it says that it publishes otherwise.
    async fn hear(&mut self, Prepared { reading, told, mut chats }: Prepared) {
        let (model, vocabulary) = (reading.model.clone(), reading.vocabulary.clone());
        let seat = Seat {
            key: self.key.clone(),
            model: reading.model.clone(),
            handle: self.wanted.handle,
            capacity_tokens: self.wanted.cache_tokens.unwrap_or(0),
            ranks: told.publishers.len(),
        };
        self.ears.admit(self.rank, seat, most_blocks(&self.wanted, &told), reading);
        let mut followers = JoinSet::new();
        let statuses = told.publishers.iter().map(|publisher| self.follow(publisher, &mut followers)).collect();
        self.line.set(State::Heard, chats.clone(), statuses);
        loop {
            let (templates, size) = (self.wanted.templates.clone(), self.wanted.cache_tokens);
            self.rest(jittered(AGAIN, random())).await;
            if size != self.wanted.cache_tokens {
                self.ears.size(self.rank, self.wanted.cache_tokens.unwrap_or(0), most_blocks(&self.wanted, &told));
            }
            match self.ask().await {
                Ok(now) if now == told => {}
                // It cannot be asked now; whether it can be heard its followers know.
                Err(State::Fault(_)) => {}
                Ok(_) | Err(_) => break,
            }
            if templates != self.wanted.templates || matches!(chats, Agreement::Unanswered(_)) {
                chats = self.chats(&model, &vocabulary).await;
                if let Agreement::Differs(_) = chats {
                    break;
                }
                self.line.agree(chats.clone());
            }
        }
        followers.shutdown().await;
        self.ears.dismiss(self.rank);
        self.line.set(State::Begun, Agreement::Unasked, Vec::new());
    }

    fn follow(&self, publisher: &Publisher, followers: &mut JoinSet<()>) -> watch::Receiver<Status> {
        let Publisher { rank: _, events, replay, load: _, topic } = publisher.clone();
        let rank = self.numbers.next();
        self.ears.hear(rank, self.rank);
        let source = Source { rank, at: At::Connect(events), topic, replay };
        let (status, statuses) = watch::channel(Status::default());
        let heard = self.heard.clone();
        followers.spawn(async move {
            // It dials, so there is no address that could be taken.
            let _ = follow(source, heard, status, random).await;
        });
        statuses
    }
}

/// As many as its cache has room for on the device and on the host, which by SGLang's default has twice the device's.
fn most_blocks(wanted: &Wanted, told: &Told) -> usize {
    room(wanted.cache_tokens, told.block_size, told.publishers.len())
}

fn room(cache_tokens: Option<u64>, block_size: Option<u32>, ranks: usize) -> usize {
    let block = block_size.map_or(BLOCK_TOKENS, u64::from).max(1);
    // What is known is of all ranks.
    let known = cache_tokens.map(|tokens| (tokens / block).saturating_mul(4).saturating_add(1_024));
    known.unwrap_or(BLOCKS.0.saturating_mul(ranks.max(1) as u64)).min(BLOCKS.1) as usize
}

#[cfg(test)]
mod tests {
    use api::snapshot::Engine;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_heard_is_asked_again_for_another_template_and_not_for_its_size() {
        let wanted = Wanted {
            handle: 1,
            address: ([127, 0, 0, 1], 1).into(),
            engine: Engine::Vllm,
            model: None,
            templates: vec![None],
            cache_tokens: None,
            fleet_seed: 1,
        };
        let (newest, mut known) = watch::channel(wanted.clone());
        newest.send_modify(|wanted| wanted.cache_tokens = Some(9));
        assert!(timeout(AGAIN, rewritten(&mut known, &wanted.templates)).await.is_err(), "for its size");
        newest.send_modify(|wanted| wanted.templates.clear());
        assert!(timeout(AGAIN, rewritten(&mut known, &wanted.templates)).await.is_ok(), "not for its templates");
        drop(newest);
        assert!(timeout(AGAIN, rewritten(&mut known, &[])).await.is_err(), "for nothing");
    }

    #[test]
    fn there_is_room_for_what_an_engine_says_that_all_its_ranks_hold_or_for_what_each_may() {
        assert_eq!(room(Some(32_000), Some(32), 2), 4 * 1_000 + 1_024);
        assert_eq!(room(Some(16_000), None, 1), 4 * 1_000 + 1_024);
        assert_eq!(room(None, Some(32), 0), 1 << 20);
        assert_eq!(room(None, None, 3), 3 << 20);
        for (tokens, ranks) in [(Some(u64::MAX), 1), (None, usize::MAX)] {
            assert_eq!(room(tokens, Some(0), ranks), 1 << 23, "{tokens:?}, {ranks} ranks");
        }
    }
}
