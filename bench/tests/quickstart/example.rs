//! A copy of the quickstart's directory on a free port, so that a quickstart that someone has running is not in the way.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");

/// The copy; it goes with this value.
pub(crate) struct Example {
    pub(crate) folder: PathBuf,
}

impl Example {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("quickstart-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let port = free_on_both();
        for file in ["pods.yaml", "servers.yaml", "route.yaml"] {
            let text = std::fs::read_to_string(Path::new(EXAMPLE).join(file)).unwrap();
            std::fs::write(folder.join(file), text.replace("port: 18001", &format!("port: {port}"))).unwrap();
        }
        Self { folder }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server has one port for all its pods.
fn free_on_both() -> u16 {
    let port = || {
        let first = TcpListener::bind(("127.0.0.2", 0)).ok()?;
        let port = first.local_addr().ok()?.port();
        TcpListener::bind(("127.0.0.3", port)).ok().map(|_| port)
    };
    (0..100).find_map(|_| port()).expect("one of a hundred ports is free on both")
}
