//! Group commit: many appends, one sync.
//!
//! The order is what keeps the promise (each step before the next, and all of them under the write
//! lock):
//!
//! 1. the names that lead to a mailbox are synced, and its length is durable in the journal;
//! 2. records are written to the mailboxes, where they do not count yet;
//! 3. the journal entry is written and synced: now they count;
//! 4. whoever waits is told.
//!
//! What can fail for want of space fails in step 2, where it is undone by cutting the mailboxes
//! back. When step 3 fails, nobody knows what is on the disk: the entry is overwritten and the
//! store recovered as after a crash; until that succeeds, nothing more is taken. Mailboxes are
//! synced later, all at once and in the background, when a part of the journal is full.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, File, Glance, Lock, Open, Status, Task, TaskError};
use crate::user::UserName;

use super::checkpoint::{Checkpointer, Due};
use super::file::mailbox_path;
use super::format;
use super::ids;
use super::journal::{self, Base, Entry, Journal, Placed};
use super::locks;
use super::recovery::{self, Tail};
use super::spool::Text;
use super::{AppendError, Reporter};

/// Texts of this size and more go to their mailboxes directly and are synced there; writing them
/// to the journal too would cost more than the syncs it saves.
pub const DIRECT_OCTETS_MIN: u64 = 32 * 1024;
/// How many mailboxes are known, with or without a handle; all are named at the start of each
/// journal.
const MAILBOXES_MAX: usize = 10_000;
/// How many mailboxes get large texts at once.
const MAILBOXES_AT_ONCE: usize = 64;
/// How much memory a mailbox keeps for its next records.
const PENDING_OCTETS_KEPT: usize = 4096;
/// From so many octets on, what is pending is written before the batch is complete: a batch may be
/// hundreds of messages for a thousand mailboxes.
const PENDING_OCTETS_MAX: usize = 64 * 1024;

/// A message ready to be stored.
#[derive(Debug)]
pub struct Job {
    /// A record for each recipient.
    pub records: Vec<JobRecord>,
    /// Trace fields, which full records begin their content with.
    pub trace: Vec<u8>,
    /// The message and the line that ends a record.
    pub text: Text,
}

/// One recipient's record of a message.
#[derive(Debug)]
pub struct JobRecord {
    /// Whose mailbox.
    pub user: UserName,
    /// The four lines.
    pub head: Vec<u8>,
    /// Where the content begins in the text; `None` for the trace fields and all of the text.
    pub plain_body: Option<usize>,
}

impl Job {
    /// The text, if it is to be in the journal.
    fn small_text(&self) -> Option<&[u8]> {
        match &self.text {
            Text::Memory(octets) if (octets.len() as u64) < DIRECT_OCTETS_MIN => Some(octets),
            _ => None,
        }
    }

    /// Whether the text goes to the mailboxes only, and is synced there.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.small_text().is_none()
    }

    /// The most that it takes in the journal, besides what a large text does not put there.
    fn journal_octets(&self) -> u64 {
        // Numbers and lengths of a frame, and of each record in it.
        const FRAME_OCTETS: usize = 32;
        const RECORD_OCTETS: usize = 32;
        let records = self.records.iter();
        let heads: usize = records
            .map(|record| record.head.len() + record.user.as_str().len() + RECORD_OCTETS)
            .sum();
        let text = self.small_text().map_or(0, <[u8]>::len);
        (FRAME_OCTETS + heads + self.trace.len() + text) as u64
    }
}

/// How a committer works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many mailboxes it holds open.
    pub handles_max: usize,
    /// How large a part of the journal is, in octets.
    pub part_octets_max: u64,
    /// Whether mailboxes are synced in a thread beside it.
    pub in_background: bool,
}

/// The one that writes mailboxes.
pub struct Committer {
    disk: Arc<dyn Disk>,
    settings: Settings,
    journal: Option<Journal>,
    checkpointer: Checkpointer,
    mailboxes: HashMap<String, KnownMailbox>,
    /// Mailboxes that the journal does not know the length of.
    without_base: Vec<String>,
    /// The journal could not be synced, or something written could not be undone: nothing is
    /// certain before a recovery has gone through.
    is_broken: bool,
    report: Reporter,
    /// Counts batches.
    batch: u64,
    /// What is about to be written to the journal.
    frames: Vec<u8>,
    /// The lock of the server that commits here.
    server_lock: Option<Box<dyn Lock>>,
    /// Something of a refused message may be left behind what counts.
    may_have_excess: bool,
    /// A mailbox may be known without a handle.
    may_lack_handles: bool,
    /// Where the records of a message begin.
    offsets: Vec<u64>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Committer").field(&self.disk).finish()
    }
}

