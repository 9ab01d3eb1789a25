//! The store in text files: `USER/mymailbox.mail` under the mail root.
//!
//! One server at a time has a root and appends; other processes may read and delete meanwhile. Who
//! changes a mailbox holds the write lock. Who does so beside the server first syncs all mailboxes
//! and removes the journal, and the server notices: so nobody ever works with another's idea of
//! where a mailbox ends. Who reads asks where that is while nobody writes, and keeps the file:
//! appending leaves what is there as it is, and deleting makes a new file, or a new end where nobody
//! reads.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::{
    Disk, File, Lock, Open, Status, directory_of, is_full, open_if_there, remove_if_there,
};
use crate::user::UserName;

use super::commit::{Committer, Job, JobRecord, Settings};
use super::extent::Extent;
use super::format::{Lines, Record, Span, Summary};
use super::heads::Heads;
use super::ids::{self, Removed};
use super::index::{Entry, MessageReader};
use super::journal::{self, PART_OCTETS_MAX};
use super::locks::{self, SERVER_LOCK_NAME};
use super::recovery::{self, Tail};
use super::spool::{Permit, Permits, SPOOL_PREFIX, Shares, Spool};
use super::table::{self, Table};
use super::tail;
use super::{
    AppendError, CopyError, Done, Mailbox, Message, Reading, Reporter, Seen, Store, StoreError,
    TakeLines,
};

/// The lock in a user's directory that a session holds.
const MAILDROP_LOCK_NAME: &str = ".minismtp.lock";
const MAILBOX_NAME: &str = "mymailbox.mail";
/// What the names of files with torn records begin with.
const TORN_PREFIX: &str = "mymailbox.torn-";
/// From this on, who waits for a commit is better off with another thread. To hand one over takes a
/// tenth of a millisecond, which is what a good disk takes for all of it.
const HANDING_OVER_PAYS: Duration = Duration::from_millis(1);
/// How long who reads waits for whoever changes a mailbox: many times what a batch takes.
const READ_PATIENCE: Duration = Duration::from_secs(1);
/// How often a mailbox is opened that is another one each time before it can be read.
const OPENINGS_MAX: u32 = 100;
/// The files of a session that reads: the maildrop's lock, the mailbox and its index.
pub const READER_FILES: usize = 3;
/// How many messages wait for each other at most.
const BATCH_MESSAGES_MAX: usize = 256;
/// How many `Received` fields a message may have (RFC 5321 §6.3).
const HOPS_MAX: usize = 100;
/// To put a new end to a mailbox is to write it twice: it has to be so many times shorter than what
/// it saves.
const TAIL_PAYS: u64 = 2;
/// A mailbox of fewer messages is not indexed anew when some are deleted.
const INDEX_MESSAGES_MIN: usize = 1000;
/// How much is copied at once.
const COPY_OCTETS: usize = 256 * 1024;

/// Where a user's mail is, under the root.
#[must_use]
pub fn mailbox_path(user: &str) -> PathBuf {
    Path::new(user).join(MAILBOX_NAME)
}

/// Mail in text files.
pub struct FileStore {
    disk: Arc<dyn Disk>,
    report: Reporter,
    /// The thread that commits; `None` in a program that only visits.
    committer: Mutex<Option<Commits>>,
    shares: Shares,
    readers: Permits,
    /// Nobody has been at a change for long.
    is_patient: AtomicBool,
}

/// How many files a server holds open.
#[derive(Clone, Copy, Debug)]
pub struct Handles {
    /// Mailboxes that mail comes for.
    pub mailboxes: usize,
    /// Large texts while they arrive.
    pub spools: usize,
    /// Mailboxes that are read, of which each takes [`READER_FILES`].
    pub readers: usize,
}

/// Messages that are committed together, and who waits for them.
type Batch = Vec<(Arc<Job>, QueuedDone)>;

#[derive(Debug)]
struct Commits {
    /// What is appended and not yet handed over.
    waiting: Batch,
    desk: Arc<Mutex<Desk>>,
    queue: Sender<Batch>,
    thread: JoinHandle<()>,
}

impl Commits {
    /// Hands over what is waiting.
    fn begin(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        // The next batch is likely to be as large.
        let next = Vec::with_capacity(self.waiting.len());
        if let Err(unsent) = self.queue.send(std::mem::replace(&mut self.waiting, next)) {
            for (_, QueuedDone(done)) in unsent.0 {
                done(Err(AppendError::Failed("the store is closed".to_owned())));
            }
        }
    }
}

