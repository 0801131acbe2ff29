//! An explanation in words.

use std::fmt;

use api::snapshot::{Backend, Endpoint, Role, StringMatch};

use super::{Choice, End, Explanation, Miss, Named};

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model {:?}, path {}", self.query.model, self.query.path)?;
        for tried in &self.tried {
            let by = match tried.named {
                Named::Model => "answers for this model",
                Named::Adapter => "answers for it as a LoRA adapter",
            };
            writeln!(f, "  route {}: {by}", tried.route)?;
            for (i, (name, miss)) in tried.rules.iter().enumerate() {
                match miss {
                    None => writeln!(f, "    {}: all conditions hold", Label(i, name))?,
                    Some(miss) => writeln!(f, "    {}: no, {miss}", Label(i, name))?,
                }
            }
            if tried.rules.is_empty() {
                writeln!(f, "    it has no rules")?;
            }
        }
        match &self.end {
            None if self.tried.is_empty() => writeln!(f, "no published route has this model: 404, route not found"),
            None => writeln!(f, "no rule holds: 404, route not found"),
            Some(end) => fmt::Display::fmt(end, f),
        }
    }
}

struct Label<'s>(usize, &'s str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}", self.0 + 1)?;
        if self.1.is_empty() { Ok(()) } else { write!(f, " {:?}", self.1) }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, text) = match &self.wanted {
            StringMatch::Exact(text) => ("is not", text),
            StringMatch::Prefix(text) => ("does not begin with", text),
            StringMatch::Regex(text) => ("does not match", text),
        };
        match self.found.as_str() {
            "" => write!(f, "{} is absent or empty, which {how} {text:?}", self.what),
            found => write!(f, "{} is {found:?}, which {how} {text:?}", self.what),
        }
    }
}

impl fmt::Display for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "goes by route {}, rule {}, to", self.route, self.rule + 1)?;
        self.choices.iter().try_for_each(|choice| write_choice(f, choice, self.named))
    }
}

fn write_choice(f: &mut fmt::Formatter<'_>, choice: &Choice<'_>, named: Named) -> fmt::Result {
    let Choice { backend: name, share, found } = choice;
    write!(f, "  {share:5.1} %  {name}: ")?;
    let Some(backend) = found else {
        return writeln!(f, "is not there, requests are answered 404");
    };
    match (&backend.model, named) {
        (Some(model), Named::Model) => write!(f, "{:?}, model becomes {model:?}", backend.engine)?,
        _ => write!(f, "{:?}, model name is kept", backend.engine)?,
    }
    let serving = |backend: &Backend| backend.endpoints.iter().filter(|e| e.role != Role::Prefill).count();
    match serving(backend) {
        0 => writeln!(f, ", no endpoint: requests are answered 503")?,
        n => writeln!(f, ", {n} {}", if n == 1 { "endpoint" } else { "endpoints" })?,
    }
    const SHOWN: usize = 20;
    for endpoint in backend.endpoints.iter().take(SHOWN) {
        write_endpoint(f, endpoint)?;
    }
    match backend.endpoints.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "           and {more} more"),
    }
}

fn write_endpoint(f: &mut fmt::Formatter<'_>, endpoint: &Endpoint) -> fmt::Result {
    write!(f, "           {} {}", endpoint.name, endpoint.address)?;
    match endpoint.role {
        Role::Both => {}
        Role::Prefill => write!(f, " prefill")?,
        Role::Decode => write!(f, " decode")?,
    }
    if let Some(group) = &endpoint.group {
        write!(f, " group {group}")?;
    }
    for place in [&endpoint.node, &endpoint.zone].into_iter().flatten() {
        write!(f, " {place}")?;
    }
    writeln!(f)
}
