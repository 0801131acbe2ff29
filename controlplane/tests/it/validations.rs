//! Each validation of the references has a case in the corpus, with the verdict that they give or with the grounds of another
//! (`tests/reference/validations.tsv`), and the objects that Kthena ships as examples are accepted.

use std::collections::BTreeMap;

use crate::corpus::{Case, corpus};
use crate::table::rows;

fn verdict(case: &Case) -> &'static str {
    if case.expect.refused_by.is_some() { "refused" } else { "accepted" }
}

#[test]
fn each_validation_of_the_references_has_a_case_of_its_verdict() {
    let cases = corpus();
    let mut by_name = BTreeMap::new();
    for (file, case) in &cases {
        let other = by_name.insert((file.as_str(), case.name.as_str()), case);
        assert!(other.is_none(), "{file}: two cases are called {}", case.name);
    }
    let mut wrong = Vec::new();
    let rows = rows("validations.tsv", ["reference", "validation", "kthena", "file", "case", "ours", "why"]);
    for [reference, validation, kthena, file, case, ours, why] in &rows {
        let differs = ours != "same";
        let expected = if differs { ours } else { kthena };
        let found = by_name.get(&(file.as_str(), case.as_str())).map(|case| verdict(case));
        if found != Some(expected.as_str()) || differs == (ours == kthena || why == "-") {
            wrong.push(format!("{reference}: {validation}: {expected}: {file}: {case}: {found:?}, why: {why}"));
        }
    }
    assert!(rows.len() >= 190, "{} validations", rows.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// Objects that users of Kthena have. What is refused of them says in its name why.
#[test]
fn what_kthena_ships_and_shipped_is_accepted_or_says_why_not() {
    let (mut shipped, mut earlier) = (0, 0);
    for (file, case) in corpus() {
        match file.as_str() {
            "shipped-router" | "shipped-workload" => {
                shipped += 1;
                assert_eq!(verdict(&case), "accepted", "{file}: {}", case.name);
            }
            "earlier-releases" => {
                earlier += 1;
                assert_eq!(verdict(&case) == "refused", case.name.contains(", refused: "), "{file}: {}", case.name);
            }
            _ => {}
        }
    }
    assert!(shipped >= 37 && earlier >= 11, "{shipped} shipped, {earlier} of earlier releases");
}
