//! Where the decoder is, written out only when something is wrong there; and what was found wrong so far.

use std::fmt;

use super::{Object, Problem, Reason};
use crate::limits::MAX_PROBLEMS;

/// A place in the input, by steps back to its root.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'static str),
    Item(&'static str, usize),
    Entry(&'static str, &'a str),
}

impl<'a> Path<'a> {
    pub(crate) fn root() -> Self {
        Self { parent: None, step: Step::Root }
    }

    pub(crate) fn field(&'a self, name: &'static str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    pub(crate) fn item(&'a self, list: &'static str, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Item(list, index) }
    }

    pub(crate) fn entry(&'a self, map: &'static str, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Entry(map, key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if !matches!(parent.step, Step::Root) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => f.write_str(name),
            Step::Item(list, index) => write!(f, "{list}[{index}]"),
            Step::Entry(map, key) => write!(f, "{map}[{key:?}]"),
        }
    }
}

/// Problems found so far, and the object that is being decoded.
#[derive(Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    unlisted: usize,
    /// What the next problems are attributed to.
    pub(crate) object: Option<Object>,
}

impl Problems {
    pub(crate) fn add(&mut self, at: &Path<'_>, reason: Reason) {
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(Problem { object: self.object.clone(), path: at.to_string(), reason });
        } else {
            self.unlisted += 1;
        }
    }

    /// The value, if nothing was wrong.
    pub(crate) fn finish<T>(mut self, value: T) -> Result<T, Vec<Problem>> {
        if self.list.is_empty() {
            return Ok(value);
        }
        if self.unlisted > 0 {
            self.list.push(Problem { object: None, path: String::new(), reason: Reason::More(self.unlisted) });
        }
        Err(self.list)
    }
}
