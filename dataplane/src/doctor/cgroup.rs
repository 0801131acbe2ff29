//! The CPU time that a control group allows, in both versions of control groups.

use std::path::{Component, Path, PathBuf};

use super::Quota;

/// Where a limit may stand: the folders from this process's group up to the root, in the hierarchy that limits CPU time. That is the one
/// of version 1 which says so, and else the one of version 2.
pub(super) fn folders(proc_self_cgroup: &str) -> Vec<PathBuf> {
    let lines = proc_self_cgroup.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let lines: Vec<_> = lines.collect();
    let first = lines.iter().find(|(controllers, _)| controllers.split(',').any(|controller| controller == "cpu"));
    let Some((controllers, path)) = first.or_else(|| lines.iter().find(|(controllers, _)| controllers.is_empty()))
    else {
        return Vec::new();
    };
    // Version 2 has no controllers in its line, and no folder for each.
    let mount = Path::new("sys/fs/cgroup").join(controllers);
    // A path that leads out of the namespace names no folder that can be seen.
    let inside = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    let group: PathBuf = inside.collect();
    group.ancestors().map(|folder| mount.join(folder)).collect()
}

/// By `cpu.max` (version 2): `max 100000`, or `150000 100000`.
pub(super) fn cpu_max(text: &str) -> Option<Quota> {
    let mut parts = text.split_whitespace();
    match (parts.next()?, parts.next()?) {
        ("max", _) => Some(Quota::Unlimited),
        (quota, period) => cpus(quota, period),
    }
}

/// By `cpu.cfs_quota_us` and `cpu.cfs_period_us` (version 1); a quota of -1 is none.
pub(super) fn cpus(quota: &str, period: &str) -> Option<Quota> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    if quota < 0.0 {
        return Some(Quota::Unlimited);
    }
    (period > 0.0).then_some(Quota::Cpus(quota / period))
}