struct QueuedDone(Done);

impl std::fmt::Debug for QueuedDone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Done")
    }
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FileStore").field(&self.disk).finish()
    }
}

impl FileStore {
    /// Takes the root over for a server: recovers it, and commits in a thread of its own.
    ///
    /// # Errors
    ///
    /// Another server has it, or it cannot be recovered.
    pub fn serve(
        disk: Arc<dyn Disk>,
        handles: Handles,
        report: Reporter,
    ) -> Result<Self, StoreError> {
        let root = Path::new("");
        let error = |error| io_error("recover", &*disk, root, error);
        let server_lock = {
            // In this order, as visitors have it: who holds the write lock and finds no server
            // may be sure that none begins.
            let _lock = locks::write_lock(&*disk, &report).map_err(error)?;
            let server_lock = Path::new(SERVER_LOCK_NAME);
            let server_lock = disk.lock(server_lock, false).map_err(about(server_lock));
            let server_lock = server_lock
                .map_err(error)?
                .ok_or_else(|| StoreError::InUse {
                    root: disk.show(root).display().to_string(),
                })?;
            recovery::recover(&*disk, Tail::Expendable, &report).map_err(error)?;
            for name in disk.names(root).map_err(error)? {
                if name.starts_with(SPOOL_PREFIX) {
                    disk.remove(Path::new(&name)).map_err(error)?;
                }
            }
            server_lock.set_at_rest(true).map_err(error)?;
            server_lock
        };
        let (queue, batches) = channel();
        let settings = Settings {
            handles_max: handles.mailboxes,
            part_octets_max: PART_OCTETS_MAX,
            in_background: true,
        };
        let desk = Arc::new(Mutex::new(Desk {
            committer: Committer::new(Arc::clone(&disk), settings, Arc::clone(&report))
                .of_server(server_lock),
            report: Arc::clone(&report),
            lasted: Duration::MAX,
        }));
        let thread = std::thread::Builder::new().name("commit".to_owned());
        let own = Arc::clone(&desk);
        let thread = thread
            .spawn(move || commit_all(&own, &batches))
            .map_err(|error| io_error("serve", &*disk, root, error))?;
        let committer = Mutex::new(Some(Commits {
            waiting: Vec::new(),
            desk,
            queue,
            thread,
        }));
        Ok(Self {
            disk,
            report,
            committer,
            shares: Shares::new(handles.spools),
            readers: Permits::new(handles.readers),
            is_patient: AtomicBool::new(true),
        })
    }

    /// Visits the root, whether or not a server has it.
    #[must_use]
    pub fn visit(disk: Arc<dyn Disk>, report: Reporter) -> Self {
        Self {
            disk,
            report,
            committer: Mutex::new(None),
            shares: Shares::default(),
            readers: Permits::new(usize::MAX),
            is_patient: AtomicBool::new(true),
        }
    }

    fn commits(&self) -> MutexGuard<'_, Option<Commits>> {
        self.committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change that is not an append: under the write lock, with everything synced and
    /// no journal.
    fn change<T>(
        &self,
        path: &Path,
        change: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let change = || {
            let _lock = locks::write_lock(&*self.disk, &self.report)?;
            recovery::recover(&*self.disk, locks::tail(&*self.disk)?, &self.report)?;
            change()
        };
        change().map_err(|error| io_error("write", &*self.disk, path, error))
    }

