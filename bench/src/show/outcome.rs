//! What came of a run, and whether it is what was promised.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::runner::machine::{self, Machine};

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// A number beside its promise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was measured.
    pub what: String,
    /// In the unit that `what` names.
    pub value: f64,
    /// What was promised.
    pub bound: Bound,
    /// Whether the promise was kept.
    pub met: bool,
}

impl Check {
    /// Compares.
    pub fn new(what: impl Into<String>, value: f64, bound: Bound) -> Self {
        let met = match bound {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        };
        Self { what: what.into(), value, bound, met }
    }
}

/// A run, as it is written to its file.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Which run.
    pub name: String,
    /// How it is measured: against what, over what, from when until when.
    pub method: String,
    /// Where, when, of which revision, by which command.
    pub machine: Machine,
    /// What it had to show.
    pub checks: Vec<Check>,
    /// Everything that was counted.
    pub numbers: Value,
}

impl Outcome {
    /// Of this machine, now.
    pub fn new(name: &str, method: &str, checks: Vec<Check>, numbers: Value) -> Self {
        Self { name: name.to_owned(), method: method.to_owned(), machine: machine::look(), checks, numbers }
    }

    /// Whether every promise was kept.
    pub fn met(&self) -> bool {
        self.checks.iter().all(|check| check.met)
    }

    /// Writes `<date>-must-show-<name>.json`.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}-must-show-{}.json", self.machine.date, self.name));
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    /// A line for each check.
    pub fn table(&self) -> String {
        let line = |check: &Check| {
            let bound = match check.bound {
                Bound::AtMost(most) => format!("<= {most}"),
                Bound::AtLeast(least) => format!(">= {least}"),
            };
            let verdict = if check.met { "pass" } else { "FAIL" };
            format!("{:8} {:64} {:>12.3} {bound:>10}  {verdict}\n", self.name, check.what, check.value)
        };
        self.checks.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_up_to_its_figure() {
        let check = |value, bound, met| assert_eq!(Check::new("x", value, bound).met, met, "{value} {bound:?}");
        check(1.0, Bound::AtMost(1.0), true);
        check(1.1, Bound::AtMost(1.0), false);
        check(0.97, Bound::AtLeast(0.97), true);
        check(f64::NAN, Bound::AtLeast(0.97), false);
        check(f64::NAN, Bound::AtMost(0.97), false);
    }
}