#[derive(Debug)]
struct KnownMailbox {
    path: PathBuf,
    /// `None` where others needed the handle; all is synced then.
    file: Option<Arc<dyn File>>,
    identity: (u64, u64),
    /// What the journal vouches for.
    committed: u64,
    /// What is written, or will be with what is pending. More than committed only within a batch.
    written: u64,
    /// The end of that, not yet given to the system: one write for all records of a batch.
    pending: Vec<u8>,
    /// The batch in which somebody looked whether it is still the same file.
    seen_in: u64,
    /// How much of that is durable in the file itself.
    synced: u64,
    /// Something durable was cut off, and that is not durable yet.
    is_cut: bool,
    /// A sync failed. Another would succeed and mean nothing; only recovery helps.
    has_lost: bool,
    /// Behind what is written stands something of a message that was refused.
    has_excess: bool,
}

/// A record of a large text.
struct Large {
    job: Arc<Job>,
    /// Which of the job's records.
    number: usize,
}

impl Large {
    fn record(&self) -> &JobRecord {
        &self.job.records[self.number]
    }

    fn beginning(&self) -> [&[u8]; 2] {
        let trace = match self.record().plain_body {
            None => self.job.trace.as_slice(),
            Some(_) => &[],
        };
        [&self.record().head, trace]
    }

    fn start(&self) -> u64 {
        self.record().plain_body.unwrap_or(0) as u64
    }

    fn octets(&self) -> u64 {
        let beginning: usize = self.beginning().iter().map(|part| part.len()).sum();
        beginning as u64 + self.job.text.octets().saturating_sub(self.start())
    }

    /// Writes it at an offset.
    fn write(&self, file: &dyn File, mut at: u64) -> io::Result<()> {
        let mut beginning = self.beginning();
        self.job.text.pieces(self.start(), |octets| {
            let [head, trace] = std::mem::take(&mut beginning);
            file.write_pieces_at(&[head, trace, octets], at)?;
            at += (head.len() + trace.len() + octets.len()) as u64;
            Ok(())
        })
    }
}

type Outcome = Result<(), AppendError>;

