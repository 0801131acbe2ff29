//! What came of it, for people and for scripts.

use std::fmt;

use serde::Serialize;

use super::Knob;

/// The judgement on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The driver that will run; none where the process will not start.
    pub driver: Option<&'static str>,
    /// Why it is this one.
    pub why: String,
    /// One for each knob.
    pub findings: Vec<Finding>,
}

/// The judgement on one knob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which one.
    pub knob: Knob,
    /// How it stands with it.
    pub state: State,
    /// What was found.
    pub found: String,
    /// The one line that mends it; none where nothing has to be mended.
    pub mend: Option<String>,
    /// The page that says why.
    pub page: String,
}

/// How it stands with a knob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As advised.
    Fine,
    /// It could not be read.
    Unknown,
    /// It will run, but not as well as it could.
    Advice,
    /// It will not start.
    Fatal,
}

impl Report {
    /// The worst state of all.
    pub fn worst(&self) -> State {
        self.findings.iter().map(|finding| finding.state).max().unwrap_or(State::Fine)
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Unknown => "unknown",
            Self::Advice => "advice",
            Self::Fatal => "FATAL",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "driver: {} ({})", self.driver.unwrap_or("none: it will not start"), self.why)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8}{:16}{}", self.state.word(), self.knob.name(), self.found)?;
        match &self.mend {
            Some(mend) => write!(f, "\n{:24}mend: {mend}\n{:24}see {}", "", "", self.page),
            None => Ok(()),
        }
    }
}
