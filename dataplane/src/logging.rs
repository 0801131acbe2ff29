//! The program's own log, on standard error. The access log is `recorder`'s.

use std::sync::OnceLock;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

static LEVEL: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts to log at `info`. A second call changes nothing.
pub fn start() {
    let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
    let layer = fmt::layer().with_writer(std::io::stderr);
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        // Only the first start gets here.
        let _ = LEVEL.set(handle);
    }
}

/// The level in force; none where this process does not log by [`start`].
pub fn level() -> Option<String> {
    LEVEL.get().and_then(Handle::clone_current).map(|level| level.to_string())
}

/// Changes the level; the error is a sentence.
pub fn set_level(level: &str) -> Result<(), String> {
    let parsed: LevelFilter =
        level.parse().map_err(|_| format!("`{level}` is none of off, error, warn, info, debug, trace"))?;
    let handle = LEVEL.get().ok_or("this process does not log")?;
    handle.reload(parsed).map_err(|e| e.to_string())
}
