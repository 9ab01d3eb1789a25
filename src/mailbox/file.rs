//! The store in text files: `USER/mymailbox.mail` under the mail root.
//!
//! One server at a time has a root; other processes may read, delete and append meanwhile. Who
//! changes a mailbox holds the write lock. Who does so beside the server first syncs all mailboxes
//! and removes the journal, and the server notices: so nobody ever works with another's idea of
//! where a mailbox ends. Reading needs no lock: appending leaves what is there as it is, and
//! deleting makes a new file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::disk::{Disk, File, Lock, Open};
use crate::user::UserName;

use super::commit::{Committer, Job, JobRecord};
use super::format::{self, Record, Span, Summary};
use super::recovery::{self, Tail};
use super::spool::{SPOOL_PREFIX, Spool};
use super::{AppendError, CopyError, Done, Mailbox, Message, Reading, Store, StoreError, reading};

/// The lock that a server holds as long as it runs.
pub const SERVER_LOCK_NAME: &str = ".minismtp.server.lock";
/// The lock that is held while a mailbox is changed.
pub const WRITE_LOCK_NAME: &str = ".minismtp.lock";
/// What the names of locks begin with that a session of mailbox access holds.
const MAILDROP_LOCK_PREFIX: &str = ".minismtp.maildrop.";

const MAILBOX_NAME: &str = "mymailbox.mail";
/// What the names of files with torn records begin with.
const TORN_PREFIX: &str = "mymailbox.torn-";
/// How many messages are committed together at most.
const BATCH_MESSAGES_MAX: usize = 256;
/// How many `Received` fields a message may have (RFC 5321 §6.3).
const HOPS_MAX: usize = 100;
/// The start of a record that surely holds its four lines and more.
const SUMMARY_OCTETS: usize = 2048;
/// How much is copied at once.
const COPY_OCTETS: usize = 256 * 1024;

/// Where a user's mail is, under the root.
#[must_use]
pub fn mailbox_path(user: &str) -> PathBuf {
    Path::new(user).join(MAILBOX_NAME)
}

/// Hears of what a person should know: torn records that were set aside, mailboxes that somebody
/// changed.
pub type Reporter = Box<dyn Fn(&str) + Send>;

/// Mail in text files.
#[derive(Debug)]
pub struct FileStore {
    disk: Arc<dyn Disk>,
    /// The thread that commits; `None` in a program that only visits.
    committer: Mutex<Option<Commits>>,
    server_lock: Option<Box<dyn Lock>>,
}

#[derive(Debug)]
struct Commits {
    queue: Sender<(Job, QueuedDone)>,
    thread: JoinHandle<()>,
}

struct QueuedDone(Done);

impl std::fmt::Debug for QueuedDone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Done")
    }
}

