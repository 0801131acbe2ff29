//! The definitions have the fields of the references, each with its type, default and limits, and no others but those of which
//! `tests/reference/fields.tsv` says on what grounds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use controlplane::crd;
use controlplane::object::Kind;
use serde_json::Value;

use crate::table::rows;

/// What is said of a field, by name: type, required, default, and its limits under their names in OpenAPI.
type Facts = BTreeMap<String, String>;

/// Types of Kubernetes, whose own fields the table does not list, by a field that tells them.
const OPAQUE: [(&str, &str); 8] = [
    ("Affinity", "podAffinity"),
    ("Condition", "lastTransitionTime"),
    ("EnvFromSource", "configMapRef"),
    ("EnvVar", "valueFrom"),
    ("LabelSelector", "matchExpressions"),
    ("PodSpec", "containers"),
    ("ResourceRequirements", "limits"),
    ("Toleration", "tolerationSeconds"),
];

const LIMITS: [&str; 13] = [
    "enum",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "pattern",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// What else a schema may say: its form is in the paths and types, and rules are held by `validations.tsv` and `rules.rs`.
const FORM: [&str; 11] = [
    "additionalProperties",
    "default",
    "description",
    "items",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

fn type_of(node: &Value) -> String {
    let told = |(_, field): &&(&str, &str)| node["properties"].get(field).is_some();
    if let Some((name, _)) = OPAQUE.iter().find(told) {
        return (*name).to_owned();
    }
    match node["type"].as_str() {
        _ if node["x-kubernetes-int-or-string"] == true && node["pattern"].is_string() => "Quantity".to_owned(),
        _ if node["x-kubernetes-int-or-string"] == true => "intOrString".to_owned(),
        _ if node["x-kubernetes-preserve-unknown-fields"] == true => "any".to_owned(),
        Some("integer") => node["format"].as_str().unwrap_or("integer").to_owned(),
        Some("array") => format!("[]{}", type_of(&node["items"])),
        Some("object") if node["additionalProperties"].is_object() => {
            format!("map[]{}", type_of(&node["additionalProperties"]))
        }
        Some(simple) => simple.to_owned(),
        None => panic!("no type: {node}"),
    }
}

/// As the table writes it: `a|b` for a list, 1 for 1.0.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(written).collect::<Vec<_>>().join("|"),
        Value::Number(number) => {
            number.as_f64().filter(|f| f.fract() == 0.0).map_or(number.to_string(), |f| format!("{f}"))
        }
        other => other.to_string(),
    }
}

fn in_table(name: &str) -> &str {
    match name {
        "x-kubernetes-list-type" => "listType",
        "x-kubernetes-map-type" => "mapType",
        other => other,
    }
}

fn limits(node: &Value, of: &str, facts: &mut Facts) {
    for name in node.as_object().into_iter().flat_map(serde_json::Map::keys) {
        let known = LIMITS.contains(&name.as_str()) || FORM.contains(&name.as_str());
        assert!(known, "a word that this test does not know: {name} of {node}");
    }
    let is_in_the_type = |name: &str| match name {
        "format" => node["type"] == "integer",
        "pattern" => node["x-kubernetes-int-or-string"] == true,
        _ => false,
    };
    for name in LIMITS.into_iter().filter(|name| !is_in_the_type(name)) {
        if let Some(value) = node.get(name) {
            facts.insert(format!("{of}{}", in_table(name)), written(value));
        }
    }
    if let Some(keys) = node.get("x-kubernetes-list-map-keys") {
        facts.insert("listMapKeys".to_owned(), written(keys));
    }
    for inner in ["items", "additionalProperties"].map(|name| &node[name]).into_iter().filter(|inner| inner.is_object())
    {
        if !OPAQUE.iter().any(|(name, _)| type_of(inner) == *name) {
            limits(inner, "items.", facts);
        }
    }
}

