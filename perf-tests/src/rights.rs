//! Rights that objects grant to a service account, beside what it was seen to ask for: whether each right is needed, and whether any is missing.
//!
//! A right is one verb of one resource, and of one name where the rule has names: as small as a rule can be cut. It is needed where a request
//! was seen that no other right allows: taking it away would have that request refused. What was asked comes from the API server's audit log, in
//! which a denied request is, too. A creation by server-side apply is a patch there; the API server asks for the right to create as well.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What may be done to what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// As RBAC calls it.
    pub verb: String,
    /// What it is done to.
    pub to: To,
    /// Where; in all namespaces and outside of them where there is none.
    pub namespace: Option<String>,
}

/// What something is done to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// Objects.
    Objects {
        /// Empty for the core group.
        group: String,
        /// Plural, with its subresource: `pods/status`.
        resource: String,
        /// Any where there is none.
        name: Option<String>,
    },
    /// A path of the API server's that is no object.
    Path(String),
}

/// A request as the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The smallest right that allows it.
    pub right: Right,
    /// Whether it was refused for want of a right.
    pub refused: bool,
}

/// What is wrong with the rights of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Requests that were refused.
    pub refused: Vec<Right>,
    /// Requests that none of the rights allows; somebody else's did.
    pub uncovered: Vec<Right>,
    /// Rights without which every request would have been allowed all the same.
    pub unneeded: Vec<Right>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Path(path) => write!(f, "{} {path}", self.verb)?,
            To::Objects { group, resource, name } => {
                let dot = if group.is_empty() { "" } else { "." };
                write!(f, "{} {resource}{dot}{group}", self.verb)?;
                name.iter().try_for_each(|name| write!(f, " {name}"))?;
            }
        }
        self.namespace.iter().try_for_each(|namespace| write!(f, " in {namespace}"))
    }
}

impl Right {
    /// Whether this allows what the other one would.
    pub fn covers(&self, other: &Self) -> bool {
        let to = match (&self.to, &other.to) {
            (To::Path(ours), To::Path(theirs)) => ours == theirs,
            (To::Objects { group, resource, name }, To::Objects { group: theirs, resource: asked, name: of }) => {
                (group, resource) == (theirs, asked) && (name.is_none() || name == of)
            }
            _ => false,
        };
        to && self.verb == other.verb && (self.namespace.is_none() || self.namespace == other.namespace)
    }
}

