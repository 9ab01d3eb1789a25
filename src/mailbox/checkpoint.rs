//! Checkpoints: mailboxes that a part of the journal vouches for are synced, so that the part can
//! be used anew.
//!
//! Syncing a hundred mailboxes takes longer than anybody should wait for a 250, so a thread does it
//! while the other part of the journal takes new mail.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::disk::{Disk, File};

use super::file::mailbox_path;
use super::table;

/// A mailbox that has to be synced.
#[derive(Debug)]
pub struct Due {
    /// Whose mailbox.
    pub user: String,
    /// The handle that it was written through: the system tells errors to no other.
    pub file: Arc<dyn File>,
    /// How much of it is written.
    pub octets: u64,
}

/// Syncs mailboxes, one checkpoint after the other.
#[derive(Debug)]
pub struct Checkpointer {
    worker: Worker,
    /// Whose mailboxes the running checkpoint syncs; `None` when none runs.
    running: Option<HashSet<String>>,
}

/// What was synced, or why not all of it.
pub type Synced = io::Result<Vec<Due>>;

/// What leads to the thread and back.
type Ends = (Sender<Vec<Due>>, Receiver<Synced>);

#[derive(Debug)]
enum Worker {
    /// A thread, begun with the first checkpoint.
    Thread(Arc<dyn Disk>, Option<Ends>),
    /// Whoever asks for the result: for a program that is about to end, and for tests that count
    /// what is done to the disk.
    Asker(Vec<Due>),
}

impl Checkpointer {
    /// Works in a thread of its own, which also brings the indexes of these mailboxes up to date
    /// when nobody waits for it.
    #[must_use]
    pub fn in_background(disk: Arc<dyn Disk>) -> Self {
        Self {
            worker: Worker::Thread(disk, None),
            running: None,
        }
    }

    /// Works when it is asked for the result.
    #[must_use]
    pub fn on_demand() -> Self {
        Self {
            worker: Worker::Asker(Vec::new()),
            running: None,
        }
    }

    /// Whether a checkpoint's result is not taken yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a checkpoint that syncs this user's mailbox is running.
    #[must_use]
    pub fn is_syncing(&self, user: &str) -> bool {
        let users = self.running.as_ref();
        users.is_some_and(|users| users.contains(user))
    }

    /// Begins a checkpoint, when none is running.
    pub fn begin(&mut self, due: Vec<Due>) {
        let users = due.iter().map(|mailbox| mailbox.user.clone());
        self.running = Some(users.collect());
        if let Worker::Thread(disk, ends @ None) = &mut self.worker {
            *ends = start(Arc::clone(disk));
            if ends.is_none() {
                self.worker = Worker::Asker(Vec::new());
            }
        }
        match &mut self.worker {
            Worker::Thread(_, Some((requests, _))) => {
                // A thread that has died is seen when its result is asked for.
                requests.send(due).unwrap_or_default();
            }
            Worker::Thread(_, None) => {}
            Worker::Asker(waiting) => *waiting = due,
        }
    }

    /// The result of the running checkpoint, once it is there.
    pub fn result(&mut self, wait: bool) -> Option<Synced> {
        if !self.is_running() {
            return None;
        }
        let result = match &mut self.worker {
            Worker::Thread(_, Some((_, results))) if !wait => match results.try_recv() {
                Err(std::sync::mpsc::TryRecvError::Empty) => return None,
                result => result.unwrap_or_else(|gone| Err(io::Error::other(gone))),
            },
            Worker::Thread(_, Some((_, results))) => results
                .recv()
                .unwrap_or_else(|gone| Err(io::Error::other(gone))),
            Worker::Thread(_, None) => return None,
            Worker::Asker(due) => sync(std::mem::take(due)),
        };
        self.running = None;
        Some(result)
    }
}

/// The thread's ends; `None` where the system has no thread to give.
fn start(disk: Arc<dyn Disk>) -> Option<Ends> {
    let (requests, due) = channel::<Vec<Due>>();
    let (sender, results) = channel();
    let thread = std::thread::Builder::new().name("checkpoint".to_owned());
    let started = thread.spawn(move || {
        let mut next = None;
        while let Some(due_now) = next.take().or_else(|| due.recv().ok()) {
            let mailboxes = due_now
                .iter()
                .map(|due| (mailbox_path(&due.user), due.octets));
            let mailboxes: Vec<(PathBuf, u64)> = mailboxes.collect();
            if sender.send(sync(due_now)).is_err() {
                return;
            }
            for (mailbox, octets) in mailboxes {
                // Indexes can wait; who appends may not be able to.
                next = due.try_recv().ok();
                if next.is_some() {
                    break;
                }
                table::refresh(&*disk, &mailbox, octets);
            }
        }
    });
    started.ok().map(|_| (requests, results))
}

fn sync(due: Vec<Due>) -> Synced {
    due.iter().try_for_each(|mailbox| mailbox.file.sync())?;
    Ok(due)
}
