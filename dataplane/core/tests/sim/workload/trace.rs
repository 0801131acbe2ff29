//! Public traces, which lie beside the repository in shared/traces.

use std::path::{Path, PathBuf};

use dataplane_core::scheduler::Rng;

use super::{Arrival, UNIT_TOKENS, exponential};

/// Units in one of Mooncake's blocks of 512 tokens.
const UNITS_PER_ID: u64 = 2;

/// Where a trace is; none where this checkout has none.
fn find(name: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|above| above.join("shared/traces").join(name)).find(|file| file.exists())
}

/// Mooncake's synthetic trace: conversations, tools and documents with their shared prefixes.
pub(crate) fn mooncake() -> Option<Vec<Arrival>> {
    let text = std::fs::read_to_string(find("mooncake-synthetic.jsonl")?).expect("the trace can be read");
    Some(text.lines().filter(|line| !line.is_empty()).map(entry).collect())
}

fn entry(line: &str) -> Arrival {
    let entry: serde_json::Value = serde_json::from_str(line).expect("a line is an object");
    let number = |name: &str| entry[name].as_u64().expect("a line has its numbers");
    let ids = entry["hash_ids"].as_array().expect("a line has its blocks");
    let units =
        ids.iter().filter_map(serde_json::Value::as_u64).flat_map(|id| [id * UNITS_PER_ID, id * UNITS_PER_ID + 1]);
    let whole = number("input_length").div_ceil(u64::from(UNIT_TOKENS)) as usize;
    Arrival {
        at_ms: number("timestamp"),
        chain: units.take(whole).collect(),
        answer_tokens: number("output_length").clamp(1, 2_000) as u32,
    }
}

/// Lengths of Azure's conversations of 2023, which say nothing of what they share: nothing is shared.
pub(crate) fn azure(seed: u64, count: usize) -> Option<Vec<Arrival>> {
    let text = std::fs::read_to_string(find("azure-2023-conv.csv")?).expect("the trace can be read");
    let mut rng = Rng::new(seed);
    let mut at_ms = 0.0;
    let lines = text.lines().skip(1).skip(rng.below(10_000) as usize).take(count).zip(1u64..);
    let arrivals = lines.map(|(line, id)| {
        at_ms += exponential(&mut rng, 100.0);
        let mut numbers = line.split(',').skip(1).map(|number| number.trim().parse::<u64>().expect("a number"));
        let (prompt, answer) = (numbers.next().expect("two numbers"), numbers.next().expect("two numbers"));
        let units = prompt.div_ceil(u64::from(UNIT_TOKENS)).max(1);
        Arrival {
            at_ms: at_ms as u64,
            chain: (0..units).map(|unit| id << 20 | unit).collect(),
            answer_tokens: answer.clamp(1, 2_000) as u32,
        }
    });
    Some(arrivals.collect())
}
