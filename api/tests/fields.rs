//! What data planes and control planes of other releases read of each other: a field keeps its number and its type for good. `proto/fields.txt` has
//! all that there ever were.

// A test binary has no outside.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

/// Fields as `Message.name = number type`, and numbers that are given to nobody any more as `Message = number`.
fn read(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut fields, mut reserved) = (BTreeSet::new(), BTreeSet::new());
    let mut within: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap().trim();
        if let Some(opened) = line.strip_suffix('{') {
            let mut words = opened.split_whitespace();
            within.push((words.next().unwrap(), words.next().unwrap()));
            continue;
        }
        if line == "}" {
            within.pop().expect("braces match");
            continue;
        }
        // A oneof is no place of its own on the wire.
        let place: Vec<_> = within.iter().filter(|(kind, _)| *kind != "oneof").map(|(_, name)| *name).collect();
        let place = place.join(".");
        if let Some(numbers) = line.strip_prefix("reserved ") {
            let numbers = numbers.trim_end_matches(';').split(',').filter_map(|n| n.trim().parse::<u32>().ok());
            reserved.extend(numbers.map(|number| format!("{place} = {number}")));
        } else if let Some((left, right)) = line.split_once('=').filter(|_| !place.is_empty()) {
            let number = right.split([';', '[']).next().unwrap().trim();
            let (kind, name) = left.trim().rsplit_once(' ').unwrap_or(("", left.trim()));
            fields.insert(format!("{place}.{name} = {number} {kind}").trim_end().to_owned());
        }
    }
    assert!(within.is_empty(), "braces match");
    (fields, reserved)
}

/// The message and the number of a field.
fn place(field: &str) -> String {
    let (path, rest) = field.split_once(" = ").unwrap();
    let (message, number) = (path.rsplit_once('.').unwrap().0, rest.split(' ').next().unwrap());
    format!("{message} = {number}")
}

#[test]
fn a_field_keeps_its_number_and_its_type_for_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let ever = std::fs::read_to_string(folder.join("fields.txt")).unwrap();
    let ever: BTreeSet<_> = ever.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let (mut fields, mut reserved) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            let (more, gone) = read(&std::fs::read_to_string(&path).unwrap());
            fields.extend(more);
            reserved.extend(gone);
        }
    }
    assert!(fields.len() > 300, "{} fields were found", fields.len());
    let lost: Vec<_> = ever.difference(&fields).filter(|field| !reserved.contains(&place(field))).collect();
    assert!(lost.is_empty(), "other releases read these as they were; reserve the number of one that goes: {lost:#?}");
    let given: Vec<_> = fields.iter().filter(|field| reserved.contains(&place(field))).collect();
    assert!(given.is_empty(), "these numbers were another field's: {given:#?}");
    let new: Vec<_> = fields.difference(&ever).collect();
    assert!(new.is_empty(), "add to api/proto/fields.txt what is new: {new:#?}");
}

#[test]
fn fields_are_read_with_their_places() {
    let text = "syntax = \"proto3\";\nmessage A { // of two\n  reserved 3, 5;\n  oneof x {\n    B b = 1;\n  }\n  map<string, C.D> m = 2; // such\n  \
                enum E {\n    NONE = 0;\n  }\n}\n";
    let (fields, reserved) = read(text);
    assert_eq!(fields, ["A.E.NONE = 0", "A.b = 1 B", "A.m = 2 map<string, C.D>"].map(str::to_owned).into());
    assert_eq!(reserved, ["A = 3", "A = 5"].map(str::to_owned).into());
}
