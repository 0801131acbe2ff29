//! What is answered: a function of the request and of what is looked at.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use prometheus::Registry;
use serde_json::{Value, json};

use super::dump::{self, Dump};
use super::pages;
use super::view::Look;
use crate::metrics;
use crate::run::Round;

/// Which listener is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Health and metrics only.
    Metrics,
    /// Everything.
    Debug,
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    Health,
    Ready,
    Metrics,
    ConfigDump,
    Dump(Dump),
    Objects,
    DataPlanes,
    Kv,
    Engines,
}

const PAGES: [(&str, Page); 8] = [
    ("/healthz", Page::Health),
    ("/readyz", Page::Ready),
    ("/metrics", Page::Metrics),
    ("/debug/config_dump", Page::ConfigDump),
    ("/debug/objects", Page::Objects),
    ("/debug/dataplanes", Page::DataPlanes),
    ("/debug/kv", Page::Kv),
    ("/debug/engines", Page::Engines),
];
/// Kthena's dumps are below it.
const DUMPS: &str = "/debug/config_dump/";
/// The first so many are on both listeners.
const ON_BOTH: usize = 3;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    content_type: &'static str,
    /// Whether only reading is allowed, which a refused method is told.
    read_only: bool,
    pub(super) body: String,
}

impl Reply {
    fn new(status: StatusCode, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, read_only: false, body }
    }

    fn json(status: StatusCode, value: &Value) -> Self {
        Self::new(status, "application/json", format!("{value:#}\n"))
    }

    pub(super) fn failed(sentence: &str) -> Self {
        Self::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": sentence}))
    }
}

impl From<Reply> for Response<Full<Bytes>> {
    fn from(reply: Reply) -> Self {
        let mut response = Response::builder().status(reply.status).header(header::CONTENT_TYPE, reply.content_type);
        if reply.read_only {
            response = response.header(header::ALLOW, "GET, HEAD");
        }
        response.body(Full::from(reply.body)).expect("the parts of a reply are valid")
    }
}

/// The page that is asked for, or the refusal.
pub(super) fn route(which: Which, method: &Method, path: &str) -> Result<Page, Reply> {
    let pages = match which {
        Which::Metrics => &PAGES[..ON_BOTH],
        Which::Debug => &PAGES[..],
    };
    let known = pages.iter().find(|(known, _)| *known == path).map(|(_, page)| page.clone());
    let dumped = || path.strip_prefix(DUMPS).filter(|_| which == Which::Debug).and_then(Dump::of).map(Page::Dump);
    let Some(page) = known.or_else(dumped) else {
        let dumps = if which == Which::Debug { &dump::PATHS[..] } else { &[] };
        let dumps = dumps.iter().map(|path| format!("{DUMPS}{path}"));
        let paths: Vec<String> = pages.iter().map(|(path, _)| (*path).to_owned()).chain(dumps).collect();
        let body = json!({"error": format!("nothing is served at {path}"), "paths": paths});
        return Err(Reply::json(StatusCode::NOT_FOUND, &body));
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let body = json!({"error": format!("{path} can only be read: use GET, not {method}")});
        return Err(Reply { read_only: true, ..Reply::json(StatusCode::METHOD_NOT_ALLOWED, &body) });
    }
    Ok(page)
}

/// The page.
pub(super) fn render(page: Page, look: &Look, registry: &Registry) -> Reply {
    match page {
        Page::Health => Reply::json(StatusCode::OK, &json!({"message": "ok"})),
        // It serves on, and data planes must find it.
        Page::Ready if look.ready() => Reply::json(StatusCode::OK, &json!({"message": ready(look)})),
        Page::Ready => Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"message": not_ready(look)})),
        Page::Metrics => match metrics::encode(registry, look) {
            Ok(text) => Reply::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(error) => Reply::failed(&error.to_string()),
        },
        Page::DataPlanes => Reply::json(StatusCode::OK, &pages::data_planes(look)),
        Page::Kv => Reply::json(StatusCode::OK, &pages::kv(look)),
        Page::Engines => Reply::json(StatusCode::OK, &pages::engines(look)),
        Page::ConfigDump | Page::Objects | Page::Dump(_) => match &look.round {
            Some(round) => built(&page, round, look),
            None => Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": NOT_BUILT})),
        },
    }
}

fn built(page: &Page, round: &Round, look: &Look) -> Reply {
    match page {
        Page::Objects => Reply::json(StatusCode::OK, &pages::objects(round)),
        Page::Dump(Dump::All(kind)) => Reply::json(StatusCode::OK, &dump::all(*kind, round, &look.said())),
        Page::Dump(Dump::One(_, name)) if name.namespace.is_empty() || name.name.is_empty() => {
            let error = json!({"error": "namespace and name parameters are required"});
            Reply::json(StatusCode::BAD_REQUEST, &error)
        }
        Page::Dump(Dump::One(kind, name)) => match dump::one(*kind, name, round, &look.said()) {
            Some(found) => Reply::json(StatusCode::OK, &found),
            None => Reply::json(StatusCode::NOT_FOUND, &json!({"error": format!("{} not found", kind.name())})),
        },
        _ => Reply::new(StatusCode::OK, "application/json", pages::config_dump(&round.snapshot)),
    }
}

const NOT_READY: &str = "nothing is published yet: data planes that connect now would get no routes";

fn ready(look: &Look) -> String {
    match &look.panicked {
        None => "ready".to_owned(),
        Some(why) => format!("ready with what was built before: {NOT_BUILDABLE} ({why})"),
    }
}

fn not_ready(look: &Look) -> String {
    let unpublished = (!look.published()).then(|| NOT_READY.to_owned());
    let waiting = (!look.waiting.is_empty()).then(|| format!("waiting for {}", look.waiting.join("; ")));
    let panicked = look.panicked.as_ref().map(|why| format!("{NOT_BUILDABLE} ({why})"));
    unpublished.into_iter().chain(waiting).chain(panicked).collect::<Vec<_>>().join("; ")
}

const NOT_BUILDABLE: &str = "what was read last makes a build panic: undo the last change, and please report it";
const NOT_BUILT: &str = "nothing is built yet: not every source has said all it has";