impl FileStore {
    /// Takes the root over for a server: recovers it, and commits in a thread of its own.
    ///
    /// # Errors
    ///
    /// Another server has it, or it cannot be recovered.
    pub fn serve(disk: Arc<dyn Disk>, report: Reporter) -> Result<Self, StoreError> {
        let root = Path::new("");
        let server_lock = disk
            .lock(Path::new(SERVER_LOCK_NAME), false)
            .map_err(|error| io_error("lock", &*disk, root, error))?
            .ok_or_else(|| StoreError::InUse {
                root: disk.show(root).display().to_string(),
            })?;
        {
            let error = |error| io_error("recover", &*disk, root, error);
            let _lock = disk.lock(Path::new(WRITE_LOCK_NAME), true).map_err(error)?;
            for finding in recovery::recover(&*disk, Tail::Doubtful).map_err(error)? {
                report(&finding);
            }
            for name in disk.names(root).map_err(error)? {
                if name.starts_with(SPOOL_PREFIX) {
                    disk.remove(Path::new(&name)).map_err(error)?;
                }
            }
        }
        let (queue, jobs) = channel();
        let committer = Committer::new(Arc::clone(&disk));
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || commit_all(committer, &jobs, &report))
            .map_err(|error| io_error("serve", &*disk, root, error))?;
        let committer = Mutex::new(Some(Commits { queue, thread }));
        Ok(Self {
            disk,
            committer,
            server_lock: Some(server_lock),
        })
    }

    /// Visits the root, whether or not a server has it.
    #[must_use]
    pub fn visit(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            committer: Mutex::new(None),
            server_lock: None,
        }
    }

    /// Runs a change that is not an append: under the write lock, with everything synced and
    /// no journal.
    fn change<T>(
        &self,
        path: &Path,
        change: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let change = || {
            let _lock = self.disk.lock(Path::new(WRITE_LOCK_NAME), true)?;
            recovery::recover(&*self.disk, self.tail()?)?;
            change()
        };
        change().map_err(|error| io_error("write", &*self.disk, path, error))
    }

    /// Whether octets behind the last committed record may be a crash's, while the write lock is
    /// held.
    fn tail(&self) -> io::Result<Tail> {
        let is_served = self.server_lock.is_some()
            || self
                .disk
                .lock(Path::new(SERVER_LOCK_NAME), false)?
                .is_none();
        Ok(if is_served {
            Tail::KeepWhole
        } else {
            Tail::Doubtful
        })
    }

    fn rewrite(&self, path: &Path, numbers: &[usize]) -> io::Result<Vec<usize>> {
        let Some(status) = self.disk.status(path)? else {
            return Ok(numbers.to_vec());
        };
        let file = self.disk.open(path, Open::Write)?;
        let spans = format::spans(&*file)?;
        let is_there = |number: &usize| (1..=spans.len()).contains(number);
        let missing: Vec<usize> = numbers.iter().copied().filter(|n| !is_there(n)).collect();
        if !missing.is_empty() {
            return Ok(missing);
        }
        let end = spans.last().map_or(0, Span::end);
        recovery::set_aside(&*self.disk, path, &*file, end, &mut Vec::new())?;

        let directory = path.parent().unwrap_or_else(|| Path::new(""));
        let beside = directory.join(".minismtp.mymailbox.new");
        match self.disk.remove(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let new = self.disk.open(&beside, Open::New)?;
        let written = (|| {
            new.set_access(&status)?;
            let mut at = 0;
            let kept = (1..)
                .zip(&spans)
                .filter(|(number, _)| !numbers.contains(number));
            for (_, span) in kept {
                copy_span(&*file, *span, |octets| {
                    new.write_at(octets, at)?;
                    at += octets.len() as u64;
                    Ok(())
                })?;
            }
            new.sync()?;
            self.disk.rename(&beside, path)
        })();
        if written.is_err() {
            drop(self.disk.remove(&beside));
        }
        written?;
        self.disk.sync_directory(directory)?;
        Ok(missing)
    }

    fn remove_files(&self, directory: &Path) -> io::Result<()> {
        let names = match self.disk.names(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for name in names {
            if name == MAILBOX_NAME || name.starts_with(TORN_PREFIX) {
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
        Spool::new(Arc::clone(&self.disk))
    }

    fn append(&self, message: Message, done: Done) {
        let job = match job(message) {
            Ok(job) => job,
            Err(error) => return done(Err(error)),
        };
        let committer = self
            .committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(Commits { queue, .. }) = &*committer {
            if let Err(unsent) = queue.send((job, QueuedDone(done))) {
                let (_, QueuedDone(done)) = unsent.0;
                done(Err(AppendError::Failed("the store is closed".to_owned())));
            }
            return;
        }
        drop(committer);
        if self.server_lock.is_some() {
            return done(Err(AppendError::Failed("the store is closed".to_owned())));
        }
        let mut committer = Committer::new(Arc::clone(&self.disk));
        let outcome = committer.commit(&[job]).pop();
        // What is committed is durable; a journal that stays is the next one's to clean up.
        drop(committer.close());
        done(outcome.unwrap_or(Ok(())));
    }

    fn open(&self, user: &UserName) -> Result<Box<dyn Mailbox>, StoreError> {
        let path = mailbox_path(user.as_str());
        let opened = (|| {
            let file = match self.disk.open(&path, Open::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(file?),
            };
            let (spans, octets) = match &file {
                None => (Vec::new(), 0),
                Some(file) => (format::spans(&**file)?, file.status()?.octets),
            };
            let torn_octets = octets.saturating_sub(spans.last().map_or(0, Span::end));
            Ok((file, spans, torn_octets))
        })();
        let shown = self.disk.show(&path).display().to_string();
        match opened {
            Ok((file, spans, torn_octets)) => Ok(Box::new(FileMailbox {
                shown,
                file,
                spans,
                torn_octets,
            })),
            Err(source) => Err(StoreError::Io {
                action: "read",
                path: shown,
                source,
            }),
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
        let path = PathBuf::from(format!("{MAILDROP_LOCK_PREFIX}{}.lock", user.as_str()));
        let lock = self.disk.lock(&path, false);
        lock.map_err(|error| io_error("lock", &*self.disk, &path, error))
    }

    fn expunge(&self, user: &UserName, numbers: &[usize]) -> Result<Vec<usize>, StoreError> {
        let path = mailbox_path(user.as_str());
        self.change(&path, || self.rewrite(&path, numbers))
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
        let mut committer = self
            .committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(Commits { queue, thread }) = committer.take() {
            drop(queue);
            // A panic there was reported there.
            drop(thread.join());
        }
    }
}

/// Commits what comes until nobody is left to send anything.
fn commit_all(mut committer: Committer, jobs: &Receiver<(Job, QueuedDone)>, report: &Reporter) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH_MESSAGES_MAX - 1));
        let (batch, done): (Vec<Job>, Vec<QueuedDone>) = batch.into_iter().unzip();
        let outcomes = committer.commit(&batch);
        for (QueuedDone(done), outcome) in done.into_iter().zip(outcomes) {
            done(outcome);
        }
        committer
            .take_findings()
            .iter()
            .for_each(|finding| report(finding));
    }
    if let Err(error) = committer.close() {
        report(&format!(
            "mailboxes are left for the next start to recover: {error}"
        ));
    }
    committer
        .take_findings()
        .iter()
        .for_each(|finding| report(finding));
}

