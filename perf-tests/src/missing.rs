//! What a test does where a tool that it needs is not installed: it is skipped, aloud. Not in CI, which has a network and root and whose `.ci/run`
//! installs all such tools: there (the variable CI is `true`) it fails, for a run that passes is to have shown everything.
//!
//! Tests of other crates include this file by its path.

use std::env;
use std::io::Write;

/// Says that the calling test is skipped for want of this tool.
///
/// # Panics
/// In CI.
#[track_caller]
pub fn skip(tool: &str) {
    match said(env::var("CI").ok().as_deref(), tool) {
        // What a test prints is kept back where it passes, and this is to be seen.
        Ok(skipped) => drop(writeln!(std::io::stderr(), "{skipped}")),
        Err(failed) => panic!("{failed}"),
    }
}

fn said(ci: Option<&str>, tool: &str) -> Result<String, String> {
    match ci {
        Some("true") => {
            Err(format!("CI is true, where nothing is skipped, and {tool} is missing: `.ci/run` installs it"))
        }
        _ => Ok(format!("SKIPPED, not passed: {tool} is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn a_missing_tool_skips_a_test_and_fails_it_in_ci() {
        for ci in [None, Some(""), Some("false")] {
            assert_eq!(said(ci, "a tool").unwrap(), "SKIPPED, not passed: a tool is missing");
        }
        assert!(said(Some("true"), "a tool").unwrap_err().contains("a tool is missing"));
    }
}
