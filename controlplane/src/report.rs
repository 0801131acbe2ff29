//! What `check`, `build` and `serve` say about a reading: errors, which an API server would answer to `kubectl apply`, and warnings,
//! which would show in conditions.

use std::fmt::Write as _;

use crate::publish::{Condition, Reason, Verdicts};
use crate::source::Reading;
use crate::world::{Kind, ObjectName, Seniority};

/// Sentences: those of the files, then those of the objects.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Report {
    pub(crate) fn of(reading: &Reading, verdicts: &Verdicts) -> Self {
        let mut report = Self { errors: reading.faults.iter().map(ToString::to_string).collect(), ..Self::default() };
        let world = &reading.world;
        // Of thousands nothing is wrong with most, and each build is reported.
        let routes = verdicts.routes.iter().filter(|(_, of)| !(of.accepted.holds && of.resolved_refs.holds));
        for (name, verdict) in routes {
            let at = place("ModelRoute", name, &world.routes);
            report.condition(&at, &verdict.accepted, readable(name, &world.routes));
            report.condition(&at, &verdict.resolved_refs, true);
        }
        let servers = verdicts.servers.iter();
        for (name, verdict) in servers.filter(|(_, of)| !(of.accepted.holds && of.ready.holds && of.notes.is_empty())) {
            let at = place("ModelServer", name, &world.servers);
            report.condition(&at, &verdict.accepted, readable(name, &world.servers));
            if verdict.accepted.holds {
                report.condition(&at, &verdict.ready, true);
            }
            report.warnings.extend(verdict.notes.iter().map(|note| format!("{at}{note}")));
        }
        for (name, verdict) in &verdicts.providers {
            let at = place("ExternalModelProvider", name, &world.providers);
            report.condition(&at, &verdict.accepted, readable(name, &world.providers));
            report.condition(&at, &verdict.credentials, true);
        }
        if let Some(verdict) = &verdicts.scheduler {
            let at = format!("ConfigMap {}: ", verdict.name);
            let readable = world.scheduler.as_ref().is_none_or(|scheduler| scheduler.held.spec.is_ok());
            report.condition(&at, &verdict.accepted, readable);
            report.warnings.extend(verdict.notes.iter().map(|note| format!("{at}{note}")));
        }
        report
    }

    /// Whether something would be refused.
    pub(crate) fn is_bad(&self) -> bool {
        !self.errors.is_empty()
    }

    /// All of it, one a line.
    pub(crate) fn problems(&self) -> String {
        let mut text = String::new();
        for error in &self.errors {
            let _ = writeln!(text, "error: {error}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }

    /// `readable` is false where the reading's faults have said it already.
    fn condition(&mut self, at: &str, condition: &Condition, readable: bool) {
        let Condition { holds, reason, message } = condition;
        match reason {
            _ if *holds || !readable => {}
            Reason::Invalid => self.errors.extend(message.split("; ").map(|sentence| format!("{at}{sentence}"))),
            reason => self.warnings.push(format!("{at}{reason}: {message}")),
        }
    }
}

fn place<T>(kind: &str, name: &ObjectName, objects: &Kind<T>) -> String {
    match objects.get(name).map(|held| &held.seniority) {
        Some(Seniority::Listed { file, position }) => {
            format!("{}: object {} ({kind} {name}): ", file.display(), position + 1)
        }
        _ => format!("{kind} {name}: "),
    }
}

fn readable<T>(name: &ObjectName, objects: &Kind<T>) -> bool {
    objects.get(name).is_none_or(|held| held.spec.is_ok())
}
