//! The arguments of the plugins.

use std::sync::Arc;

use super::node::Node;
use super::shape::{PluginConfig, malformed};
use crate::decode::Reason;
use crate::decode::path::{Path, Problems};
use crate::decode::profile::session_header;
use crate::limits::{
    MAX_BLOCKS, MAX_PREFIX_TOP_K, MAX_WAITING, PREFIX_BLOCKS, PREFIX_TOP_K, SESSION_HEADER, TTFT_WEIGHT,
};

/// Every argument that has an effect, with its default.
pub(super) struct Arguments {
    pub(super) max_waiting: u32,
    pub(super) ttft_weight: f64,
    pub(super) max_blocks: u32,
    pub(super) top_k: u32,
    pub(super) kv_blocks: u32,
    pub(super) session_header: Arc<str>,
}

impl Arguments {
    pub(super) fn read(problems: &mut Problems, warnings: &mut Vec<String>, list: Vec<PluginConfig>) -> Self {
        let mut known = Self {
            max_waiting: MAX_WAITING,
            ttft_weight: TTFT_WEIGHT,
            max_blocks: PREFIX_BLOCKS,
            top_k: PREFIX_TOP_K,
            kv_blocks: PREFIX_BLOCKS,
            session_header: SESSION_HEADER.into(),
        };
        let root = Path::root();
        for PluginConfig { index, name, args } in list {
            let at = root.item("scheduler.pluginConfig", index);
            for (key, arg) in args {
                let at = at.entry("args", &key);
                if !known.set(problems, &at, (&name, &key), &arg) {
                    warnings.push(without_effect(&name, &key));
                }
            }
        }
        known
    }

    /// False where the argument has no effect.
    fn set(&mut self, problems: &mut Problems, at: &Path<'_>, name: (&str, &str), arg: &Node) -> bool {
        let most = u32::try_from(MAX_BLOCKS).expect("65,536 fits");
        match name {
            ("least-request", "maxWaitingRequests") => waiting(problems, at, arg, &mut self.max_waiting),
            ("least-latency", "TTFTTPOTWeightFactor") => factor(problems, at, arg, &mut self.ttft_weight),
            ("prefix-cache", "maxBlocksToMatch") => {
                positive(problems, at, (arg, PREFIX_BLOCKS, most), &mut self.max_blocks);
            }
            ("prefix-cache", "topKMatches") => {
                positive(problems, at, (arg, PREFIX_TOP_K, MAX_PREFIX_TOP_K), &mut self.top_k);
            }
            ("kvcache-aware", "maxBlocksToMatch") => {
                positive(problems, at, (arg, PREFIX_BLOCKS, most), &mut self.kv_blocks);
            }
            ("session-affinity", "header") => match arg {
                Node::Text(header) => self.session_header = session_header(problems, at, header),
                other => malformed(problems, at, other, "write a header's name, as X-Session-ID"),
            },
            _ => return false,
        }
        true
    }
}

fn without_effect(plugin: &str, key: &str) -> String {
    let why = match (plugin, key) {
        ("prefix-cache" | "kvcache-aware", "blockSizeToHash") => "every data plane hashes blocks of 64 bytes",
        ("prefix-cache", "maxHashCacheSize") => "the table's size is a setting of the data plane",
        ("kvcache-aware", "vllmTokenizerPort" | "sglangTokenizerPort") => "no engine is asked to tokenise",
        _ => return format!("pluginConfig: {plugin:?} has no argument {key:?}; it has no effect"),
    };
    format!("{plugin}: `{key}` has no effect: {why}")
}

/// Kthena lets a negative bound filter out everything, which is never meant.
fn waiting(problems: &mut Problems, at: &Path<'_>, arg: &Node, value: &mut u32) {
    match arg {
        Node::Whole(0) => *value = MAX_WAITING,
        Node::Whole(n) if u32::try_from(*n).is_ok() => *value = u32::try_from(*n).expect("just tried"),
        other => problems.add(at, out_of_range(other, ("0", u32::MAX.to_string()))),
    }
}

fn positive(problems: &mut Problems, at: &Path<'_>, (arg, default, most): (&Node, u32, u32), value: &mut u32) {
    match arg {
        Node::Whole(n) if *n <= 0 => *value = default,
        Node::Whole(n) if *n <= most.into() => *value = u32::try_from(*n).expect("at most `most`"),
        other => problems.add(at, out_of_range(other, ("1", most.to_string()))),
    }
}

fn factor(problems: &mut Problems, at: &Path<'_>, arg: &Node, value: &mut f64) {
    match arg {
        Node::Whole(0) => *value = 0.0,
        Node::Whole(1) => *value = 1.0,
        Node::Real(x) if (0.0..=1.0).contains(x) => *value = *x,
        other => problems.add(at, out_of_range(other, ("0", "1".to_owned()))),
    }
}

fn out_of_range(arg: &Node, (min, max): (&str, String)) -> Reason {
    let found = match arg {
        Node::Whole(n) => n.to_string(),
        Node::Real(x) => x.to_string(),
        _ => "what is no number".to_owned(),
    };
    Reason::OutOfRange { found, min: min.to_owned(), max }
}
