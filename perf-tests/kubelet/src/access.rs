//! Who may read and write a pod's volumes: the owner stays who runs the kubelet, the group and the bits are as the pod says.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use k8s_openapi::api::core::v1::{PodSpec, Volume};

/// Of the files of a volume that does not say.
const FILES: u32 = 0o644;

/// The default leaves all as it is made, for whoever runs the kubelet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Access(Option<Bits>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    file: u32,
    folder: u32,
    /// `fsGroup`.
    group: Option<u32>,
}

impl Access {
    /// As Kubernetes has it: everybody may write an emptyDir; the group may read files whatever their mode is, and owns what is
    /// made in the folder.
    pub(super) fn of(spec: &PodSpec, volume: &Volume) -> Self {
        let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
        let group = group.and_then(|group| u32::try_from(group).ok());
        let said = [
            volume.projected.as_ref().and_then(|source| source.default_mode),
            volume.config_map.as_ref().and_then(|source| source.default_mode),
            volume.secret.as_ref().and_then(|source| source.default_mode),
            volume.downward_api.as_ref().and_then(|source| source.default_mode),
        ];
        let file = said.into_iter().flatten().next().map_or(FILES, i32::cast_unsigned);
        let folder = if volume.empty_dir.is_some() { 0o777 } else { 0o755 };
        let (group_reads, group_owns) = if group.is_some() { (0o440, 0o2000) } else { (0, 0) };
        Self(Some(Bits { file: file | group_reads, folder: folder | group_owns, group }))
    }

    pub(super) fn open_folder(self, path: &Path) -> io::Result<()> {
        self.0.map_or(Ok(()), |bits| open(path, bits.folder, bits.group))
    }

    pub(super) fn open_file(self, path: &Path) -> io::Result<()> {
        self.0.map_or(Ok(()), |bits| open(path, bits.file, bits.group))
    }
}

/// The group first: a change of it takes bits away.
fn open(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        chown(path, None, group)?;
    }
    set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(group: &str, volume: &str, file: u32, folder: u32) {
        let spec = serde_norway::from_str(&format!("{{containers: [], securityContext: {{{group}}}}}")).unwrap();
        let found = Access::of(&spec, &serde_norway::from_str(volume).unwrap()).0.unwrap();
        assert_eq!((found.file, found.folder), (file, folder), "{group} {volume}: {:o} {:o}", found.file, found.folder);
    }

    #[test]
    fn the_bits_are_the_volumes_and_the_group_may_read_besides() {
        check("", "{name: v, emptyDir: {}}", 0o644, 0o777);
        check("fsGroup: 7", "{name: v, emptyDir: {}}", 0o644, 0o2777);
        check("", "{name: v, projected: {defaultMode: 256, sources: []}}", 0o400, 0o755);
        check("fsGroup: 7", "{name: v, projected: {defaultMode: 256, sources: []}}", 0o440, 0o2755);
        check("fsGroup: 7", "{name: v, configMap: {name: m}}", 0o644, 0o2755);
    }
}
