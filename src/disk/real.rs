//! A directory of the operating system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{self, AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::io::{Errno, ReadWriteFlags, pwritev, pwritev2};

use super::helpers::Helpers;
use super::{
    BLOCK_OCTETS, Disk, File, Glance, Holder, Lock, Open, Status, Task, TaskError, not_a_directory,
    not_a_file,
};

/// The octets of a lock file that say how it is held: one where its holder is at rest, both where he is
/// busy. They are locked by whoever has locked the file as a whole, and nobody has to lock anything to
/// see that: who looks at a lock and is stopped there keeps nobody else from it.
const AT_REST: i64 = 1;
const BUSY: i64 = 2;
/// How files are opened. Non-blocking, so that a FIFO without a peer cannot hold us up.
const OPEN_FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The mail root in the file system. What root makes in there belongs to the owner of the directory
/// that it is made in.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    directory: OwnedFd,
    helpers: Helpers,
}

impl RealDisk {
    /// Opens the root; makes it, with mode 0700 and its parents, where it is missing.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    pub fn open(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let missing: Vec<&Path> = root.ancestors().take_while(|path| !path.is_dir()).collect();
        if !missing.is_empty() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root)?;
        }
        // Mail is no safer than the names that lead to it.
        for parent in missing.iter().filter_map(|path| path.parent()) {
            let parent = if parent == Path::new("") {
                Path::new(".")
            } else {
                parent
            };
            std::fs::File::open(parent)?.sync_all()?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::open(root, flags, Mode::empty())?;
        Ok(Self {
            root: root.to_owned(),
            directory,
            helpers: Helpers::default(),
        })
    }

    /// The directory of a path, opened without following a link, and the path's last name.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Option<OwnedFd>, &'a std::ffi::OsStr)> {
        let name = path.file_name().ok_or_else(not_a_file)?;
        match path.parent() {
            Some(directory) if directory != Path::new("") => {
                Ok((Some(self.subdirectory(directory)?), name))
            }
            _ => Ok((None, name)),
        }
    }

    fn subdirectory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match fs::openat(&self.directory, path, flags, Mode::empty()) {
            Ok(directory) => Ok(directory),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(not_a_directory()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens whatever has that name, or makes a file.
    ///
    /// What root makes belongs to whom its directory belongs to, before anything is in it: root is a
    /// guest in that user's mail root, and the user has to go on with it. Only what is new is given
    /// away.
    fn open_or_make(&self, path: &Path, how: Open) -> io::Result<OwnedFd> {
        let there = match how {
            Open::Read => Some(OFlags::RDONLY),
            Open::Write => Some(OFlags::RDWR),
            Open::New | Open::NewSynced => None,
        };
        let new = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.within(path, |directory, name| {
            let open =
                |access, mode| retry(|| fs::openat(directory, name, OPEN_FLAGS | access, mode));
            loop {
                match there.map(|access| open(access, Mode::empty())) {
                    None => {}
                    Some(Err(Errno::NOENT)) if how == Open::Write => {}
                    Some(Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO)) => return Err(not_a_file()),
                    Some(opened) => return Ok(opened?),
                }
                match open(new, Mode::RUSR | Mode::WUSR) {
                    // Somebody else made it meanwhile.
                    Err(Errno::EXIST) if how == Open::Write => {}
                    made => {
                        let made = made?;
                        give_away(directory, made.as_fd())?;
                        return Ok(made);
                    }
                }
            }
        })
    }

    /// Opens a file once more, to write past the system's cache; `None` where that cannot be.
    fn open_direct(&self, path: &Path, identity: (u64, u64)) -> Option<OwnedFd> {
        let flags = OPEN_FLAGS | OFlags::RDWR | OFlags::DIRECT;
        let opened = self.within(path, |directory, name| {
            Ok(fs::openat(directory, name, flags, Mode::empty())?)
        });
        let is_same = |file: &OwnedFd| {
            fs::fstat(file).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == identity)
        };
        opened.ok().filter(is_same)
    }

    /// Runs `call` with the directory of `path` and its last name.
    fn within<T>(
        &self,
        path: &Path,
        call: impl FnOnce(BorrowedFd<'_>, &std::ffi::OsStr) -> io::Result<T>,
    ) -> io::Result<T> {
        let (directory, name) = self.parent(path)?;
        call(directory.as_ref().unwrap_or(&self.directory).as_fd(), name)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let file = self.open_or_make(path, how)?;
        let Status { identity, .. } = status(&fs::fstat(&file)?)?;
        let direct = match how {
            Open::NewSynced => self.open_direct(path, identity),
            _ => None,
        };
        let file = file.into();
        Ok(Box::new(RealFile { file, direct }))
    }

    fn status(&self, path: &Path) -> io::Result<Option<Status>> {
        // One call: it is asked for every message. A user's directory that is a link is refused
        // where a file is opened.
        let stat = fs::statat(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW);
        if_there(stat)?.map(|stat| status(&stat)).transpose()
    }

    fn glance(&self, path: &Path) -> io::Result<Option<Glance>> {
        let fields = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE;
        let stat = match fs::statx(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW, fields) {
            // A system without it, or one that keeps it from us.
            Err(Errno::NOSYS | Errno::PERM) => {
                return Ok(self.status(path)?.map(Glance::from));
            }
            stat => stat,
        };
        let Some(stat) = if_there(stat)? else {
            return Ok(None);
        };
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Err(not_a_file());
        }
        let device = fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Ok(Some(Glance {
            identity: (device, stat.stx_ino),
            octets: stat.stx_size,
        }))
    }

    fn make_directory(&self, path: &Path) -> io::Result<bool> {
        match fs::mkdirat(&self.directory, path, Mode::RWXU) {
            Ok(()) => {
                if is_root() {
                    let made = self.subdirectory(path)?;
                    // Not one with something in it, that somebody put in its place.
                    let is_empty = fs::Dir::read_from(&made)?.all(|entry| {
                        entry
                            .is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
                    });
                    if is_empty {
                        give_away(self.directory.as_fd(), made.as_fd())?;
                    }
                }
                Ok(true)
            }
            Err(Errno::EXIST) => self.subdirectory(path).map(|_| false),
            Err(error) => Err(error.into()),
        }
    }

    fn at_once(&self, tasks: Vec<Task>) -> Vec<Result<(), TaskError>> {
        let results = self.helpers.do_all(tasks).into_iter();
        let panicked = || Err(TaskError::Sync(io::Error::other("a thread panicked")));
        results
            .map(|result| result.unwrap_or_else(panicked))
            .collect()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let synced = if path == Path::new("") {
            retry(|| fs::fsync(&self.directory))
        } else {
            let directory = self.subdirectory(path)?;
            retry(|| fs::fsync(&directory))
        };
        match synced {
            // A file system that cannot sync a directory keeps its names in some other way.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.within(from, |from_directory, from_name| {
            self.within(to, |to_directory, to_name| {
                Ok(fs::renameat(
                    from_directory,
                    from_name,
                    to_directory,
                    to_name,
                )?)
            })
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.within(path, |directory, name| {
            Ok(fs::unlinkat(directory, name, AtFlags::empty())?)
        })
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.within(path, |directory, name| {
            Ok(fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
        })
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let directory = match path == Path::new("") {
            true => fs::Dir::read_from(&self.directory)?,
            false => fs::Dir::read_from(self.subdirectory(path)?)?,
        };
        for entry in directory {
            if let Ok(name) = entry?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<Box<dyn Lock>>> {
        let file = self.open_or_make(path, Open::Write)?;
        let operation = if wait {
            FlockOperation::LockExclusive
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        match retry(|| fs::flock(&file, operation)) {
            Ok(()) => {
                set_marks(&file, 0, BUSY, libc::F_WRLCK)?;
                Ok(Some(Box::new(RealLock(file))))
            }
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn holder(&self, path: &Path) -> io::Result<Holder> {
        let file = match self.open_or_make(path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
            file => file?,
        };
        let mut found = mark(0, BUSY, libc::F_RDLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found))?;
        Ok(if libc::c_int::from(found.l_type) == libc::F_UNLCK {
            Holder::Nobody
        } else if found.l_len == AT_REST {
            Holder::AtRest
        } else {
            Holder::Busy
        })
    }

    fn show(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }
}

#[derive(Debug)]
struct RealFile {
    file: std::fs::File,
    /// The same file, written past the system's cache.
    direct: Option<OwnedFd>,
}

impl RealFile {
    /// The handle that whole blocks are to be written with.
    fn synced(&self, octets: &[u8], offset: u64) -> BorrowedFd<'_> {
        let is_whole = octets.len().is_multiple_of(BLOCK_OCTETS)
            && offset.is_multiple_of(BLOCK_OCTETS as u64)
            && octets.as_ptr().align_offset(BLOCK_OCTETS) == 0;
        match &self.direct {
            Some(direct) if is_whole => direct.as_fd(),
            _ => self.file.as_fd(),
        }
    }
}

impl File for RealFile {
    fn status(&self) -> io::Result<Status> {
        status(&fs::fstat(&self.file)?)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(octets, offset)
    }

    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        let slices: Vec<io::IoSlice<'_>> = pieces.iter().map(|p| io::IoSlice::new(p)).collect();
        let mut written = retry(|| pwritev(&self.file, &slices, offset))?;
        let mut at = offset + written as u64;
        // Mostly that was all.
        for piece in pieces {
            let rest = &piece[written.min(piece.len())..];
            written -= piece.len() - rest.len();
            self.write_at(rest, at)?;
            at += rest.len() as u64;
        }
        Ok(())
    }

    fn write_synced(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let (mut rest, mut at) = (octets, offset);
        while !rest.is_empty() {
            let pieces = [io::IoSlice::new(rest)];
            let file = self.synced(rest, at);
            match retry(|| pwritev2(file, &pieces, at, ReadWriteFlags::DSYNC)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    at += written as u64;
                }
                // A file system or kernel without it, or with larger blocks.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.write_at(rest, at)?;
                    return self.sync();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn truncate(&self, octets: u64) -> io::Result<()> {
        Ok(retry(|| fs::ftruncate(&self.file, octets))?)
    }

    fn sync(&self) -> io::Result<()> {
        // Interrupted before it began: nothing was tried, so trying again is honest.
        Ok(retry(|| fs::fdatasync(&self.file))?)
    }

    fn keep(&self) -> io::Result<()> {
        Ok(retry(|| fs::flock(&self.file, FlockOperation::LockShared))?)
    }

    fn take_over(&self) -> io::Result<bool> {
        match retry(|| fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn set_access(&self, like: &Status) -> io::Result<()> {
        let owner = Some(Uid::from_raw(like.owner.0));
        let group = Some(Gid::from_raw(like.owner.1));
        match retry(|| fs::fchown(&self.file, owner, group)) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(retry(|| {
            fs::fchmod(&self.file, Mode::from_raw_mode(like.mode))
        })?)
    }
}

/// The open file description holds the lock: it goes when the process goes, however it ends.
#[derive(Debug)]
struct RealLock(OwnedFd);

impl Lock for RealLock {
    fn set_at_rest(&self, is_at_rest: bool) -> io::Result<()> {
        let kind = if is_at_rest {
            libc::F_UNLCK
        } else {
            libc::F_WRLCK
        };
        set_marks(&self.0, AT_REST, BUSY - AT_REST, kind)
    }
}

/// Marks octets of a lock file, or takes the marks away.
fn set_marks(file: &OwnedFd, start: i64, octets: i64, kind: libc::c_int) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&mark(start, octets, kind)))?;
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the system's own numbers for it"
)]
fn mark(start: i64, octets: i64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: octets,
        l_pid: 0,
    }
}

/// Gives what root has made in a directory to the directory's owner and group.
fn give_away(directory: BorrowedFd<'_>, made: BorrowedFd<'_>) -> io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    let owner = fs::fstat(directory)?;
    let (uid, gid) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    if uid.is_root() {
        return Ok(());
    }
    match retry(|| fs::fchown(made, Some(uid), Some(gid))) {
        // A file system that keeps no owners, or a root that may not do everything.
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        given => Ok(given?),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn status(stat: &fs::Stat) -> io::Result<Status> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_a_file());
    }
    let nanoseconds =
        |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Ok(Status {
        identity: (stat.st_dev, stat.st_ino),
        octets: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        changed: (
            nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        ),
    })
}

