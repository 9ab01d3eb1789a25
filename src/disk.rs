//! The one place that writes files: open, write, sync, truncate, replace, lock.
//!
//! Everything that must survive a crash goes through [`Disk`], whose real implementation is
//! [`RealDisk`]; its in-memory twin [`SimulatedDisk`] forgets what was not synced, tears writes
//! and refuses on demand, so that tests can cut the power at every single operation. Paths are
//! relative to the mail root and at most two components deep (`user/file`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

mod helpers;
mod real;
mod simulated;

pub use real::RealDisk;
pub use simulated::{Cut, SimulatedDisk};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading only.
    Read,
    /// For reading and writing; made with mode 0600 where it is missing.
    Write,
    /// For reading and writing; an error where the name exists.
    New,
    /// The same for a file that is written to by [`File::write_synced`] above all.
    NewSynced,
}

/// What is written in multiples of this, at such an offset and from such an address in memory, can go
/// past the system's cache.
pub const BLOCK_OCTETS: usize = 4096;

/// What a file is, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Device and inode: equal for two names or handles of one file.
    pub identity: (u64, u64),
    /// Its size.
    pub octets: u64,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Last changes of content and of inode, in nanoseconds since 1970.
    pub changed: (i128, i128),
}

/// Which file it is and how long: what can be asked often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// As in [`Status`].
    pub identity: (u64, u64),
    /// As in [`Status`].
    pub octets: u64,
}

impl From<Status> for Glance {
    fn from(status: Status) -> Self {
        let Status {
            identity, octets, ..
        } = status;
        Self { identity, octets }
    }
}

/// An open regular file. Every offset is absolute; there is no cursor.
pub trait File: Send + Sync + fmt::Debug {
    /// What the file is now.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn status(&self) -> io::Result<Status>;

    /// Reads up to `buffer.len()` octets from `offset`; 0 at the end.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `octets` at `offset`. After an error any part of it may be written.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Writes pieces, one after the other, as [`File::write_at`] does.
    ///
    /// # Errors
    ///
    /// As for [`File::write_at`].
    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write_at(&pieces.concat(), offset)
    }

    /// Writes and makes durable: [`File::write_at`] and [`File::sync`] in one. With whole blocks
    /// ([`BLOCK_OCTETS`]) of a file that was made for it ([`Open::NewSynced`]) it takes three quarters
    /// of the time, and half of the processor's.
    ///
    /// # Errors
    ///
    /// As for these two.
    fn write_synced(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(octets, offset)?;
        self.sync()
    }

    /// Cuts (or extends with zeros) to `octets`.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn truncate(&self, octets: u64) -> io::Result<()>;

    /// Makes content and size durable. An error is final for what was written before it: a later
    /// success says nothing about those octets.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn sync(&self) -> io::Result<()>;

    /// Waits until nobody has the file for [`File::take_over`], and keeps that so until the handle
    /// is dropped.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn keep(&self) -> io::Result<()>;

    /// Takes the file for itself, until the handle is dropped; whether nobody else keeps it.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn take_over(&self) -> io::Result<bool>;

    /// Sets permission bits and owner as another file has them. An owner that the system does
    /// not let us give is left as it is.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn set_access(&self, like: &Status) -> io::Result<()>;
}

/// Something to write to a file and make durable there.
pub type Task = Box<dyn FnOnce() -> Result<(), TaskError> + Send>;

/// Why a [`Task`] is not done.
#[derive(Debug)]
pub enum TaskError {
    /// Not all is written. Nothing was synced.
    Write(io::Error),
    /// What is written may be lost, with all that was written to the file before.
    Sync(io::Error),
}

/// A lock between processes, held until it is dropped or the process ends.
pub trait Lock: Send + Sync + fmt::Debug {
    /// Says to others that the holder is at rest, or in the middle of something again as it was when it
    /// took the lock ([`Disk::holder`]). What was said ends with the lock.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn set_at_rest(&self, is_at_rest: bool) -> io::Result<()>;
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody does.
    Nobody,
    /// Somebody who has nothing half done.
    AtRest,
    /// Somebody who is in the middle of something.
    Busy,
}

