//! A Unix socket to listen on: for programs of this machine, kept by the rights of a file.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpStream, UnixListener, UnixSocket, UnixStream};

use super::BACKLOG;

/// Who may connect: the owner, and the group, so that another program may run as a user of its own.
const MODE: u32 = 0o660;

/// A listening socket. Its file goes with it.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket of ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another server may have put its own there.
    identity: Option<(u64, u64)>,
}

impl LocalListener {
    /// Listens at a path. A socket that nobody listens at any more makes way; nothing else does.
    /// Within a runtime only.
    ///
    /// # Errors
    ///
    /// Somebody listens there, something else is there, or the system does not allow it.
    pub fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = SocketFile::of(path);
        // Before anybody can connect.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self { listener, file })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Waits for a connection. It is a stream of octets like any other, so it comes as one; what
    /// only TCP has does nothing there.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.listener.accept().await?;
        into_stream(stream)
    }
}

impl SocketFile {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // One that stays is found stale by the next server.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let status = fs::symlink_metadata(path).ok()?;
    Some((status.dev(), status.ino()))
}

fn into_stream(stream: UnixStream) -> io::Result<TcpStream> {
    let handle = OwnedFd::from(stream.into_std()?);
    TcpStream::from_std(std::net::TcpStream::from(handle))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let status = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        status => status?,
    };
    if !status.file_type().is_socket() {
        let what = "something that is no socket is there";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_stale_socket_makes_way() {
        let directory = std::env::temp_dir().join(format!("minismtp-local-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let first = LocalListener::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, MODE);
        let kind = |path: &Path| LocalListener::bind(path).unwrap_err().kind();
        assert_eq!(kind(&path), io::ErrorKind::AddrInUse);

        // A server that was killed leaves its file.
        std::mem::forget(first.file);
        drop(first.listener);
        let second = LocalListener::bind(&path).unwrap();
        drop(second);
        assert!(fs::symlink_metadata(&path).is_err());

        fs::write(&path, "a file").unwrap();
        assert_eq!(kind(&path), io::ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(directory.join("elsewhere"), &path).unwrap();
        assert_eq!(kind(&path), io::ErrorKind::AlreadyExists);
        fs::remove_dir_all(&directory).unwrap();
    }
}