/// All fields of a schema, by path.
fn fields(node: &Value, path: &str, required: bool, found: &mut BTreeMap<String, Facts>) {
    let kind = type_of(node);
    let is_opaque = kind.trim_start_matches("map").trim_start_matches("[]").starts_with(char::is_uppercase);
    let mut facts = Facts::from([("type".to_owned(), kind)]);
    match node.get("default") {
        Some(default) => drop(facts.insert("default".to_owned(), default.to_string())),
        None if required => drop(facts.insert("required".to_owned(), "yes".to_owned())),
        None => {}
    }
    if !is_opaque || node["type"] == "array" {
        limits(node, "", &mut facts);
    }
    found.insert(path.to_owned(), facts);
    if !is_opaque {
        inner_fields(node, path, found);
    }
}

fn inner_fields(node: &Value, path: &str, found: &mut BTreeMap<String, Facts>) {
    if node["items"].is_object() {
        return inner_fields(&node["items"], &format!("{path}[]"), found);
    }
    if node["additionalProperties"].is_object() {
        return inner_fields(&node["additionalProperties"], &format!("{path}{{}}"), found);
    }
    let required: Vec<_> = node["required"].as_array().into_iter().flatten().collect();
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        fields(child, &path, required.iter().any(|other| *other == name), found);
    }
}

fn committed(kind: Kind) -> BTreeMap<String, Facts> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/crds").join(crd::file_name(kind));
    let definition: Value = serde_norway::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut found = BTreeMap::new();
    inner_fields(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut found);
    found
}

struct Row {
    path: String,
    reference: Facts,
    ours: Facts,
    why: String,
}

/// `name=value name=value`, or `-`.
fn pairs(text: &str) -> Facts {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or_else(|| panic!("no fact: {pair:?}"));
        (name.to_owned(), value.to_owned())
    };
    text.split(' ').filter(|pair| *pair != "-").map(pair).collect()
}

fn table(kind: Kind) -> Vec<Row> {
    let columns = ["kind", "path", "type", "required", "default", "limits", "ours", "why"];
    let rows = rows("fields.tsv", columns).into_iter().filter(|row| row[0] == kind.name());
    let row = |[_, path, kind, required, default, limits, ours, why]: [String; 8]| {
        let mut reference = pairs(&limits);
        reference.extend(
            [("type", kind), ("required", required), ("default", default)]
                .map(|(name, value)| (name.to_owned(), value)),
        );
        reference.retain(|_, value| value != "-");
        Row { path, reference, ours: pairs(&ours), why }
    };
    rows.map(row).collect()
}

impl Row {
    /// What the definition must say. What has a default is never missing, so it makes no difference whether it is required.
    fn expected(&self) -> Facts {
        let mut facts = self.reference.clone();
        facts.extend(self.ours.clone());
        facts.retain(|_, value| value != "-");
        if facts.contains_key("default") || facts.get("required").is_some_and(|required| required == "no") {
            facts.remove("required");
        }
        facts
    }

    /// Whether the row is in order by itself.
    fn problem(&self) -> Option<String> {
        let of_theirs = |name: &str| self.reference.get(name).map_or("-", String::as_str);
        let idle: Vec<_> = self.ours.iter().filter(|(name, value)| of_theirs(name) == value.as_str()).collect();
        match () {
            () if !idle.is_empty() => Some(format!("{}: no difference: {idle:?}", self.path)),
            () if self.ours.is_empty() != (self.why == "-") => {
                Some(format!("{}: a difference and its grounds go together", self.path))
            }
            () => None,
        }
    }
}

#[test]
fn the_definitions_have_the_fields_of_the_references() {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let (table, found) = (table(kind), committed(kind));
        wrong.extend(table.iter().filter_map(Row::problem).map(|problem| format!("{kind} {problem}")));
        let listed: BTreeSet<_> = table.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(listed.len(), table.len(), "{kind}: a field has two rows");
        let unlisted = found.keys().filter(|path| !listed.contains(path.as_str()));
        wrong.extend(unlisted.map(|path| format!("{kind} {path}: no row says it")));
        for row in &table {
            match found.get(&row.path) {
                None => wrong.push(format!("{kind} {}: not in the definition", row.path)),
                Some(facts) if *facts != row.expected() => {
                    wrong.push(format!("{kind} {}\n  expected {:?}\n  found    {facts:?}", row.path, row.expected()))
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{} fields differ:\n{}", wrong.len(), wrong.join("\n"));
}