fn job(message: Message) -> Result<Job, AppendError> {
    let summary = Summary::new(
        message.text.beginning(),
        &message.reverse_path,
        &message.received,
    );
    if summary.hops() > HOPS_MAX {
        return Err(AppendError::Loop(summary.hops()));
    }
    let records = message.recipients.iter().map(|(user, address)| {
        let head = summary.head(address);
        let (user, lines) = (user.as_str().to_owned(), head.lines.into_bytes());
        JobRecord {
            user,
            head: lines,
            plain_body: head.plain_body,
        }
    });
    let records = records.collect();
    let text = message.text.finish();
    let text = text.map_err(|error| AppendError::from_disk("the spool file", &error))?;
    Ok(Job {
        records,
        trace: message.trace.into_bytes(),
        text,
    })
}

#[derive(Debug)]
struct FileMailbox {
    shown: String,
    file: Option<Box<dyn File>>,
    spans: Vec<Span>,
    torn_octets: u64,
}

impl FileMailbox {
    fn find(&self, number: usize) -> Option<(&dyn File, Span)> {
        let span = self.spans.get(number.checked_sub(1)?)?;
        Some((&**self.file.as_ref()?, *span))
    }

    fn record(&self, number: usize) -> Option<Vec<u8>> {
        let mut record = Vec::new();
        self.copy(number, &mut record).ok()?.then_some(record)
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError::Io {
            action: "read",
            path: self.shown.clone(),
            source,
        }
    }
}

impl Mailbox for FileMailbox {
    fn count(&self) -> usize {
        self.spans.len()
    }

    fn summary(&self, number: usize) -> Result<Option<Record>, StoreError> {
        let Some((file, span)) = self.find(number) else {
            return Ok(None);
        };
        let octets = usize::try_from(span.octets)
            .unwrap_or(usize::MAX)
            .min(SUMMARY_OCTETS);
        let mut beginning = Vec::with_capacity(octets);
        let part = Span {
            offset: span.offset,
            octets: octets as u64,
        };
        let copied = copy_span(file, part, |octets| {
            beginning.extend_from_slice(octets);
            Ok(())
        });
        copied.map_err(|error| self.error(error))?;
        Ok(Some(Record::parse(&beginning)))
    }

    fn copy(&self, number: usize, out: &mut dyn io::Write) -> Result<bool, CopyError> {
        let Some((file, span)) = self.find(number) else {
            return Ok(false);
        };
        let mut unwritten = None;
        let copied = copy_span(file, span, |octets| {
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
        Some(reading::Text::new(&self.record(number)?).octets())
    }

    fn unique_id(&self, number: usize) -> Option<String> {
        let record = self.record(number)?;
        let twins = (1..number).filter(|&other| self.record(other).as_ref() == Some(&record));
        Some(reading::unique_id(&record, twins.count()))
    }

    fn read(&self, number: usize) -> Result<Option<Box<dyn Reading>>, StoreError> {
        let text = self
            .record(number)
            .map(|record| reading::Text::new(&record));
        Ok(text.map(|text| Box::new(text) as Box<dyn Reading>))
    }

    fn torn_octets(&self) -> u64 {
        self.torn_octets
    }
}

/// Hands the octets of a span to `take`, piece by piece.
fn copy_span(
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

fn io_error(action: &'static str, disk: &dyn Disk, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: disk.show(path).display().to_string(),
        source,
    }
}