    /// Opens a mailbox to read it as it is now.
    fn open_kept(&self, user: &str) -> io::Result<Option<Opened>> {
        let (disk, path, directory) = (&*self.disk, &mailbox_path(user), Path::new(user));
        let mut is_mended = false;
        for _ in 0..OPENINGS_MAX {
            let Some(file) = open_if_there(disk, path)? else {
                return Ok(None);
            };
            file.keep()?;
            let extent = self.extent(directory, &*file);
            if extent == Extent::LeftHalfDone && !is_mended {
                drop(file);
                // What cannot be mended here can still be read, unless it is half moved up.
                drop(self.mend(path));
                is_mended = true;
                continue;
            }
            let octets = match extent {
                Extent::Octets(octets) => Some(octets),
                Extent::LeftHalfDone | Extent::Unknown => committed(disk, user, &*file)?,
            };
            let removed = table::removed(disk, path, &*file)?;
            // Unless something has come to another's place meanwhile.
            if let (Some(octets), Some(removed)) = (octets, removed) {
                let table = Table::open(disk, directory, &*file, octets, removed)?;
                let torn_octets = octets.saturating_sub(table.end()?);
                return Ok(Some(Opened {
                    file: Arc::from(file),
                    table,
                    torn_octets,
                }));
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Waits until it can be seen how much of a mailbox counts. Where that took too long once, the next
    /// who asks does not wait for it again.
    fn extent(&self, directory: &Path, file: &dyn File) -> Extent {
        let patience = if self.is_patient.load(Ordering::Relaxed) {
            READ_PATIENCE
        } else {
            Duration::ZERO
        };
        let extent = Extent::of(&*self.disk, directory, file, patience);
        let is_known = extent != Extent::Unknown;
        self.is_patient.store(is_known, Ordering::Relaxed);
        extent
    }

    /// Does what somebody has left undone who died, unless somebody else is at a change.
    fn mend(&self, path: &Path) -> io::Result<()> {
        let disk = &*self.disk;
        // A mailbox that is half moved up cannot be read before that is done.
        let lock = if tail::is_left_over(disk, directory_of(path))? {
            Some(locks::write_lock(disk, &self.report)?)
        } else {
            locks::try_write_lock(disk)?
        };
        let Some(_lock) = lock else {
            return Ok(());
        };
        recovery::recover(disk, locks::tail(disk)?, &self.report)?;
        self.settle(path)
    }

    /// Clears up after whoever died while messages were deleted. The caller holds the write lock, and
    /// there is no journal.
    fn settle(&self, path: &Path) -> io::Result<()> {
        tail::remove_leftover(&*self.disk, directory_of(path))?;
        ids::settle(&*self.disk, path)
    }

    /// Removes records; gives back the numbers under which there is none, or another.
    fn remove_records(&self, user: &UserName, messages: &[Seen]) -> io::Result<Vec<usize>> {
        let (disk, directory) = (&*self.disk, Path::new(user.as_str()));
        let path = &mailbox_path(user.as_str());
        let Some(status) = disk.status(path)? else {
            return Ok(messages.iter().map(|message| message.number).collect());
        };
        self.settle(path)?;
        let file = disk.open(path, Open::Write)?;
        let octets = file.status()?.octets;
        let removed = Removed::read(disk, directory, octets)?;
        let numbers: BTreeSet<usize> = messages.iter().map(|message| message.number).collect();
        let table = Table::open_checked(disk, directory, &*file, octets, removed, &numbers)?;
        let mut missing = Vec::new();
        for &Seen { number, hash } in messages {
            let at = number.checked_sub(1);
            let found = at.map_or(Ok(None), |at| table.get(at))?;
            if found.is_none_or(|entry| entry.hash != hash) {
                missing.push(number);
            }
        }
        let Some(first) = numbers.first().filter(|_| missing.is_empty()) else {
            return Ok(missing);
        };
        recovery::set_aside(disk, path, &*file, table.end()?, &self.report)?;
        let entry = |at: usize| {
            let entry = table.numbered(at)?;
            entry.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        let gone = numbers.iter().map(|number| entry(number - 1));
        let gone: Vec<Entry> = gone.collect::<io::Result<_>>()?;
        let kept: Vec<usize> = (*first..table.count())
            .filter(|at| !numbers.contains(&(at + 1)))
            .collect();
        let mut removed = table.removed().clone();
        removed.add(&gone, |is_kept| {
            for at in (0..first - 1).chain(kept.iter().copied()) {
                if let Some(is_kept) = is_kept.get_mut(&entry(at)?.hash) {
                    *is_kept = true;
                }
            }
            Ok(())
        })?;
        table::set_aside(disk, directory)?;
        let cut = gone.first().map_or(0, |entry| entry.span.offset);
        let spans = kept.iter().map(|at| Ok(entry(*at)?.span));
        let spans = runs(spans.collect::<io::Result<Vec<Span>>>()?);
        let behind: u64 = spans.iter().map(|span| span.octets).sum();
        let removed_octets: u64 = gone.iter().map(|entry| entry.span.octets).sum();
        if cut + behind + removed_octets != table.end()? {
            // What the index does not have must not go with the rest.
            table::remove(disk, directory)?;
            return Err(table::damaged());
        }
        let prepare = || removed.prepare(disk, directory, cut + behind);
        // Who reads keeps what is there.
        let is_in_place = (behind == 0 || behind < cut / TAIL_PAYS) && file.take_over()?;
        if is_in_place && behind == 0 {
            let is_prepared = match prepare() {
                // There will be room.
                Err(error) if is_full(&error) => false,
                prepared => prepared.map(|()| true)?,
            };
            file.truncate(cut)?;
            file.sync()?;
            if !is_prepared {
                // If not, an equal message that comes in the same minute may have the same name.
                prepare().unwrap_or_default();
            }
        } else if is_in_place {
            prepare()?;
            tail::replace(disk, user.as_str(), &*file, cut, &spans)?;
        } else {
            let before = Span {
                offset: 0,
                octets: cut,
            };
            let spans: Vec<Span> = [before].into_iter().chain(spans).collect();
            self.replace_by(path, &*file, &status, &spans, prepare)?;
        }
        ids::put_in_place(disk, directory)?;
        let stored = table.stored_before(first - 1).unwrap_or_default();
        let indexed = match (stored, disk.status(path).unwrap_or_default()) {
            (Some((count, end)), Some(status)) => {
                table::put_back(disk, directory, &status, count, end)
            }
            _ => self.index_anew(path, first - 1, &kept, entry),
        };
        // Who reads makes another.
        indexed.unwrap_or_default();
        table::forget(disk, directory);
        Ok(missing)
    }

    /// Keeps the index of a mailbox that has lost records: these many are where they were, and these
    /// follow them.
    fn index_anew(
        &self,
        path: &Path,
        before: usize,
        kept: &[usize],
        entry: impl Fn(usize) -> io::Result<Entry>,
    ) -> io::Result<()> {
        let directory = directory_of(path);
        let count = before + kept.len();
        let Some(status) = self
            .disk
            .status(path)?
            .filter(|_| count >= INDEX_MESSAGES_MIN)
        else {
            return Ok(());
        };
        let mut end = 0;
        table::write(&*self.disk, directory, &status, count, |at| {
            let mut entry = match at.checked_sub(before) {
                None => entry(at)?,
                Some(at) => entry(kept[at])?,
            };
            entry.span.offset = end;
            end = entry.span.end();
            Ok(entry)
        })
    }

    /// Puts a file with only these parts of `file` in its place, once all is prepared.
    fn replace_by(
        &self,
        path: &Path,
        file: &dyn File,
        status: &Status,
        kept: &[Span],
        prepare: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let directory = directory_of(path);
        let beside = directory.join(".minismtp.mymailbox.new");
        remove_if_there(&*self.disk, &beside)?;
        let new = self.disk.open(&beside, Open::New)?;
        let written = (|| {
            new.set_access(status)?;
            let mut at = 0;
            for span in kept {
                copy_span(file, *span, |octets| {
                    new.write_at(octets, at)?;
                    at += octets.len() as u64;
                    Ok(())
                })?;
            }
            new.sync()?;
            // Readers wait from here on.
            prepare()?;
            self.disk.rename(&beside, path)
        })();
        if written.is_err() {
            drop(self.disk.remove(&beside));
        }
        written?;
        self.disk.sync_directory(directory)
    }

    fn remove_files(&self, directory: &Path) -> io::Result<()> {
        let names = match self.disk.names(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for name in names {
            let is_ours = name.starts_with(".minismtp.") || name.starts_with(TORN_PREFIX);
            if name == MAILBOX_NAME || is_ours {
                self.disk.remove(&directory.join(name))?;
            }
        }
        match self.disk.remove_directory(directory) {
            // Somebody keeps other things there.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                self.disk.sync_directory(directory)
            }
            removed => removed.and_then(|()| self.disk.sync_directory(Path::new(""))),
        }
    }
}

impl Store for FileStore {
    fn spool(&self) -> Spool {
        Spool::new(Arc::clone(&self.disk), self.shares.clone())
    }

    fn append(&self, message: Message, done: Done) {
        let job = match job(message) {
            Ok(job) => job,
            Err(error) => return done(Err(error)),
        };
        match &mut *self.commits() {
            Some(commits) => {
                commits.waiting.push((job, QueuedDone(done)));
                if commits.waiting.len() >= BATCH_MESSAGES_MAX {
                    commits.begin();
                }
            }
            None => done(Err(AppendError::Failed("the store is closed".to_owned()))),
        }
    }

    fn commit(&self, is_alone: bool) {
        let mut commits = self.commits();
        let Some(open) = &mut *commits else {
            return;
        };
        // What is large takes longer than handing it over.
        let is_quick = matches!(&open.waiting[..], [(job, _)] if !job.is_large());
        if !is_alone || !is_quick {
            return open.begin();
        }
        let shared = Arc::clone(&open.desk);
        match shared.try_lock() {
            // The lock may be somebody's who is at it for long.
            Ok(mut desk)
                if desk.lasted < HANDING_OVER_PAYS
                    && let Ok(Some(lock)) = locks::try_write_lock(&*self.disk) =>
            {
                let batch = std::mem::take(&mut open.waiting);
                drop(commits);
                desk.commit(batch, Some(lock));
            }
            _ => open.begin(),
        }
    }

    fn open(&self, user: &UserName) -> Result<Box<dyn Mailbox>, StoreError> {
        let path = mailbox_path(user.as_str());
        let permit = self.readers.take(READER_FILES).ok_or_else(|| {
            let error = io::Error::other("too many mailboxes are open at once");
            io_error("read", &*self.disk, &path, error)
        })?;
        match self.open_kept(user.as_str()) {
            Ok(opened) => {
                let shown = self.disk.show(&path).display().to_string();
                Ok(Box::new(FileMailbox {
                    _permit: permit,
                    disk: Arc::clone(&self.disk),
                    user: user.as_str().to_owned(),
                    shown,
                    opened,
                }))
            }
            Err(error) => Err(io_error("read", &*self.disk, &path, error)),
        }
    }

    fn create(&self, user: &UserName) -> Result<(), StoreError> {
        let directory = Path::new(user.as_str());
        let path = mailbox_path(user.as_str());
        self.change(&path, || {
            if self.disk.make_directory(directory)? {
                self.disk.sync_directory(Path::new(""))?;
            }
            if self.disk.status(&path)?.is_none() {
                self.disk.open(&path, Open::New)?.sync()?;
                self.disk.sync_directory(directory)?;
            }
            Ok(())
        })
    }

    fn lock(&self, user: &UserName) -> Result<Option<Box<dyn Lock>>, StoreError> {
        let directory = Path::new(user.as_str());
        let lock = directory.join(MAILDROP_LOCK_NAME);
        let locked = self
            .disk
            .make_directory(directory)
            .and_then(|_| self.disk.lock(&lock, false).map_err(about(&lock)));
        locked.map_err(|error| io_error("lock", &*self.disk, directory, error))
    }

    fn expunge(&self, user: &UserName, messages: &[Seen]) -> Result<Vec<usize>, StoreError> {
        let path = mailbox_path(user.as_str());
        self.change(&path, || self.remove_records(user, messages))
    }

    fn remove(&self, user: &UserName) -> Result<(), StoreError> {
        let directory = Path::new(user.as_str());
        self.change(directory, || self.remove_files(directory))
    }

    fn users(&self) -> Result<Vec<UserName>, StoreError> {
        let root = Path::new("");
        let names = self.disk.names(root);
        let names = names.map_err(|error| io_error("read", &*self.disk, root, error))?;
        let users = names.iter().filter_map(|name| UserName::new(name).ok());
        let has_mail =
            |user: &UserName| matches!(self.disk.status(&mailbox_path(user.as_str())), Ok(Some(_)));
        Ok(users.filter(has_mail).collect())
    }

    fn close(&self) {
        let commits = self.commits().take();
        if let Some(mut commits) = commits {
            commits.begin();
            let Commits { queue, thread, .. } = commits;
            drop(queue);
            // A panic there was reported there.
            drop(thread.join());
        }
    }
}

/// How much of a mailbox counts as the journal has it, while somebody may be writing: what a batch has
/// written is there, and may be gone again. `None` where the journal has just come or gone.
fn committed(disk: &dyn Disk, user: &str, mailbox: &dyn File) -> io::Result<Option<u64>> {
    let Ok(journal) = journal::identities(disk) else {
        // It is kept from us.
        return Ok(Some(mailbox.status()?.octets));
    };
    let Status {
        identity, octets, ..
    } = mailbox.status()?;
    let committed = match recovery::committed(disk, user, identity.1) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(error),
        committed => committed.unwrap_or_default(),
    };
    let octets = octets.min(committed.unwrap_or(octets));
    let is_same = journal::identities(disk)? == journal;
    Ok(is_same.then_some(octets))
}

/// Where messages are committed, by one thread at a time.
struct Desk {
    committer: Committer,
    report: Reporter,
    /// How long the last commit took.
    lasted: Duration,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Desk").field(&self.committer).finish()
    }
}

impl Desk {
    /// Commits, and tells who waits; takes the write lock where it is not given.
    fn commit(&mut self, batch: Batch, lock: Option<Box<dyn Lock>>) {
        let begun = Instant::now();
        let (jobs, done): (Vec<Arc<Job>>, Vec<QueuedDone>) = batch.into_iter().unzip();
        let outcomes = match lock {
            Some(lock) => self.committer.commit_holding(lock, &jobs),
            None => self.committer.commit(&jobs),
        };
        self.lasted = begun.elapsed();
        for (QueuedDone(done), outcome) in done.into_iter().zip(outcomes) {
            done(outcome);
        }
    }

    fn close(&mut self) {
        if let Err(error) = self.committer.close() {
            (self.report)(&format!(
                "mailboxes are left for the next start to recover: {error}"
            ));
        }
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Commits what comes until nobody is left to send anything.
fn commit_all(desk: &Mutex<Desk>, batches: &Receiver<Batch>) {
    while let Ok(mut batch) = batches.recv() {
        while batch.len() < BATCH_MESSAGES_MAX
            && let Ok(more) = batches.try_recv()
        {
            batch.extend(more);
        }
        lock(desk).commit(batch, None);
    }
    lock(desk).close();
}

fn job(message: Message) -> Result<Arc<Job>, AppendError> {
    let summary = Summary::new(
        message.text.beginning(),
        message.text.is_whole(),
        &message.reverse_path,
        &message.received,
    );
    if summary.hops() > HOPS_MAX {
        return Err(AppendError::Loop(summary.hops()));
    }
    let records = message.recipients.iter().map(|(user, address)| {
        let head = summary.head(address);
        JobRecord {
            user: user.clone(),
            head: head.lines.into_bytes(),
            plain_body: head.plain_body,
        }
    });
    let records = records.collect();
    let text = message.text.finish();
    let text = text.map_err(|error| AppendError::from_disk("the spool file", &error))?;
    Ok(Arc::new(Job {
        records,
        trace: message.trace.into_bytes(),
        text,
    }))
}

#[derive(Debug)]
struct FileMailbox {
    _permit: Permit,
    disk: Arc<dyn Disk>,
    user: String,
    shown: String,
    /// `None` where there is no mailbox yet.
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: Arc<dyn File>,
    table: Table,
    torn_octets: u64,
}

/// A message's entry, with the file that it is in.
type Found<'a> = (&'a Arc<dyn File>, Entry);

impl FileMailbox {
    fn entry(&self, number: usize) -> Result<Option<Found<'_>>, StoreError> {
        let (Some(opened), Some(at)) = (&self.opened, number.checked_sub(1)) else {
            return Ok(None);
        };
        let entry = opened.table.get(at).map_err(|error| self.error(error))?;
        Ok(entry.map(|entry| (&opened.file, entry)))
    }

    fn error(&self, source: io::Error) -> StoreError {
        if source.kind() == io::ErrorKind::InvalidData {
            // Whoever tries again has another made.
            table::remove(&*self.disk, Path::new(&self.user)).unwrap_or_default();
        }
        StoreError::Io {
            action: "read",
            path: self.shown.clone(),
            source,
        }
    }
}

impl Mailbox for FileMailbox {
    fn count(&self) -> usize {
        self.opened
            .as_ref()
            .map_or(0, |opened| opened.table.count())
    }

    fn summary(&self, number: usize) -> Result<Option<Record>, StoreError> {
        let Some((file, entry)) = self.entry(number)? else {
            return Ok(None);
        };
        let mut heads = Heads::new(&**file);
        let lines = heads.read(entry.span).map_err(|error| self.error(error))?;
        Ok(Some(Record::parse(lines)))
    }

    fn list(
        &self,
        numbers: RangeInclusive<usize>,
        take: &mut TakeLines<'_>,
    ) -> Result<(), CopyError> {
        let Some(opened) = &self.opened else {
            return Ok(());
        };
        let mut heads = Heads::new(&*opened.file);
        for number in numbers {
            let Some((_, entry)) = self.entry(number)? else {
                break;
            };
            let lines = heads.read(entry.span).map_err(|error| self.error(error))?;
            take(number, &Lines::parse(lines))?;
        }
        Ok(())
    }

    fn copy(&self, number: usize, out: &mut dyn io::Write) -> Result<bool, CopyError> {
        let Some((file, Entry { span, .. })) = self.entry(number)? else {
            return Ok(false);
        };
        let mut unwritten = None;
        let copied = copy_span(&**file, span, |octets| {
            out.write_all(octets).map_err(|error| {
                unwritten = Some(error);
                io::ErrorKind::Other.into()
            })
        });
        match (copied, unwritten) {
            (Ok(()), _) => Ok(true),
            (Err(_), Some(error)) => Err(CopyError::Write(error)),
            (Err(error), None) => Err(CopyError::Read(self.error(error))),
        }
    }

    fn octets(&self, number: usize) -> Option<u64> {
        Some(self.entry(number).ok()??.1.octets)
    }

    fn unique_id(&self, number: usize) -> Option<String> {
        let table = &self.opened.as_ref()?.table;
        let entry = table.numbered(number.checked_sub(1)?).ok()??;
        Some(entry.unique_id())
    }

    fn seen(&self, number: usize) -> Option<Seen> {
        let (_, Entry { hash, .. }) = self.entry(number).ok()??;
        Some(Seen { number, hash })
    }

    fn find(&self, unique_id: &str) -> Option<usize> {
        let (hash, copy) = unique_id.split_once('.')?;
        let hash = u128::from_str_radix(hash, 16).ok()?;
        let copy: u32 = copy.parse().ok()?;
        let at = self.opened.as_ref()?.table.find(hash, copy).ok()??;
        Some(at + 1)
    }

    fn read(&self, number: usize) -> Result<Option<Box<dyn Reading>>, StoreError> {
        let Some((file, Entry { span, .. })) = self.entry(number)? else {
            return Ok(None);
        };
        let reader = MessageReader::new(&**file, span).map_err(|error| self.error(error))?;
        let (shown, file) = (self.shown.clone(), Arc::clone(file));
        Ok(Some(Box::new(FileReading {
            shown,
            file,
            reader,
        })))
    }

    fn torn_octets(&self) -> u64 {
        self.opened.as_ref().map_or(0, |opened| opened.torn_octets)
    }
}

#[derive(Debug)]
struct FileReading {
    shown: String,
    file: Arc<dyn File>,
    reader: MessageReader,
}

impl Reading for FileReading {
    fn next(&mut self, text: &mut Vec<u8>) -> Result<bool, StoreError> {
        self.reader
            .next(&*self.file, text)
            .map_err(|source| StoreError::Io {
                action: "read",
                path: self.shown.clone(),
                source,
            })
    }
}

/// Spans that follow each other as one.
fn runs(spans: Vec<Span>) -> Vec<Span> {
    let mut runs: Vec<Span> = Vec::new();
    for span in spans {
        match runs.last_mut() {
            Some(run) if run.end() == span.offset => run.octets += span.octets,
            _ => runs.push(span),
        }
    }
    runs
}

/// Hands the octets of a span to `take`, piece by piece.
///
/// # Errors
///
/// As the file reports them, and as `take` does.
pub(super) fn copy_span(
    file: &dyn File,
    span: Span,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let size = usize::try_from(span.octets).map_or(COPY_OCTETS, |octets| octets.min(COPY_OCTETS));
    let mut buffer = vec![0; size];
    let mut at = span.offset;
    while at < span.end() {
        let left = usize::try_from(span.end() - at)
            .unwrap_or(usize::MAX)
            .min(size);
        match file.read_at(&mut buffer[..left], at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                take(&buffer[..got])?;
                at += got as u64;
            }
        }
    }
    Ok(())
}

/// An error that comes up in work on one file, and is about another.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
struct About {
    path: PathBuf,
    cause: io::Error,
}

/// Says which file an error is about, where it is not the mailbox.
pub(super) fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |cause| io::Error::new(cause.kind(), About { path, cause })
}

/// What happened, to `path` or to the file that the error is about.
fn io_error(action: &'static str, disk: &dyn Disk, path: &Path, error: io::Error) -> StoreError {
    let (path, source) = match error.downcast::<About>() {
        Ok(about) => (disk.show(&about.path), about.cause),
        Err(error) => (disk.show(path), error),
    };
    StoreError::Io {
        action,
        path: path.display().to_string(),
        source,
    }
}