impl Committer {
    /// Begins with nothing open. The store must be recovered.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, settings: Settings, report: Reporter) -> Self {
        let checkpointer = if settings.in_background {
            Checkpointer::in_background(Arc::clone(&disk))
        } else {
            Checkpointer::on_demand()
        };
        Self {
            disk,
            settings,
            journal: None,
            checkpointer,
            mailboxes: HashMap::new(),
            without_base: Vec::new(),
            is_broken: false,
            report,
            batch: 0,
            frames: Vec::new(),
            server_lock: None,
            may_have_excess: false,
            may_lack_handles: false,
            offsets: Vec::new(),
        }
    }

    /// Commits for the server that has this lock, and tells others there when a batch is half done.
    #[must_use]
    pub fn of_server(mut self, server_lock: Box<dyn Lock>) -> Self {
        self.server_lock = Some(server_lock);
        self
    }

    /// Stores messages, each for all its recipients or none; gives an outcome for each. Waits for
    /// whoever changes a mailbox.
    pub fn commit(&mut self, jobs: &[Arc<Job>]) -> Vec<Outcome> {
        match locks::write_lock(&*self.disk, &self.report) {
            Ok(lock) => self.commit_holding(lock, jobs),
            Err(error) => refuse_all(jobs, &error),
        }
    }

    /// The same with the write lock, for who must not wait for it.
    pub fn commit_holding(&mut self, lock: Box<dyn Lock>, jobs: &[Arc<Job>]) -> Vec<Outcome> {
        let outcomes = match self.set_at_rest(false) {
            Ok(()) => self.commit_locked(jobs),
            Err(error) => refuse_all(jobs, &error),
        };
        if self.may_have_excess {
            self.may_have_excess = self.mailboxes.values().any(|mailbox| mailbox.has_excess);
        }
        if !self.is_broken && !self.may_have_excess {
            // Where it cannot be said, others take whatever is behind the journal for half done.
            self.set_at_rest(true).unwrap_or_default();
        }
        drop(lock);
        outcomes
    }

    fn set_at_rest(&self, is_at_rest: bool) -> io::Result<()> {
        match &self.server_lock {
            Some(lock) => lock.set_at_rest(is_at_rest),
            None => Ok(()),
        }
    }

    /// Syncs everything and removes the journal: a clean end.
    ///
    /// # Errors
    ///
    /// As the disk reports them. The journal is still there, and the next start recovers.
    pub fn close(&mut self) -> io::Result<()> {
        let _lock = locks::write_lock(&*self.disk, &self.report)?;
        self.check_journal();
        self.end_checkpoint(true);
        if self.is_broken {
            return self.recover();
        }
        if self.journal.is_none() {
            return Ok(());
        }
        if self.cut_all_back().is_err() || self.sync_mailboxes().is_err() {
            return self.recover();
        }
        self.forget();
        journal::remove(&*self.disk)
    }

    fn commit_locked(&mut self, jobs: &[Arc<Job>]) -> Vec<Outcome> {
        self.batch += 1;
        if let Err(error) = self.make_ready() {
            return refuse_all(jobs, &error);
        }
        let mut outcomes: Vec<Outcome> = jobs.iter().map(|job| self.open_mailboxes(job)).collect();
        if let Err(error) = self.write_bases() {
            self.break_off(&error);
            return refuse_all(jobs, &error);
        }
        // What fails for want of space had better fail before anything is written.
        let octets = jobs.iter().map(|job| job.journal_octets()).sum();
        if let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.reserve(octets)) {
            return refuse_all(jobs, &error);
        }
        let good = jobs
            .iter()
            .zip(&outcomes)
            .filter_map(|(job, outcome)| outcome.is_ok().then_some(job));
        let good: Vec<&Arc<Job>> = good.collect();
        if good.is_empty() {
            return outcomes;
        }
        let written = self.write_all(&good);
        if written.is_err() && good.len() > 1 {
            // One of them cannot be written. Which one shows when each is alone.
            for (job, outcome) in jobs.iter().zip(&mut outcomes) {
                if outcome.is_ok() {
                    *outcome = self.commit_locked(std::slice::from_ref(job)).remove(0);
                }
            }
            return outcomes;
        }
        let committed = written.and_then(|()| {
            let frames = std::mem::take(&mut self.frames);
            let committed = self.write_frames(&frames);
            self.frames = frames;
            committed.map_err(|error| self.undo(&error))
        });
        match committed {
            Ok(()) => self.accept(&good),
            Err(failure) => {
                for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                    *outcome = Err(failure.clone());
                }
            }
        }
        outcomes
    }

    /// Brings the store into a state in which a batch can begin.
    fn make_ready(&mut self) -> io::Result<()> {
        self.check_journal();
        self.end_checkpoint(false);
        if self.is_broken {
            self.recover()?;
        }
        let is_full = self.journal.as_ref().is_some_and(Journal::is_full);
        if is_full || self.mailboxes.len() > MAILBOXES_MAX {
            self.checkpoint()?;
        }
        if self.journal.is_none() {
            if journal::exists(&*self.disk)? {
                self.recover()?;
            }
            let part_octets_max = self.settings.part_octets_max;
            self.journal = Some(Journal::create(&*self.disk, part_octets_max)?);
        }
        Ok(())
    }

    /// Another process that changes mailboxes syncs everything and removes the journal first,
    /// under the lock: then nothing that is known here holds any more.
    fn check_journal(&mut self) {
        let Some(journal) = &self.journal else { return };
        if !journal.is_there(&*self.disk).unwrap_or(true) {
            // Unless it was no visitor, but somebody who tidied up: then nothing else vouches for them.
            if let Err(error) = self.sync_mailboxes() {
                (self.report)(&format!(
                    "the journal was removed, and mailboxes cannot be synced: {error}"
                ));
            }
            self.forget();
            self.is_broken = false;
        }
    }

    fn forget(&mut self) {
        self.journal = None;
        self.mailboxes.clear();
        self.may_lack_handles = false;
        self.without_base.clear();
    }

    fn recover(&mut self) -> io::Result<()> {
        self.is_broken = true;
        if let Some(journal) = &mut self.journal {
            // A commit that failed must not be found.
            journal.retract()?;
        }
        self.forget();
        recovery::recover(&*self.disk, Tail::Doubtful, &self.report)?;
        self.is_broken = false;
        Ok(())
    }

    /// Begins a new epoch of the journal, and has the mailboxes synced that the present one
    /// vouches for, unless that is still being done for the one before.
    fn checkpoint(&mut self) -> io::Result<()> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        if self.checkpointer.is_running() {
            if !journal.is_overfull() {
                return Ok(());
            }
            self.end_checkpoint(true);
            if self.is_broken {
                return self.recover();
            }
        }
        if self.mailboxes.len() > MAILBOXES_MAX {
            self.mailboxes
                .retain(|_, mailbox| mailbox.has_excess || mailbox.owes_sync());
        }
        let bases = self
            .mailboxes
            .iter()
            .map(|(user, mailbox)| mailbox.base(user));
        let bases = bases.collect();
        let begun = self
            .journal
            .as_mut()
            .map(|journal| journal.begin_epoch(&*self.disk, bases));
        if let Some(Err(error)) = begun {
            self.is_broken = true;
            return Err(error);
        }
        let mut due = Vec::new();
        for (user, mailbox) in &mut self.mailboxes {
            if mailbox.owes_sync()
                && let Some(file) = &mailbox.file
            {
                due.push(Due {
                    user: user.clone(),
                    file: Arc::clone(file),
                    octets: mailbox.written,
                });
                mailbox.is_cut = false;
            }
        }
        self.checkpointer.begin(due);
        Ok(())
    }

    /// Takes notice of a checkpoint that has come to its end.
    fn end_checkpoint(&mut self, wait: bool) {
        match self.checkpointer.result(wait) {
            None => {}
            Some(Ok(synced)) => {
                for Due { user, file, octets } in synced {
                    if let Some(mailbox) = self.mailboxes.get_mut(&user)
                        && mailbox
                            .file
                            .as_ref()
                            .is_some_and(|own| Arc::ptr_eq(own, &file))
                    {
                        mailbox.synced = mailbox.synced.max(octets);
                    }
                }
            }
            // A failed sync is never tried again: recovery writes the records anew.
            Some(Err(error)) => {
                self.is_broken = true;
                (self.report)(&format!("mailboxes cannot be synced: {error}"));
            }
        }
    }

    fn sync_mailboxes(&mut self) -> io::Result<()> {
        self.mailboxes.values_mut().try_for_each(KnownMailbox::sync)
    }

    fn cut_all_back(&mut self) -> io::Result<()> {
        let owing = self
            .mailboxes
            .iter()
            .filter(|(_, mailbox)| mailbox.has_excess);
        let owing: Vec<String> = owing.map(|(user, _)| user.clone()).collect();
        owing
            .iter()
            .try_for_each(|user| self.mailbox(user)?.cut_back())
    }

    /// Opens what the job needs, or finds it still open and unchanged.
    fn open_mailboxes(&mut self, job: &Job) -> Outcome {
        for record in &job.records {
            let opened = self.open_mailbox(record.user.as_str());
            opened.map_err(|error| {
                let path = self.disk.show(&mailbox_path(record.user.as_str()));
                AppendError::from_disk(&path.display().to_string(), &error)
            })?;
        }
        Ok(())
    }

    fn open_mailbox(&mut self, user: &str) -> io::Result<()> {
        if self.may_have_excess
            && let Some(mailbox) = self.mailboxes.get(user)
            && mailbox.has_excess
        {
            self.mailbox(user)?.cut_back()?;
        }
        if let Some(mailbox) = self.mailboxes.get_mut(user) {
            if mailbox.seen_in == self.batch {
                return Ok(());
            }
            let found = self.disk.glance(&mailbox.path)?;
            let known = Glance {
                identity: mailbox.identity,
                octets: mailbox.written,
            };
            if found == Some(known) {
                mailbox.seen_in = self.batch;
                return Ok(());
            }
            // Somebody removed, replaced or edited it. What is there now is what counts.
            (self.report)(&format!(
                "mailbox {} was changed by somebody else",
                self.disk.show(&mailbox.path).display(),
            ));
            // What it still owes to the disk must not be forgotten with it.
            if let Err(error) = mailbox.sync() {
                self.is_broken = true;
                return Err(error);
            }
            self.mailboxes.remove(user);
        }
        self.make_room(1);
        let path = mailbox_path(user);
        let directory = Path::new(user);
        self.disk.make_directory(directory)?;
        ids::settle(&*self.disk, &path)?;
        let file = self.disk.open(&path, Open::Write)?;
        let Status {
            identity, octets, ..
        } = file.status()?;
        self.is_nobody_elses(identity)?;
        let end = format::last_record_end(&*file, octets)?;
        recovery::set_aside(&*self.disk, &path, &*file, end, &self.report)?;
        if let Err(error) = file.sync() {
            // The journal may hold records that were lost with that, and has to be asked.
            self.is_broken = true;
            return Err(error);
        }
        self.disk.sync_directory(directory)?;
        let mailbox = KnownMailbox {
            identity,
            path,
            file: Some(file.into()),
            committed: end,
            written: end,
            pending: Vec::new(),
            seen_in: self.batch,
            synced: end,
            is_cut: false,
            has_lost: false,
            has_excess: false,
        };
        self.mailboxes.insert(user.to_owned(), mailbox);
        self.without_base.push(user.to_owned());
        Ok(())
    }

    /// Fails where a mailbox is another one too, by a hard link: each would be written to as if it had
    /// its end to itself.
    fn is_nobody_elses(&self, identity: (u64, u64)) -> io::Result<()> {
        let mut others = self.mailboxes.values();
        let Some(other) = others.find(|other| other.identity == identity) else {
            return Ok(());
        };
        // Unless somebody gave it another name.
        let found = self.disk.glance(&other.path)?;
        if found.is_none_or(|found| found.identity != identity) {
            return Ok(());
        }
        let path = self.disk.show(&other.path);
        Err(io::Error::other(format!(
            "the same file as `{}`: each user needs one",
            path.display()
        )))
    }

    /// Makes the lengths of newly opened mailboxes durable, before anything is written to them.
    fn write_bases(&mut self) -> io::Result<()> {
        if self.without_base.is_empty() {
            return Ok(());
        }
        let new = std::mem::take(&mut self.without_base);
        let bases = new
            .iter()
            .filter_map(|user| Some(self.mailboxes.get(user)?.base(user)));
        let bases = bases.collect();
        self.disk.sync_directory(Path::new(""))?;
        let journal = self.journal.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let mut frames = Vec::new();
        journal.frame(&Entry::Base(bases), &mut frames)?;
        self.write_frames(&frames)
    }

    fn write_frames(&mut self, frames: &[u8]) -> io::Result<()> {
        let journal = self.journal.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        journal.reserve(frames.len() as u64)?;
        journal.commit(frames)
    }

    /// Writes the records of all these messages, and frames the entries that will make them count.
    /// If one of them cannot be written, none is.
    fn write_all(&mut self, jobs: &[&Arc<Job>]) -> Outcome {
        self.frames.clear();
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for job in jobs {
            match job.small_text() {
                Some(text) => small.push((*job, text)),
                None => large.push(*job),
            }
        }
        let mut written = small
            .iter()
            .try_for_each(|(job, text)| self.write_small(job, text));
        if written.is_ok() {
            let mut records = small.iter().flat_map(|(job, _)| &job.records);
            written = records.try_for_each(|record| self.mailbox(record.user.as_str())?.flush());
        }
        if written.is_ok() && !large.is_empty() {
            written = self.write_large(&large);
        }
        written.map_err(|error| {
            self.cut_batch_back();
            AppendError::from_disk("the mailboxes", &error)
        })
    }

    fn write_small(&mut self, job: &Job, text: &[u8]) -> io::Result<()> {
        self.offsets.clear();
        for record in &job.records {
            let mailbox = self.mailbox(record.user.as_str())?;
            let offset = mailbox.written;
            mailbox.put(&record.head)?;
            match record.plain_body {
                None => {
                    mailbox.put(&job.trace)?;
                    mailbox.put(text)?;
                }
                Some(body) => mailbox.put(&text[body..])?,
            }
            self.offsets.push(offset);
        }
        let records = job.records.iter().zip(&self.offsets);
        let placed = records.map(|(record, &offset)| Placed {
            user: record.user.as_str(),
            offset,
            head: &record.head,
            start: record.plain_body.map_or(0, |body| job.trace.len() + body),
        });
        let journal = self.journal.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        journal.frame_append(placed, [&job.trace, text], &mut self.frames)
    }

    /// Writes texts that are not to be in the journal too, and syncs their mailboxes, some at once:
    /// a disk that has much to do does more.
    fn write_large(&mut self, jobs: &[&Arc<Job>]) -> io::Result<()> {
        let mut mailboxes: BTreeMap<&str, Vec<Large>> = BTreeMap::new();
        for job in jobs {
            for (number, record) in job.records.iter().enumerate() {
                let job = Arc::clone(job);
                let of_mailbox = mailboxes.entry(record.user.as_str()).or_default();
                of_mailbox.push(Large { job, number });
            }
        }
        let users: Vec<&str> = mailboxes.keys().copied().collect();
        let mut mailboxes = mailboxes.into_iter();
        let mut spans = Vec::with_capacity(users.len());
        let at_once = self.settings.handles_max.clamp(1, MAILBOXES_AT_ONCE);
        for some in users.chunks(at_once) {
            let some = mailboxes.by_ref().take(some.len()).collect();
            self.write_some_large(some, &mut spans)?;
        }
        // The system tells an error once: it may have told the checkpoint, if that syncs one of these.
        if users.iter().any(|user| self.checkpointer.is_syncing(user)) {
            self.end_checkpoint(true);
            if self.is_broken {
                return Err(io::Error::other("mailboxes cannot be synced"));
            }
        }
        let journal = self.journal.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        journal.frame(&Entry::Direct(spans), &mut self.frames)
    }

    fn write_some_large(
        &mut self,
        mailboxes: Vec<(&str, Vec<Large>)>,
        spans: &mut Vec<(String, u64, u64)>,
    ) -> io::Result<()> {
        // All handles first: to make room for one syncs others, with all that they should hold.
        self.make_room(mailboxes.len());
        let users: Vec<&str> = mailboxes.iter().map(|(user, _)| *user).collect();
        let files = users.iter().map(|user| self.mailbox(user)?.file().cloned());
        let files: Vec<Arc<dyn File>> = files.collect::<io::Result<_>>()?;
        let mut tasks: Vec<Task> = Vec::with_capacity(files.len());
        for ((user, records), file) in mailboxes.into_iter().zip(files) {
            let mailbox = self
                .mailboxes
                .get_mut(user)
                .ok_or(io::ErrorKind::NotFound)?;
            if mailbox.has_lost {
                return Err(io::Error::other("an earlier sync failed"));
            }
            let start = mailbox.written;
            for record in &records {
                let octets = record.octets();
                spans.push((user.to_owned(), mailbox.written, octets));
                mailbox.written += octets;
            }
            tasks.push(Box::new(move || {
                write_records(&*file, &records, start).map_err(TaskError::Write)?;
                file.sync().map_err(TaskError::Sync)
            }));
        }
        let mut written = Ok(());
        for (user, done) in users.into_iter().zip(self.disk.at_once(tasks)) {
            let synced = match done {
                Ok(()) => Ok(()),
                Err(TaskError::Sync(error)) => Err(error),
                Err(TaskError::Write(error)) => {
                    written = written.and(Err(error));
                    continue;
                }
            };
            // Earlier records may be lost with these; they are in the journal.
            self.is_broken |= synced.is_err();
            // Whatever came of the others, each has to hear of its own.
            if let Some(mailbox) = self.mailboxes.get_mut(user) {
                let result = mailbox.take_synced(synced);
                written = written.and(result);
            }
        }
        written
    }

    /// A known mailbox, with its handle.
    fn mailbox(&mut self, user: &str) -> io::Result<&mut KnownMailbox> {
        if self.may_lack_handles
            && let Some(mailbox) = self.mailboxes.get(user)
            && mailbox.file.is_none()
        {
            self.make_room(1);
        }
        let mailbox = self
            .mailboxes
            .get_mut(user)
            .ok_or(io::ErrorKind::NotFound)?;
        if mailbox.file.is_none() {
            let file = self.disk.open(&mailbox.path, Open::Write)?;
            if file.status()?.identity != mailbox.identity {
                return Err(io::ErrorKind::NotFound.into());
            }
            mailbox.file = Some(file.into());
        }
        Ok(mailbox)
    }

    /// Gives handles back, half of them at once, where there is no room for so many more. A handle
    /// is only closed once what was written through it is synced: errors are told to it alone.
    fn make_room(&mut self, wanted: usize) {
        let open = self
            .mailboxes
            .values()
            .filter(|mailbox| mailbox.file.is_some())
            .count();
        let handles_max = self.settings.handles_max.max(1);
        if open + wanted <= handles_max {
            return;
        }
        let mut spare = (open + wanted - handles_max).max(open.saturating_sub(handles_max / 2));
        // What is still to be cut off must not be taken for synced.
        for mailbox in self
            .mailboxes
            .values_mut()
            .filter(|mailbox| mailbox.file.is_some() && !mailbox.has_excess)
        {
            if spare == 0 {
                return;
            }
            if mailbox.flush().is_err() {
                // That is found out again when the batch is written.
                continue;
            }
            spare -= 1;
            match mailbox.sync() {
                Ok(()) => {
                    mailbox.file = None;
                    self.may_lack_handles = true;
                }
                // The journal knows what is lost with that.
                Err(_) => self.is_broken = true,
            }
        }
    }

    /// Takes a batch that could not be written or committed out of the mailboxes again.
    fn cut_batch_back(&mut self) {
        let mut changed = Vec::new();
        for (user, mailbox) in &mut self.mailboxes {
            if mailbox.written != mailbox.committed {
                mailbox.written = mailbox.committed;
                mailbox.pending.clear();
                mailbox.has_excess = true;
                changed.push(user.clone());
            }
        }
        for user in changed {
            // If that fails, it is tried again before the next message for this mailbox; the others
            // need not wait for it.
            let cut = self.mailbox(&user).and_then(KnownMailbox::cut_back);
            self.may_have_excess |= cut.is_err();
        }
    }

    /// The batch counts.
    fn accept(&mut self, jobs: &[&Arc<Job>]) {
        for record in jobs.iter().flat_map(|job| &job.records) {
            if let Some(mailbox) = self.mailboxes.get_mut(record.user.as_str()) {
                mailbox.committed = mailbox.written;
            }
        }
    }

    /// The journal could not be written: nothing of the batch counts, if that can be made sure.
    fn undo(&mut self, error: &io::Error) -> AppendError {
        // What cannot be cut off is set aside by the recovery.
        self.cut_batch_back();
        match self.recover() {
            Ok(()) => AppendError::from_disk("the journal", error),
            Err(again) => AppendError::Unknown(format!("the journal: {error}; {again}")),
        }
    }

    fn break_off(&mut self, error: &io::Error) {
        self.is_broken = true;
        (self.report)(&format!("the journal cannot be written: {error}"));
    }
}

