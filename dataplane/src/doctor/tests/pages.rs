//! Findings and the pages of `tuning/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

/// Pages that are about what the doctor does not look at.
const NO_FINDING: [&str; 2] = ["tuning/busy-polling.md", "tuning/cores.md"];

/// Hosts whose findings link all pages that any finding links.
fn hosts() -> Vec<Host> {
    let errors = [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EINVAL];
    errors.into_iter().flat_map(|error| [refused(error), filtered(error)]).chain([good()]).collect()
}

#[test]
fn each_page_of_tuning_is_linked_by_a_finding_or_known_to_be_about_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let findings = hosts().into_iter().flat_map(|host| examine(&host, &AUTO).findings);
    let linked: BTreeSet<_> =
        findings.map(|finding| finding.page[finding.page.find("tuning/").unwrap()..].to_owned()).collect();
    let stated = linked.iter().map(String::as_str).chain(NO_FINDING);
    let index = fs::read_to_string(root.join("tuning/README.md")).unwrap();
    let there =
        fs::read_dir(root.join("tuning")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: Vec<_> = there.filter(|name| name != "README.md").collect();
    for name in &there {
        assert!(index.contains(&format!("({name}")), "tuning/README.md does not link {name}");
    }
    let pages: BTreeSet<_> =
        there.iter().filter(|name| name.ends_with(".md")).map(|name| format!("tuning/{name}")).collect();
    assert_eq!(stated.map(str::to_owned).collect::<BTreeSet<_>>(), pages);
    for page in pages {
        let text = fs::read_to_string(root.join(&page)).unwrap();
        for part in ["## What", "## Why", "## How to set it"] {
            assert!(text.contains(part), "{page} lacks {part}");
        }
        // The index says the same.
        let row =
            index.lines().find(|row| row.starts_with('|') && row.contains(&format!("({})", &page["tuning/".len()..])));
        let asked = row.unwrap_or_else(|| panic!("{page} has no row")).split('|').nth(2).unwrap().trim() != "-";
        assert_eq!(asked, linked.contains(&page), "tuning/README.md: {row:?}");
    }
}

#[test]
fn io_uring_that_is_refused_links_the_page_about_what_refuses_it() {
    let page = |host: &Host, wish: &Wish| {
        let report = examine(host, wish);
        let page = &report.findings.iter().find(|finding| finding.knob == Knob::IoDriver).unwrap().page;
        page[page.rfind('/').unwrap() + 1..].to_owned()
    };
    assert_eq!(page(&filtered(libc::EPERM), &AUTO), "seccomp.md");
    assert_eq!(page(&filtered(libc::ENOSYS), &URING), "seccomp.md");
    // Which has a row for either.
    let both = Host { io_uring_disabled: Some(2), ..filtered(libc::EPERM) };
    assert_eq!(page(&both, &AUTO), "io-driver.md");
    assert_eq!(page(&refused(libc::ENOMEM), &AUTO), "memory.md");
    assert_eq!(page(&refused(libc::EINVAL), &AUTO), "kernel.md");
    assert_eq!(page(&Host { ring: Ring::Refused(None), ..good() }, &AUTO), "kernel.md");
    // What nobody wants, nobody refuses.
    assert_eq!(page(&filtered(libc::EPERM), &EPOLL), "io-driver.md");
    assert_eq!(page(&Host { epoll_forced: true, ..filtered(libc::EPERM) }, &AUTO), "io-driver.md");
    assert_eq!(page(&good(), &AUTO), "io-driver.md");
}
