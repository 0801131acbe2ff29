//! What an API server does with an object and a structural schema, done by us: drop nulls, apply defaults, check. The rules
//! in CEL are not read here; each kind's `validate` has them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Unknown;
use crate::problem::{At, Problems};

/// Applies nulls and defaults to the value, and notes what does not fit the schema.
pub(super) fn conform(schema: &Value, value: &mut Value, unknown: Unknown, at: &At<'_>, problems: &mut Problems) {
    if schema["x-kubernetes-int-or-string"] == true {
        match value {
            Value::String(text) => string(schema, text, at, problems),
            Value::Number(number) if !number.is_f64() => {}
            other => problems.add(at, format!("must be an integer or a string, not {}", shown(other))),
        }
        return;
    }
    match (schema["type"].as_str(), value) {
        (None, _) => {}
        (Some("object"), Value::Object(fields)) => object(schema, fields, unknown, at, problems),
        (Some("array"), Value::Array(items)) => array(schema, items, unknown, at, problems),
        (Some("string"), Value::String(text)) => string(schema, text, at, problems),
        (Some("integer"), Value::Number(number)) if !number.is_f64() => {
            range(schema, number, at, problems);
        }
        (Some("number"), Value::Number(number)) => range(schema, number, at, problems),
        (Some("boolean"), Value::Bool(_)) => {}
        (Some("string"), other) => {
            problems.add(at, format!("must be a string, not {}: put it in quotes", shown(other)))
        }
        (Some(wanted), other) => problems.add(at, format!("must be {}, not {}", article(wanted), shown(other))),
    }
}

fn object(schema: &Value, fields: &mut Map<String, Value>, unknown: Unknown, at: &At<'_>, problems: &mut Problems) {
    fields.retain(|_, value| !value.is_null());
    let properties = schema["properties"].as_object();
    for (name, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default")
            && !fields.contains_key(name)
        {
            fields.insert(name.clone(), default.clone());
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        problems.require(fields.contains_key(name), &at.field(name), "is missing: this field is required");
    }
    bounds(schema, ("minProperties", "maxProperties"), fields.len(), "entries", at, problems);
    let rest = &schema["additionalProperties"];
    let kept = rest == &Value::Bool(true) || schema["x-kubernetes-preserve-unknown-fields"] == true;
    let mut dropped = Vec::new();
    for (name, value) in fields.iter_mut() {
        if let Some(property) = properties.and_then(|known| known.get(name)) {
            conform(property, value, unknown, &at.field(name), problems);
        } else if rest.is_object() {
            conform(rest, value, unknown, &at.key(name), problems);
        } else if !kept && unknown == Unknown::Drop {
            dropped.push(name.clone());
        } else if !kept {
            problems.add(&at.field(name), no_such_field(name, properties));
        }
    }
    for name in dropped {
        fields.remove(&name);
    }
}

fn no_such_field(name: &str, properties: Option<&Map<String, Value>>) -> String {
    let similar = properties.into_iter().flat_map(Map::keys).find(|known| known.eq_ignore_ascii_case(name));
    let known = || properties.into_iter().flat_map(Map::keys).map(String::as_str).collect::<Vec<_>>().join(", ");
    match similar {
        Some(similar) => format!("no such field: write {similar}"),
        None if properties.is_some_and(|p| p.len() <= 16) => format!("no such field: there are {}", known()),
        None => "no such field: remove it, or correct its name".to_owned(),
    }
}

fn array(schema: &Value, items: &mut [Value], unknown: Unknown, at: &At<'_>, problems: &mut Problems) {
    bounds(schema, ("minItems", "maxItems"), items.len(), "items", at, problems);
    for (index, item) in items.iter_mut().enumerate() {
        conform(&schema["items"], item, unknown, &at.item(index), problems);
    }
    let keys: Vec<&str> = match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        }
        Some("set") => Vec::new(),
        _ => return,
    };
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let key = match keys.as_slice() {
            [] => shown(item),
            keys => keys.iter().map(|key| shown(&item[*key])).collect::<Vec<_>>().join(", "),
        };
        if !seen.insert(key.clone()) {
            problems.add(&at.item(index), format!("{key} is there twice: remove one of them"));
        }
    }
}

fn string(schema: &Value, text: &str, at: &At<'_>, problems: &mut Problems) {
    if let Some(allowed) = schema["enum"].as_array() {
        let known = allowed.iter().any(|value| value == text);
        problems.require(known, at, format!("{text:?} is not known: use one of {}", choices(allowed)));
    }
    let length = text.chars().count() as u64;
    if schema["minLength"].as_u64().is_some_and(|min| length < min) {
        problems.add(at, "must not be empty");
    }
    if let Some(max) = schema["maxLength"].as_u64()
        && length > max
    {
        problems.add(at, format!("is {length} characters long, at most {max} are allowed"));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        // The patterns are our own, a test compiles all of them.
        let fits = regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        problems.require(fits, at, format!("{text:?} does not have the form {pattern}"));
    }
}

fn range(schema: &Value, number: &serde_json::Number, at: &At<'_>, problems: &mut Problems) {
    let narrow = schema["format"] == "int32";
    let bound = |name: &str, otherwise: i32| schema[name].as_f64().or(narrow.then_some(f64::from(otherwise)));
    let (min, max) = (bound("minimum", i32::MIN), bound("maximum", i32::MAX));
    let number = number.as_f64().unwrap_or(f64::NAN);
    if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
        let sentence = match (min, max) {
            (Some(min), Some(max)) if max < f64::from(i32::MAX) => {
                format!("{number} is out of range, use {min} to {max}")
            }
            (Some(min), _) if number < min => format!("{number} is too small, use at least {min}"),
            (_, max) => format!("{number} is too large, use at most {}", max.unwrap_or(f64::MAX)),
        };
        problems.add(at, sentence);
    }
}

fn bounds(schema: &Value, names: (&str, &str), found: usize, what: &str, at: &At<'_>, problems: &mut Problems) {
    let found = found as u64;
    if let Some(min) = schema[names.0].as_u64()
        && found < min
    {
        problems.add(at, format!("has {found} {what}, at least {min} must be there"));
    }
    if let Some(max) = schema[names.1].as_u64()
        && found > max
    {
        problems.add(at, format!("has {found} {what}, at most {max} are allowed"));
    }
}

fn choices(allowed: &[Value]) -> String {
    allowed.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn article(kind: &str) -> String {
    match kind {
        "object" => "an object with fields".to_owned(),
        "array" => "a list".to_owned(),
        "integer" => "an integer".to_owned(),
        other => format!("a {other}"),
    }
}

/// The value in a sentence: short.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "nothing".to_owned(),
        other => {
            let text = other.to_string();
            text.chars().take(60).collect()
        }
    }
}

#[cfg(test)]
mod tests;