fn if_there<T>(found: Result<T, Errno>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => Err(not_a_directory()),
        Err(error) => Err(error.into()),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str) -> RealDisk {
        let root = format!("minismtp-{name}-{}", std::process::id());
        RealDisk::open(&std::env::temp_dir().join(root)).unwrap()
    }

    #[test]
    fn a_look_at_a_lock_says_who_holds_it_and_takes_nothing() {
        let disk = disk("holder");
        let path = Path::new("lock");
        let holder = || disk.holder(path).unwrap();
        assert_eq!(holder(), Holder::Nobody);
        for _ in 0..2 {
            let lock = disk.lock(path, false).unwrap().unwrap();
            assert!(disk.lock(path, false).unwrap().is_none());
            assert_eq!(holder(), Holder::Busy);
            for _ in 0..2 {
                lock.set_at_rest(true).unwrap();
                assert_eq!(holder(), Holder::AtRest);
                lock.set_at_rest(false).unwrap();
                assert_eq!(holder(), Holder::Busy);
            }
            drop(lock);
            assert_eq!(holder(), Holder::Nobody);
        }
        std::fs::remove_dir_all(disk.root).unwrap();
    }

    #[test]
    fn what_is_written_past_the_cache_is_read_through_it() {
        let disk = disk("direct");
        let path = Path::new("file");
        let file = disk.open(path, Open::NewSynced).unwrap();
        disk.open(path, Open::NewSynced).unwrap_err();
        file.write_at(&[b'-'; 5 * BLOCK_OCTETS], 0).unwrap();
        let memory = vec![b'x'; 3 * BLOCK_OCTETS];
        let start = memory.as_ptr().align_offset(BLOCK_OCTETS);
        let block = &memory[start..start + BLOCK_OCTETS];
        let other = disk.open(path, Open::Read).unwrap();
        let read = || crate::disk::read_whole(&*other).unwrap();
        let mut expected = read();
        // Whole blocks, and what is none: at any place, from any address, of any length.
        for (octets, offset) in [
            (block, BLOCK_OCTETS),
            (block, 100),
            (&memory[start + 1..=start + BLOCK_OCTETS], 3 * BLOCK_OCTETS),
            (&block[..7], 4 * BLOCK_OCTETS),
            (block, 5 * BLOCK_OCTETS),
        ] {
            file.write_synced(octets, offset as u64).unwrap();
            expected.resize(expected.len().max(offset + octets.len()), 0);
            expected[offset..offset + octets.len()].copy_from_slice(octets);
            assert!(read() == expected, "{offset}");
        }
        std::fs::remove_dir_all(disk.root).unwrap();
    }

    #[test]
    fn a_glance_sees_what_status_sees() {
        let disk = disk("glance");
        disk.make_directory(Path::new("Andrew")).unwrap();
        let file = disk.open(Path::new("Andrew/file"), Open::New).unwrap();
        file.write_at(b"five.", 0).unwrap();
        std::os::unix::fs::symlink("file", disk.root.join("Andrew/link")).unwrap();
        let same = |path: &str| {
            let path = Path::new(path);
            let glance = disk.glance(path).map_err(|error| error.to_string());
            let status = disk.status(path).map_err(|error| error.to_string());
            assert_eq!(glance, status.map(|found| found.map(Glance::from)));
            glance
        };
        let found = same("Andrew/file").unwrap().unwrap();
        assert_eq!(found, file.status().unwrap().into());
        assert_eq!(found.octets, 5);
        assert_eq!(same("Andrew/none"), Ok(None));
        assert_eq!(same("Berta/file"), Ok(None));
        same("Andrew/link").unwrap_err();
        same("Andrew").unwrap_err();
        same("Andrew/file/file").unwrap_err();
        std::fs::remove_dir_all(disk.root).unwrap();
    }
}