/// A directory that holds the mail: the root of all paths given here.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a regular file. Follows no symbolic link and never blocks.
    ///
    /// # Errors
    ///
    /// As the system reports them; a link, FIFO, directory or device is [`NotAFile`].
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>>;

    /// What the regular file at `path` is; `None` where there is nothing.
    ///
    /// # Errors
    ///
    /// As for [`Disk::open`].
    fn status(&self, path: &Path) -> io::Result<Option<Status>>;

    /// The beginning of that. Where somebody has asked when a file was changed, the system notes the
    /// next change to the nanosecond, and a sync has that to write too: this does not ask.
    ///
    /// # Errors
    ///
    /// As for [`Disk::status`].
    fn glance(&self, path: &Path) -> io::Result<Option<Glance>> {
        Ok(self.status(path)?.map(Glance::from))
    }

    /// Makes a directory with mode 0700; says whether it was missing.
    ///
    /// # Errors
    ///
    /// As the system reports them; what exists and is no directory is [`NotADirectory`].
    fn make_directory(&self, path: &Path) -> io::Result<bool>;

    /// Does things to different files, at the same time where that is faster; gives a result for each.
    fn at_once(&self, tasks: Vec<Task>) -> Vec<Result<(), TaskError>> {
        tasks.into_iter().map(|task| task()).collect()
    }

    /// Makes the names in a directory durable (`""` is the root).
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn names(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Takes the exclusive lock of that name; `None` where somebody has it and `wait` is false.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<Box<dyn Lock>>>;

    /// Who holds the lock of that name: a look, which is in nobody's way.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn holder(&self, path: &Path) -> io::Result<Holder>;

    /// For messages to a person: the path with its root.
    fn show(&self, path: &Path) -> PathBuf;
}

/// Reads a small file whole; `None` where it is missing.
///
/// # Errors
///
/// As for [`Disk::open`] and [`File::read_at`].
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    open_if_there(disk, path)?
        .map(|file| read_whole(&*file))
        .transpose()
}

/// Opens a file for reading; `None` where it is missing.
///
/// # Errors
///
/// As for [`Disk::open`].
pub fn open_if_there(disk: &dyn Disk, path: &Path) -> io::Result<Option<Box<dyn File>>> {
    match disk.open(path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Reads a small file that is open.
///
/// # Errors
///
/// As for [`File::read_at`].
pub fn read_whole(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read_at(&mut chunk, octets.len() as u64)? {
            0 => return Ok(octets),
            got => octets.extend_from_slice(&chunk[..got]),
        }
    }
}

/// Removes a file, if there is one.
///
/// # Errors
///
/// As for [`Disk::remove`].
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces a small file whole: written beside, synced, renamed, the directory synced. A crash
/// leaves the old content or the new. Keeps the old file's mode; 0600 when new.
///
/// # Errors
///
/// As the system reports them; the old content is then untouched, unless only the last sync of
/// the directory failed.
pub fn replace(disk: &dyn Disk, path: &Path, octets: &[u8]) -> io::Result<()> {
    prepare(disk, path, octets)?;
    let renamed = disk.rename(&beside(path), path);
    if renamed.is_err() {
        // Nothing refers to it; the error that is told is the first one.
        withdraw(disk, path).unwrap_or_default();
    }
    renamed?;
    disk.sync_directory(directory_of(path))
}

/// The first half of [`replace`]: what is to be a file's content is durable beside it.
///
/// # Errors
///
/// As the system reports them; nothing of it is left there then.
pub fn prepare(disk: &dyn Disk, path: &Path, octets: &[u8]) -> io::Result<()> {
    withdraw(disk, path)?;
    let written = (|| {
        let file = disk.open(&beside(path), Open::New)?;
        if let Some(old) = disk.status(path)? {
            file.set_access(&old)?;
        }
        file.write_at(octets, 0)?;
        file.sync()
    })();
    if written.is_err() {
        withdraw(disk, path).unwrap_or_default();
    }
    written
}

/// The second half of [`replace`], where there is anything prepared.
///
/// # Errors
///
/// As the system reports them.
pub fn put_in_place(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.status(&beside(path))?.is_some() {
        disk.rename(&beside(path), path)?;
        disk.sync_directory(directory_of(path))?;
    }
    Ok(())
}

/// Takes back what was prepared.
///
/// # Errors
///
/// As the system reports them.
pub fn withdraw(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    remove_if_there(disk, &beside(path))
}

/// What a file's content is prepared in ([`prepare`]).
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    directory_of(path).join(format!(".minismtp.{name}.new"))
}

/// The directory that a path is in, as paths are given here: the root is empty.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

/// Whether something failed for want of space.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// What stands at a path is no regular file.
#[derive(Debug, thiserror::Error)]
#[error("not a regular file")]
pub struct NotAFile;

/// What stands at a path is no directory.
#[derive(Debug, thiserror::Error)]
#[error("not a directory")]
pub struct NotADirectory;

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NotAFile)
}

fn not_a_directory() -> io::Error {
    io::Error::new(io::ErrorKind::NotADirectory, NotADirectory)
}
