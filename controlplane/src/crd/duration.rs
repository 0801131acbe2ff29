//! Go's durations, as Kubernetes objects carry them: `10s`, `1m30s`, `100ms`, `0`.

use kube::core::Rule;

/// The API server's check of such a field.
pub(super) fn rule() -> Rule {
    Rule::new("self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$')")
        .message("must be a duration such as 10s, 1m30s or 100ms")
}
