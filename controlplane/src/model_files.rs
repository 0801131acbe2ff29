//! Chat templates as models' files have them, for ModelServers that bring none.
//!
//! The files lie where vocabularies do: `FOLDER/org/name/chat_template.jinja` and `tokenizer_config.json` as models are
//! stored, or, as in a ConfigMap, `FOLDER/org--name.chat_template.jinja` and `org--name.tokenizer_config.json`. The first of
//! them is the template where both have one, as in transformers. Variables such as `bos_token` are the configuration's.
//!
//! A thread of its own looks at them, when a model is first asked for and some times a minute: a volume that does not answer
//! holds up no build for longer than [`PATIENCE`], and only one.

mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::crd::{ChatTemplate, InferenceEngine, ModelServerSpec};
use crate::kv::vocabulary::is_model_path;
use crate::world::{LastGood, World};
use files::Files;

/// Between two looks at models' files.
const LOOK: Duration = Duration::from_secs(10);
/// How long a build waits for files that were never looked at: without it the first tables after a start would be without
/// templates, and the next ones with them.
const PATIENCE: Duration = Duration::from_secs(2);
/// Models that are looked for at a time: what is wanted comes from whoever may write ModelServers.
const MOST_MODELS: usize = 1_024;

/// What to look for.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wanted {
    folder: Option<PathBuf>,
    models: BTreeSet<String>,
}

impl Wanted {
    fn of(world: &World, folder: Option<PathBuf>) -> Self {
        let specs = world.servers.values().flat_map(|held| {
            let kept = held.last_good.as_ref().map(|kept| &*kept.spec);
            held.spec.as_ref().ok().map(|spec| &**spec).into_iter().chain(kept)
        });
        let mut models = BTreeSet::new();
        for model in specs.filter_map(wanting).filter(|_| folder.is_some()) {
            if models.len() < MOST_MODELS && !models.contains(model) {
                models.insert(model.to_owned());
            }
        }
        Self { folder, models }
    }
}

/// What there is in a folder, of each model that was looked for.
#[derive(Debug, Clone, Default, PartialEq)]
struct Found {
    folder: Option<PathBuf>,
    templates: HashMap<String, Option<Arc<ChatTemplate>>>,
}

impl Found {
    fn answers(&self, wanted: &Wanted) -> bool {
        self.folder == wanted.folder && wanted.models.iter().all(|model| self.templates.contains_key(model))
    }

    fn template(&self, model: &str) -> Option<&Arc<ChatTemplate>> {
        self.templates.get(model)?.as_ref()
    }
}

/// The templates, and the way to the thread that looks for them. It ends with this.
#[derive(Debug)]
pub struct Templates {
    /// The newest alone counts, however long a look takes.
    wanted: watch::Sender<Wanted>,
    found: watch::Receiver<Arc<Found>>,
    /// It was waited for in vain, and has not answered since.
    late: bool,
}

impl Templates {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let mut files = Files::default();
        Self::looked_for_by(move |wanted| files.look(wanted))
    }

    fn looked_for_by(look: impl FnMut(&Wanted) -> Found + Send + 'static) -> io::Result<Self> {
        let (wanted, newest) = watch::channel(Wanted::default());
        let (tell, found) = watch::channel(Arc::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let following = move || runtime.block_on(follow(look, newest, tell));
        std::thread::Builder::new().name("model-files".into()).spawn(following)?;
        Ok(Self { wanted, found, late: false })
    }

    /// The world with the templates that its servers leave to their models' files, as far as they are known in time.
    pub async fn complete(&mut self, world: World, folder: Option<PathBuf>) -> World {
        let wanted = Wanted::of(&world, folder);
        self.wanted.send_if_modified(|known| {
            let other = *known != wanted;
            known.clone_from(&wanted);
            other
        });
        if !self.late {
            // An error of the channel is the thread's end, which cannot be; then there is nothing to wait for either.
            self.late = timeout(PATIENCE, self.found.wait_for(|found| found.answers(&wanted))).await.is_err();
            if self.late {
                tracing::warn!(folder = ?wanted.folder, "models' files cannot be looked at within {PATIENCE:?}: servers go without their templates until they can");
            }
        }
        let found = self.found.borrow_and_update().clone();
        self.late &= !found.answers(&wanted);
        completed(world, &found, &wanted)
    }

    /// Returns when files say something else than they did.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Looks whenever something else is asked for, and some times a minute, until nobody can ask any more.
async fn follow(
    mut look: impl FnMut(&Wanted) -> Found,
    mut newest: watch::Receiver<Wanted>,
    tell: watch::Sender<Arc<Found>>,
) {
    while !matches!(timeout(LOOK, newest.changed()).await, Ok(Err(_))) {
        let wanted = newest.borrow_and_update().clone();
        let found = look(&wanted);
        tell.send_if_modified(|told| {
            let news = **told != found;
            if news {
                *told = Arc::new(found);
            }
            news
        });
    }
}

/// The model of a server that brings no template and could use one.
fn wanting(spec: &ModelServerSpec) -> Option<&str> {
    let chats = matches!(spec.inference_engine, InferenceEngine::Vllm | InferenceEngine::Sglang);
    spec.model.as_deref().filter(|model| chats && spec.chat_template.is_none() && is_model_path(model))
}

fn completed(mut world: World, found: &Found, wanted: &Wanted) -> World {
    if found.folder != wanted.folder {
        return world;
    }
    let with = |spec: &ModelServerSpec| {
        let found_template = Some(Arc::clone(found.template(wanting(spec)?)?));
        Some(Arc::new(ModelServerSpec { found_template, ..spec.clone() }))
    };
    for held in world.servers.values_mut() {
        if let Some(spec) = held.spec.as_ref().ok().and_then(|spec| with(spec)) {
            held.spec = Ok(spec);
        }
        let Some(kept) = &held.last_good else { continue };
        if let Some(spec) = with(&kept.spec) {
            held.last_good = Some(Arc::new(LastGood { generation: kept.generation, spec }));
        }
    }
    world
}
