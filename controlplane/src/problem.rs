//! What is wrong with an object, and where.

use std::fmt;

/// One fault: the field, and a sentence that says what to do. Displayed as `path: sentence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// As `spec.rules[0].targetModels[1].weight`; empty where the whole object is meant.
    pub path: String,
    /// What is wrong and what to do.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.sentence),
            path => write!(f, "{path}: {}", self.sentence),
        }
    }
}

impl std::error::Error for Problem {}

/// Where in an object something is. Made on the way down, written out only when there is a problem.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The object itself.
    Root,
    /// A field of an object.
    Field(&'a At<'a>, &'a str),
    /// An entry of a map.
    Key(&'a At<'a>, &'a str),
    /// An item of a list.
    Item(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// A field of what is here.
    pub fn field(&'a self, name: &'a str) -> At<'a> {
        At::Field(self, name)
    }

    /// An entry of the map that is here.
    pub fn key(&'a self, key: &'a str) -> At<'a> {
        At::Key(self, key)
    }

    /// An item of the list that is here.
    pub fn item(&'a self, index: usize) -> At<'a> {
        At::Item(self, index)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Field(At::Root, name) => f.write_str(name),
            At::Field(parent, name) => write!(f, "{parent}.{name}"),
            At::Key(parent, key) => write!(f, "{parent}[{key}]"),
            At::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The `spec` of an object.
pub static SPEC: At<'static> = At::Field(&At::Root, "spec");

/// All that was found so far.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem. The first one of a field is kept: others follow from it.
    pub fn add(&mut self, at: &At<'_>, sentence: impl Into<String>) {
        let path = at.to_string();
        if !self.0.iter().any(|known| known.path == path) {
            self.0.push(Problem { path, sentence: sentence.into() });
        }
    }

    /// Notes a problem unless the condition holds.
    pub fn require(&mut self, holds: bool, at: &At<'_>, sentence: impl Into<String>) {
        if !holds {
            self.add(at, sentence);
        }
    }

    /// Takes over what another check found.
    pub fn extend(&mut self, others: Vec<Problem>) {
        for other in others {
            if !self.0.iter().any(|known| known.path == other.path) {
                self.0.push(other);
            }
        }
    }

    /// All of them, or the value where there are none.
    pub fn or<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}
