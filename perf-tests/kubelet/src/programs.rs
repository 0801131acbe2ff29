//! Which program an image is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What runs in a container, and what it is always told before the container's own args.
#[derive(Clone, Debug)]
pub struct Program {
    /// Of the program.
    pub path: PathBuf,
    /// Before the container's.
    pub args: Vec<String>,
    /// Whose number the image says; 0 is root.
    pub user: i64,
}

/// By the last part of an image's name, without its tag and digest: `engine-sim` is `ghcr.io/kthena/engine-sim:v1`.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    known: BTreeMap<String, Program>,
    /// From which images come; from anywhere where it is empty.
    registry: String,
}

impl Programs {
    /// Adds one that takes the container's args alone.
    pub fn with(self, image: &str, path: impl Into<PathBuf>) -> Self {
        self.with_user(image, path, 0)
    }

    /// Adds one whose image says a user (`USER` of its Containerfile).
    pub fn with_user(self, image: &str, path: impl Into<PathBuf>, user: i64) -> Self {
        self.with_program(image, Program { path: path.into(), args: Vec::new(), user })
    }

    /// Adds one.
    pub fn with_program(mut self, image: &str, program: Program) -> Self {
        self.known.insert(image.to_owned(), program);
        self
    }

    /// Knows no images but those of a registry, as nodes that reach no other: `registry.example.com/kthena`.
    pub fn only_of(self, registry: &str) -> Self {
        Self { registry: format!("{registry}/"), ..self }
    }

    pub(super) fn of_image(&self, image: &str) -> Option<&Program> {
        self.known.get(name(image)).filter(|_| image.starts_with(&self.registry))
    }

    /// The path of what a container's `command` begins with: a program of the table, else one of this machine.
    pub(super) fn of_command(&self, command: &str) -> PathBuf {
        let last = Path::new(command).file_name().and_then(|name| name.to_str()).unwrap_or(command);
        self.known.get(last).map_or_else(|| PathBuf::from(command), |program| program.path.clone())
    }
}

impl Programs {
    /// All that a container has in a jail.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let paths: std::collections::BTreeSet<_> = self.known.values().map(|program| program.path.as_path()).collect();
        paths.into_iter()
    }

    /// Where a program of the table lies in a jail. Others are only there if the machine's libraries or a volume have them.
    pub(super) fn inside(&self, program: &Path) -> PathBuf {
        let known = self.known.values().any(|known| known.path == program);
        program
            .file_name()
            .filter(|_| known)
            .map_or_else(|| program.to_owned(), |name| Path::new("/usr/bin").join(name))
    }
}

fn name(image: &str) -> &str {
    let tagged = image.split('@').next().unwrap_or(image);
    let last = tagged.rsplit('/').next().unwrap_or(tagged);
    last.split(':').next().unwrap_or(last)
}

/// A program of this workspace, such as `engine-sim` or `kthena-controlplane`, where cargo left it beside this test. The data plane is the one of
/// `KTHENA_DATAPLANE` where that is set: `.ci/run kube` gives the one that is released.
pub fn built(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().and_then(Path::parent).context("a test binary lies in target/PROFILE/deps")?;
    let path = chosen(name, folder, std::env::var_os("KTHENA_DATAPLANE"));
    ensure!(
        path.is_file(),
        "{} is not built: `.ci/run kube` builds it, or `cargo build -p CRATE --bin {name}`",
        path.display()
    );
    Ok(path)
}

fn chosen(name: &str, folder: &Path, released: Option<OsString>) -> PathBuf {
    match released {
        Some(program) if name == "kthena-dataplane" => program.into(),
        _ => folder.join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_data_plane_is_run_where_it_is_named() {
        let beside = Path::new("/beside");
        let chosen = |name, released: Option<&str>| chosen(name, beside, released.map(OsString::from));
        assert_eq!(chosen("kthena-dataplane", Some("/released")), Path::new("/released"));
        assert_eq!(chosen("kthena-dataplane", None), Path::new("/beside/kthena-dataplane"));
        assert_eq!(chosen("engine-sim", Some("/released")), Path::new("/beside/engine-sim"));
    }

    #[test]
    fn an_image_is_known_by_its_last_name() {
        let images = [
            "engine-sim",
            "engine-sim:v1",
            "ghcr.io/kthena/engine-sim",
            "localhost:5000/engine-sim:v1@sha256:00",
            "localhost:5000/kthena/engine-sim@sha256:00",
        ];
        for image in images {
            assert_eq!(name(image), "engine-sim", "{image}");
        }
    }

    #[test]
    fn nodes_that_reach_one_registry_know_no_image_of_another() {
        let programs = Programs::default().with("engine-sim", "/built/engine-sim").only_of("registry.local/x");
        for (image, known) in [
            ("registry.local/x/engine-sim:v1", true),
            ("registry.local/xy/engine-sim:v1", false),
            ("ghcr.io/kthena/engine-sim:v1", false),
            ("engine-sim", false),
        ] {
            assert_eq!(programs.of_image(image).is_some(), known, "{image}");
        }
    }

    #[test]
    fn a_command_names_a_program_of_the_table_or_of_the_machine() {
        let programs = Programs::default().with("engine-sim", "/built/engine-sim");
        assert_eq!(programs.of_command("/usr/bin/engine-sim"), Path::new("/built/engine-sim"));
        assert_eq!(programs.of_command("/bin/sh"), Path::new("/bin/sh"));
    }
}