impl KnownMailbox {
    /// Cuts off what a refused message left.
    fn cut_back(&mut self) -> io::Result<()> {
        if self.has_excess {
            self.file()?.truncate(self.written)?;
            // What was cut off may be durable already: then the cut has to be so too.
            self.is_cut |= self.written < self.synced;
            self.has_excess = false;
        }
        Ok(())
    }

    /// Whether anything written is not known to be durable where it is.
    fn owes_sync(&self) -> bool {
        self.synced != self.written || self.is_cut
    }

    /// Makes durable what was written.
    fn sync(&mut self) -> io::Result<()> {
        if self.has_lost {
            return Err(io::Error::other("an earlier sync failed"));
        }
        if self.owes_sync() {
            let result = self.file()?.sync();
            self.take_synced(result)?;
        }
        Ok(())
    }

    /// Takes notice of a sync of all that is written.
    fn take_synced(&mut self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Ok(()) => {
                self.synced = self.written;
                self.is_cut = false;
            }
            Err(_) => self.has_lost = true,
        }
        result
    }

    fn base(&self, user: &str) -> Base {
        let (user, committed) = (user.to_owned(), self.committed);
        Base {
            user,
            committed,
            inode: self.identity.1,
        }
    }

    fn file(&self) -> io::Result<&Arc<dyn File>> {
        self.file
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Adds octets to what is pending.
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(octets);
        self.written += octets.len() as u64;
        if self.pending.len() < PENDING_OCTETS_MAX {
            return Ok(());
        }
        self.flush()
    }

    /// Writes what is pending.
    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let offset = self.written - self.pending.len() as u64;
        self.file()?.write_at(&self.pending, offset)?;
        self.pending.clear();
        // A mailbox that got much once and then nothing holds no memory for it.
        self.pending.shrink_to(PENDING_OCTETS_KEPT);
        Ok(())
    }
}

fn write_records(file: &dyn File, records: &[Large], start: u64) -> io::Result<()> {
    let mut at = start;
    records.iter().try_for_each(|record| {
        record.write(file, at)?;
        at += record.octets();
        Ok(())
    })
}

fn refuse_all(jobs: &[Arc<Job>], error: &io::Error) -> Vec<Outcome> {
    jobs.iter()
        .map(|_| Err(AppendError::from_disk("the journal", error)))
        .collect()
}
