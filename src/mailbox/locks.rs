//! The locks of a mail root: whoever changes a mailbox has one, a server another.

use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::disk::{Disk, Holder, Lock};

use super::Reporter;
use super::file::about;
use super::recovery::Tail;

/// The lock that a server holds as long as it runs.
pub const SERVER_LOCK_NAME: &str = ".minismtp.server.lock";
/// The lock that is held while a mailbox is changed.
pub const WRITE_LOCK_NAME: &str = ".minismtp.lock";

/// How long to wait for the write lock without a word.
const WAIT_UNTOLD: Duration = Duration::from_secs(2);

/// Takes the write lock, and says so where that takes long.
///
/// # Errors
///
/// As the disk reports them.
pub fn write_lock(disk: &dyn Disk, report: &Reporter) -> io::Result<Box<dyn Lock>> {
    if let Some(free) = try_write_lock(disk)? {
        return Ok(free);
    }
    let path = Path::new(WRITE_LOCK_NAME);
    std::thread::scope(|scope| {
        let (had, waits) = channel::<()>();
        let tell = move || {
            if waits.recv_timeout(WAIT_UNTOLD) == Err(RecvTimeoutError::Timeout) {
                let path = disk.show(path);
                report(&format!(
                    "waiting for another process that has locked `{}`",
                    path.display()
                ));
            }
        };
        // A system without a thread to give has nothing told.
        drop(std::thread::Builder::new().spawn_scoped(scope, tell));
        let locked = disk.lock(path, true).map_err(about(path));
        drop(had);
        locked?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    })
}

/// Takes the write lock, if nobody has it.
///
/// # Errors
///
/// As the disk reports them.
pub fn try_write_lock(disk: &dyn Disk) -> io::Result<Option<Box<dyn Lock>>> {
    let path = Path::new(WRITE_LOCK_NAME);
    disk.lock(path, false).map_err(about(path))
}

/// Whether octets behind the last committed record may be a crash's. The caller holds the write lock.
///
/// # Errors
///
/// As the disk reports them.
pub fn tail(disk: &dyn Disk) -> io::Result<Tail> {
    // A server that was killed in the middle of a batch may hold its lock a moment longer than the
    // write lock.
    Ok(match server(disk)? {
        Holder::AtRest => Tail::KeepWhole,
        Holder::Nobody | Holder::Busy => Tail::Doubtful,
    })
}

/// Whether there is a server, and whether it is in the middle of a batch.
///
/// # Errors
///
/// As the disk reports them.
pub fn server(disk: &dyn Disk) -> io::Result<Holder> {
    let path = Path::new(SERVER_LOCK_NAME);
    disk.holder(path).map_err(about(path))
}

/// Whether somebody is changing a mailbox.
///
/// # Errors
///
/// As the disk reports them.
pub fn is_write_locked(disk: &dyn Disk) -> io::Result<bool> {
    let path = Path::new(WRITE_LOCK_NAME);
    Ok(disk.holder(path).map_err(about(path))? != Holder::Nobody)
}
