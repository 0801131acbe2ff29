//! The shape of the configuration: sections, lists and names. An absent section and one that is null are empty.

use super::node::Node;
use crate::decode::Reason;
use crate::decode::path::{Path, Problems};

/// What the configuration says, before arguments and names have a meaning.
pub(super) struct Config {
    /// Arguments by plugin, in the order of the list, with its index.
    pub(super) plugins: Vec<PluginConfig>,
    pub(super) filters: Vec<String>,
    pub(super) scores: Vec<Score>,
}

pub(super) struct PluginConfig {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) args: Vec<(String, Node)>,
}

pub(super) struct Score {
    pub(super) name: String,
    pub(super) weight: i64,
}

impl Config {
    pub(super) fn read(problems: &mut Problems, warnings: &mut Vec<String>, config: Node) -> Self {
        let root = Path::root();
        let mut config = Section::read(problems, &root, config);
        if let Some(auth) = config.take("auth") {
            read_auth(problems, warnings, auth);
        }
        let scheduler = config.take("scheduler");
        for (key, _) in config.0 {
            warnings.push(format!("{key:?} is not part of Kthena's configuration and has no effect"));
        }
        if scheduler.is_none() {
            problems.add(&root.field("scheduler"), Reason::Missing("say which plugins are enabled"));
        }
        let mut scheduler = Section::read(problems, &root.field("scheduler"), scheduler.unwrap_or(Node::Null));
        let plugin_config = scheduler.take("pluginConfig").unwrap_or(Node::Null);
        let plugins = scheduler.take("plugins").unwrap_or(Node::Null);
        scheduler.close(problems, &root.field("scheduler"), "its keys are `pluginConfig` and `plugins`");
        let at = root.field("scheduler.plugins");
        let mut plugins = Section::read(problems, &at, plugins);
        let mut enabled = |problems: &mut Problems, kind| {
            let (at, node) = (at.field(kind), plugins.take(kind).unwrap_or(Node::Null));
            let mut plugged = Section::read(problems, &at, node);
            let enabled = plugged.take("enabled").unwrap_or(Node::Null);
            // Kthena reads what is disabled and ignores it.
            plugged.take("disabled");
            plugged.close(problems, &at, "its keys are `enabled` and `disabled`");
            list(problems, &at.field("enabled"), enabled)
        };
        let (filters, scores) = (enabled(problems, "Filter"), enabled(problems, "Score"));
        plugins.close(problems, &at, "its keys are `Filter` and `Score`");
        Self {
            plugins: plugin_configs(problems, plugin_config),
            filters: (filters.into_iter().enumerate())
                .filter_map(|(i, node)| text(problems, &root.item("scheduler.plugins.Filter.enabled", i), node))
                .collect(),
            scores: (scores.into_iter().enumerate())
                .filter_map(|(i, node)| score(problems, &root.item("scheduler.plugins.Score.enabled", i), node))
                .collect(),
        }
    }
}

/// Whoever asks for tokens of clients must not have everybody served and be told so in a log alone.
fn read_auth(problems: &mut Problems, warnings: &mut Vec<String>, auth: Node) {
    let root = Path::root();
    let at = root.field("auth");
    let keys = Section::read(problems, &at, auth).take("jwksUri");
    if let Some(keys) = keys.filter(|keys| !matches!(keys, Node::Null) && *keys != Node::Text(String::new())) {
        let wanted = "data planes of this release look at no tokens of clients and would serve everybody: authenticate \
                      in front of them, and leave `auth` out";
        malformed(problems, &at.field("jwksUri"), &keys, wanted);
    } else {
        warnings.push("`auth` has no effect: data planes of this release look at no tokens of clients".to_owned());
    }
}

fn plugin_configs(problems: &mut Problems, node: Node) -> Vec<PluginConfig> {
    let root = Path::root();
    let list = list(problems, &root.field("scheduler.pluginConfig"), node);
    let one = |problems: &mut Problems, (index, node)| {
        let at = root.item("scheduler.pluginConfig", index);
        let mut section = Section::read(problems, &at, node);
        let name = section.name(problems, &at);
        let args = Section::read(problems, &at.field("args"), section.take("args").unwrap_or(Node::Null));
        section.close(problems, &at, "its keys are `name` and `args`");
        Some(PluginConfig { index, name: name?, args: args.0 })
    };
    list.into_iter().enumerate().filter_map(|item| one(problems, item)).collect()
}

fn score(problems: &mut Problems, at: &Path<'_>, node: Node) -> Option<Score> {
    let mut section = Section::read(problems, at, node);
    let name = section.name(problems, at);
    let weight = match section.take("weight") {
        None | Some(Node::Null) => 0,
        Some(Node::Whole(weight)) => weight,
        Some(other) => {
            malformed(problems, &at.field("weight"), &other, "write a whole number");
            0
        }
    };
    section.close(problems, at, "its keys are `name` and `weight`");
    Some(Score { name: name?, weight })
}

/// The entries of a map that nobody has taken yet.
struct Section(Vec<(String, Node)>);

impl Section {
    fn read(problems: &mut Problems, at: &Path<'_>, node: Node) -> Self {
        let entries = match node {
            Node::Map(entries) => entries,
            Node::Null => Vec::new(),
            other => {
                malformed(problems, at, &other, "write a map");
                Vec::new()
            }
        };
        let mut kept: Vec<(String, Node)> = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            if kept.iter().any(|(other, _)| *other == key) {
                problems.add(at, Reason::Malformed { found: key, wanted: "a key may come only once" });
            } else {
                kept.push((key, node));
            }
        }
        Self(kept)
    }

    fn take(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|(other, _)| other == key)?;
        Some(self.0.remove(at).1)
    }

    fn name(&mut self, problems: &mut Problems, at: &Path<'_>) -> Option<String> {
        match self.take("name") {
            Some(node) => text(problems, &at.field("name"), node),
            None => {
                problems.add(&at.field("name"), Reason::Missing("name the plugin"));
                None
            }
        }
    }

    /// Refuses what is left.
    fn close(self, problems: &mut Problems, at: &Path<'_>, wanted: &'static str) {
        for (key, _) in self.0 {
            problems.add(at, Reason::Malformed { found: key, wanted });
        }
    }
}

fn list(problems: &mut Problems, at: &Path<'_>, node: Node) -> Vec<Node> {
    match node {
        Node::List(list) => list,
        Node::Null => Vec::new(),
        other => {
            malformed(problems, at, &other, "write a list");
            Vec::new()
        }
    }
}

fn text(problems: &mut Problems, at: &Path<'_>, node: Node) -> Option<String> {
    match node {
        Node::Text(text) => Some(text),
        other => {
            malformed(problems, at, &other, "write the plugin's name");
            None
        }
    }
}

pub(super) fn malformed(problems: &mut Problems, at: &Path<'_>, found: &Node, wanted: &'static str) {
    problems.add(at, Reason::Malformed { found: found.to_string(), wanted });
}
