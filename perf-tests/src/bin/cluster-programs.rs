//! Builds what every cluster of the tests runs, unless it is there: ahead of them, for it takes minutes (`.ci/run`).

use perf_tests::cluster::{Cluster, Parts};

fn main() -> anyhow::Result<()> {
    Cluster::prepare(Parts::Nodes)
}
