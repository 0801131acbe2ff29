//! What the chart's accounts asked the API server for in all that a test did, beside the rights that the chart gives them.

use std::fs;

use perf_tests::helm::Render;
use perf_tests::rights::{Account, Findings, asked, compare, granted};

use super::site::Site;

fn findings(site: &Site, set: &[&str], name: &str) -> Findings {
    let objects = Render { set, namespace: &site.namespace, ..Render::default() }.objects().unwrap();
    let account = Account { namespace: &site.namespace, name };
    let asked = asked(&fs::read_to_string(site.cluster.audit_log()).unwrap(), account);
    assert!(!asked.is_empty(), "{name} asked for nothing");
    compare(&granted(&objects, account).unwrap(), &asked)
}

/// All that it may and no more.
pub fn exactly(site: &Site, set: &[&str], name: &str) {
    assert_eq!(findings(site, set, name).to_string(), "", "{name}");
}

/// Nothing that it may not, though not all that it may: that takes a life of its own (`rights`).
pub fn no_more_than_it_may(site: &Site, set: &[&str], name: &str) {
    let found = Findings { unneeded: Vec::new(), ..findings(site, set, name) };
    assert_eq!(found.to_string(), "", "{name}");
}
