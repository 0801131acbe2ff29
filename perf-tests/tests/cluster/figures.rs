//! The control plane's figures where an API server is needed, small. `KTHENA_FIGURES=full` runs them as large as they are promised, of the
//! programs in `KTHENA_PROGRAMS` where that is set, and leaves what they came to in `KTHENA_RESULTS` (perf-tests/README.md).

mod bed;
mod edits;
mod large;
mod scale;
mod statuses;

use std::path::PathBuf;

use bench::show::{Bound, Check, Outcome};
use kubelet::built;
use serde_json::Value;

/// How large a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As a test: it is about what happens, not about how long it takes.
    Small,
    /// As it is promised.
    Full,
}

impl Form {
    fn asked() -> Self {
        match std::env::var("KTHENA_FIGURES").as_deref() {
            Ok("full") => Self::Full,
            _ => Self::Small,
        }
    }

    fn pick<T>(self, small: T, full: T) -> T {
        if self == Self::Full { full } else { small }
    }

    /// What was promised is kept; of a full run it is written down.
    fn show(self, name: &str, method: &str, checks: Vec<Check>, numbers: Value) {
        let outcome = Outcome::new(name, method, checks, numbers);
        println!("{}{}", outcome.table(), serde_json::to_string_pretty(&outcome.numbers).unwrap());
        if self == Self::Full {
            outcome.write(&results()).unwrap();
        }
        assert!(outcome.met(), "{}", outcome.table());
    }
}

/// Where the programs are that are looked at.
fn programs() -> PathBuf {
    let beside = || built("kthena-controlplane").unwrap().parent().unwrap().to_owned();
    std::env::var_os("KTHENA_PROGRAMS").map_or_else(beside, PathBuf::from)
}

/// Where results of full runs go.
fn results() -> PathBuf {
    let here = || concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/results").into();
    std::env::var_os("KTHENA_RESULTS").map_or_else(here, PathBuf::from)
}

/// What a control plane may have resident, whatever it serves.
fn memory(peak_kib: u64) -> Check {
    Check::new("KiB of the control plane, the most", peak_kib as f64, Bound::AtMost(512.0 * 1024.0))
}
