//! Odd values of a schema.

use serde_json::{Value, json};

use crate::chance::Rng;

/// Puts another value of its schema in some place below this one, or takes what is there away.
pub fn odd(rng: &mut Rng, schema: &Value, value: &mut Value) {
    let deeper = !rng.one_in(5);
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let name = fields.keys().nth(rng.index(fields.len())).unwrap().clone();
            let below = match schema["properties"].get(&name) {
                Some(below) => below,
                None => &schema["additionalProperties"],
            };
            if rng.one_in(8) && !requires(schema, &name) {
                fields.remove(&name);
            } else if let Some(field) = fields.get_mut(&name) {
                odd(rng, below, field);
            }
            // A field that was not there.
            let others: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
            if !others.is_empty() && rng.one_in(6) {
                let (name, below) = others[rng.index(others.len())];
                let made = any(rng, below, 3);
                fields.entry(name.clone()).or_insert(made);
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let n = rng.index(items.len());
            match rng.below(4) {
                0 => items.push(items[n].clone()),
                _ => odd(rng, &schema["items"], &mut items[n]),
            }
        }
        _ => *value = any(rng, schema, 3),
    }
}

fn requires(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
}

/// Any value of a schema.
fn any(rng: &mut Rng, schema: &Value, deep: usize) -> Value {
    if let Some(values) = schema["enum"].as_array() {
        return values[rng.index(values.len())].clone();
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return if rng.one_in(2) { number(rng, schema) } else { text(rng, schema) };
    }
    match schema["type"].as_str() {
        Some("string") => text(rng, schema),
        Some("integer") => number(rng, schema),
        Some("number") => json!(rng.pick(&[0.0, -0.0, 1e-300, 1e300, 0.1, f64::MAX, -1.5])),
        Some("boolean") => json!(rng.one_in(2)),
        Some("array") => {
            let most = schema["maxItems"].as_u64().unwrap_or(40).min(40);
            let least = schema["minItems"].as_u64().unwrap_or(0);
            let len = if deep == 0 { least } else { rng.pick(&[0, 1, 2, most]).max(least) };
            (0..len).map(|_| any(rng, &schema["items"], deep.saturating_sub(1))).collect()
        }
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields =
                fields.filter(|(name, _)| requires(schema, name) || (deep > 0 && rng.one_in(3))).collect::<Vec<_>>();
            let mut object: serde_json::Map<String, Value> = Default::default();
            for (name, below) in fields {
                object.insert(name.clone(), any(rng, below, deep.saturating_sub(1)));
            }
            if schema["additionalProperties"].is_object() && deep > 0 {
                for _ in 0..rng.below(3) {
                    let name = rng.pick(&NAMES).to_owned();
                    object.insert(name, any(rng, &schema["additionalProperties"], deep - 1));
                }
            }
            object.into()
        }
        // Anything goes.
        _ => rng.pick(&[0, 1, 2]).into(),
    }
}

fn number(rng: &mut Rng, schema: &Value) -> Value {
    let least = schema["minimum"].as_f64().unwrap_or(-2_147_483_648.0) as i64;
    let most = schema["maximum"].as_f64().unwrap_or(2_147_483_647.0) as i64;
    json!(rng.pick(&[least, most, 0.clamp(least, most), 1.clamp(least, most), least.midpoint(most)]))
}

const NAMES: [&str; 8] = ["app", "a/b", "x-y.z/w", "", "\u{1F980}", "-", "A B", "x-request-id"];
const TEXTS: [&str; 36] = [
    "",
    " ",
    "a",
    "s",
    "r0",
    "m",
    "(",
    "(?i)(a|b)*c{2,5}",
    "((((a{9}){9}){9}){9})",
    "(a*)*b",
    "\\p{Greek}+",
    "[[:alpha:]]",
    "(?P<x>a)(?P<x>b)",
    "^$",
    ".*",
    "\\",
    "\u{0}",
    "\n",
    "\u{202e}gpj.exe",
    "Größe",
    "模型",
    "\u{1F980}\u{1F980}",
    "e\u{301}",
    "0",
    "-1",
    "1e9",
    "1s",
    "0s",
    "9999999h",
    "1ns",
    "http://[::1]:1/",
    "https://h\u{e9}te/%",
    "https://a:b@c:99999/?q#f",
    "../../etc/passwd",
    "${HOME}",
    "{{ a }}{% for x in y %}",
];

fn text(rng: &mut Rng, schema: &Value) -> Value {
    let most = schema["maxLength"].as_u64().unwrap_or(2_000).min(20_000) as usize;
    let part = rng.pick(&TEXTS);
    let text = match rng.below(4) {
        0 => part.repeat(most / part.chars().count().max(1)),
        1 => format!("{part}{}", rng.pick(&TEXTS)),
        _ => part.to_owned(),
    };
    text.chars().take(most).collect::<String>().into()
}