/// An account as RBAC's subjects name it.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// The rights that bindings among these objects give to an account, cut as small as can be. One that is given twice is an error: taking away one of the two
/// would be seen by nobody.
pub fn granted(objects: &[Value], account: Account<'_>) -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    let bindings = objects.iter().filter(|object| kind(object).ends_with("RoleBinding"));
    for binding in bindings.filter(|binding| binds(binding, account)) {
        let namespace = (kind(binding) == "RoleBinding").then(|| text(&binding["metadata"]["namespace"]));
        let wanted = &binding["roleRef"];
        let is_role = |object: &&Value| {
            let here = kind(object) != "Role" || object["metadata"]["namespace"] == binding["metadata"]["namespace"];
            object["kind"] == wanted["kind"] && object["metadata"]["name"] == wanted["name"] && here
        };
        let role = objects.iter().find(is_role).with_context(|| format!("{wanted} is not there"))?;
        for (verb, to) in role["rules"].as_array().into_iter().flatten().flat_map(cut) {
            let right = Right { verb, to, namespace: namespace.clone() };
            let said = right.to_string();
            ensure!(rights.insert(right), "{said} is given twice");
        }
    }
    Ok(rights)
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn binds(binding: &Value, account: Account<'_>) -> bool {
    let subjects = binding["subjects"].as_array().into_iter().flatten();
    subjects.into_iter().any(|subject| {
        subject["kind"] == "ServiceAccount"
            && subject["name"] == account.name
            && subject["namespace"] == account.namespace
    })
}

fn cut(rule: &Value) -> Vec<(String, To)> {
    let (verbs, paths, groups) = (texts(&rule["verbs"]), texts(&rule["nonResourceURLs"]), texts(&rule["apiGroups"]));
    let (resources, names) = (texts(&rule["resources"]), texts(&rule["resourceNames"]));
    let names: Vec<_> = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
    let mut targets: Vec<To> = paths.into_iter().map(To::Path).collect();
    for group in &groups {
        for resource in &resources {
            let of = |name: &Option<String>| To::Objects {
                group: group.clone(),
                resource: resource.clone(),
                name: name.clone(),
            };
            targets.extend(names.iter().map(of));
        }
    }
    targets.into_iter().flat_map(|to| verbs.iter().map(move |verb| (verb.clone(), to.clone()))).collect()
}

/// What an account asked for, by the lines of an audit log. What every account may, such as to look which kinds there are, is left out.
pub fn asked(log: &str, account: Account<'_>) -> BTreeSet<Asked> {
    let user = format!("system:serviceaccount:{}:{}", account.namespace, account.name);
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = events.filter(|event| event["user"]["username"] == *user && event["stage"] != "RequestReceived");
    ours.flat_map(|event| requests(&event)).collect()
}

fn requests(event: &Value) -> Vec<Asked> {
    let verb = text(&event["verb"]);
    let refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
    let object = &event["objectRef"];
    let Some(resource) = object["resource"].as_str() else {
        let path = text(&event["requestURI"]).split('?').next().unwrap_or_default().to_owned();
        let anyones = ["/api", "/apis", "/version", "/openapi"].iter();
        if anyones
            .into_iter()
            .any(|root| path == *root || path.starts_with(&format!("{root}/v")) || path.starts_with("/apis/"))
        {
            return Vec::new();
        }
        return vec![Asked { right: Right { verb, to: To::Path(path), namespace: None }, refused }];
    };
    let sub = object["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
    let named = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let to = |name: Option<String>| To::Objects {
        group: text(&object["apiGroup"]),
        resource: format!("{resource}{sub}"),
        name,
    };
    let namespace = named(&object["namespace"]);
    let name = named(&object["name"]);
    let made = verb == "patch" && event["responseStatus"]["code"] == 201;
    let mut asked = vec![Asked { right: Right { verb, to: to(name), namespace: namespace.clone() }, refused }];
    if made {
        asked.push(Asked { right: Right { verb: "create".to_owned(), to: to(None), namespace }, refused });
    }
    asked
}

/// Holds the two against each other.
pub fn compare(granted: &BTreeSet<Right>, asked: &BTreeSet<Asked>) -> Findings {
    let mut needed = BTreeSet::new();
    let mut findings = Findings::default();
    for Asked { right, refused } in asked {
        let covering: Vec<_> = granted.iter().filter(|granted| granted.covers(right)).collect();
        match (&covering[..], refused) {
            (_, true) => findings.refused.push(right.clone()),
            ([], false) => findings.uncovered.push(right.clone()),
            ([only], false) => drop(needed.insert(*only)),
            _ => {}
        }
    }
    findings.unneeded = granted.iter().filter(|right| !needed.contains(right)).cloned().collect();
    findings
}

/// The rights that could be taken away one by one, and what was asked would not tell of it by name.
pub fn unmissed(granted: &BTreeSet<Right>, asked: &BTreeSet<Asked>) -> Vec<Right> {
    let is_missed = |right: &Right| {
        let fewer = granted.iter().filter(|other| *other != right).cloned().collect();
        compare(&fewer, asked).uncovered.iter().any(|missing| right.covers(missing))
    };
    granted.iter().filter(|right| !is_missed(right)).cloned().collect()
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("refused", &self.refused), ("not of the chart", &self.uncovered), ("not needed", &self.unneeded)];
        lists.iter().try_for_each(|(what, rights)| rights.iter().try_for_each(|right| writeln!(f, "{what}: {right}")))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(text).collect()
}

#[cfg(test)]
mod tests;
