//! A listener at a path, for who shares a folder with us and nobody else.
//!
//! The file is made with its mode: at no moment may others open it. One that a process left behind, which kill -9 does, is taken away; one at
//! which somebody still listens is not, nor is what is no socket at all. At the end the file goes, if it is still the one that was made.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Queue;
use crate::rt::StopToken;

/// Its user's alone.
const MODE: u32 = 0o600;

/// It listens until it is dropped.
#[derive(Debug)]
pub struct UnixListener(Queue);

impl UnixListener {
    /// Listens at a path whose folder exists, until the file that comes with it is dropped. Needs a running core.
    pub fn bind(path: &Path, backlog: i32) -> io::Result<(Self, SocketFile)> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Linux makes the file with the socket's own mode, less the umask.
        File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(Permissions::from_mode(MODE))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
        socket.listen(backlog)?;
        Ok((Self(Queue::of(socket, path.display().to_string())?), file))
    }

    /// Waits for a connection; none once it was stopped. Errors are waited out, ever longer up to a second.
    pub async fn accept(&mut self, stop: &StopToken) -> Option<OwnedFd> {
        self.0.accept(stop).await.map(|(fd, _)| fd)
    }
}

/// Takes away what a dead process left.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The file that was made. Dropped, it goes: a task of a core that ends is not dropped, so this is held elsewhere.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where somebody put another one there, that one is not ours to remove.
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the socket's file stays behind");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
