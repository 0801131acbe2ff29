//! The CPU time that a control group allows, in both versions of control groups.

use std::path::{Component, Path, PathBuf};

/// Where a limit may stand: the folders from this process's group up to the root, in each hierarchy that limits CPU time.
pub(super) fn folders(proc_self_cgroup: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in proc_self_cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let mount = match controllers {
            "" => Path::new("sys/fs/cgroup").to_owned(),
            list if list.split(',').any(|controller| controller == "cpu") => Path::new("sys/fs/cgroup").join(list),
            _ => continue,
        };
        // A path that leads out of the namespace names no folder that can be seen.
        let inside = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
        let group: PathBuf = inside.collect();
        found.extend(group.ancestors().map(|folder| mount.join(folder)));
    }
    found
}

/// CPUs by `cpu.max` (version 2): `max 100000`, or `150000 100000`.
pub(super) fn cpu_max(text: &str) -> Option<f64> {
    let mut parts = text.split_whitespace();
    cpus(parts.next()?, parts.next()?)
}

/// CPUs by `cpu.cfs_quota_us` and `cpu.cfs_period_us` (version 1); a quota of -1 is none.
pub(super) fn cpus(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}
