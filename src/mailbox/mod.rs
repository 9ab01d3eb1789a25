//! Where mail is kept: a trait, a store in text files, and a plain model to test it against.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::address::ReversePath;
use crate::disk::{Lock, is_full};
use crate::user::UserName;

pub mod checkpoint;
pub mod commit;
pub mod extent;
pub mod file;
pub mod format;
mod heads;
pub mod ids;
pub mod index;
pub mod journal;
pub mod locks;
pub mod memory;
pub mod recovery;
pub mod scan;
pub mod spool;
pub mod table;
pub mod tail;
#[cfg(test)]
mod tests;

use format::{Lines, Record};
use spool::Spool;

/// A store of mail, a mailbox a user.
pub trait Store: Send + Sync + fmt::Debug {
    /// A place to collect a message's text while it arrives.
    fn spool(&self) -> Spool;

    /// Takes a message, to be stored for all its recipients or for none, and tells `done`. When
    /// that says `Ok`, the message is durable: no crash and no power cut can take it away any
    /// more. The order of calls is the order in each mailbox. Does not wait, and may hold the
    /// message back until [`Store::commit`], so that one sync serves many.
    fn append(&self, message: Message, done: Done);

    /// Begins to store what was appended. Does not wait, but where the caller is alone: when nobody
    /// else would be kept waiting, a short commit may be done at once.
    fn commit(&self, is_alone: bool);

    /// The mailbox as it is now; later changes do not show in it. A user without mail has an
    /// empty one.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read.
    fn open(&self, user: &UserName) -> Result<Box<dyn Mailbox>, StoreError>;

    /// Makes an empty mailbox, durably, where a user has none.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    fn create(&self, user: &UserName) -> Result<(), StoreError>;

    /// Takes a user's maildrop for one session: nobody else can before the lock is dropped. `None`
    /// where somebody has it. Delivery goes on meanwhile.
    ///
    /// # Errors
    ///
    /// The lock cannot be made.
    fn lock(&self, user: &UserName) -> Result<Option<Box<dyn Lock>>, StoreError>;

    /// Removes messages, durably. Gives back the numbers that do not exist, or are another message
    /// than the one that was seen; if there are any, nothing is removed.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read or written; it is then as it was.
    fn expunge(&self, user: &UserName, messages: &[Seen]) -> Result<Vec<usize>, StoreError>;

    /// Removes a user's mailbox with all mail in it.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    fn remove(&self, user: &UserName) -> Result<(), StoreError>;

    /// The names under which mail is kept, sorted.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn users(&self) -> Result<Vec<UserName>, StoreError>;

    /// Makes everything so tidy that the next start has nothing to do.
    fn close(&self);
}

/// A message that somebody saw in a mailbox and wants to be gone. The number alone would not do: a
/// message that could not be stored for all its recipients may have been seen before it was taken
/// back, and another may have its number by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number, counted from 1 as the mailbox is now.
    pub number: usize,
    /// A hash of its record.
    pub hash: u128,
}

/// A mailbox at one moment. Numbers count from 1.
pub trait Mailbox: Send + fmt::Debug {
    /// How many messages there are.
    fn count(&self) -> usize;

    /// The four lines without the content, for a list; `None` if there is no such number.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read.
    fn summary(&self, number: usize) -> Result<Option<Record>, StoreError>;

    /// Hands the four lines of each of these messages to `take`, with its number, in order.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read ([`CopyError::Read`]), or those of `take`.
    fn list(
        &self,
        numbers: RangeInclusive<usize>,
        take: &mut TakeLines<'_>,
    ) -> Result<(), CopyError>;

    /// Writes the record as it is stored, with the line that ends it; whether there is such a
    /// number.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read ([`CopyError::Read`]), or `out` cannot be written.
    fn copy(&self, number: usize, out: &mut dyn io::Write) -> Result<bool, CopyError>;

    /// The size of a message as [`Mailbox::read`] gives it, in octets with CRLF line ends; `None`
    /// if there is no such number.
    fn octets(&self, number: usize) -> Option<u64>;

    /// The unique-id of a message (RFC 1939 §7): it stays whatever happens to others, and no
    /// other message gets it. `None` if there is no such number.
    fn unique_id(&self, number: usize) -> Option<String>;

    /// What [`Store::expunge`] has to know of a message. `None` if there is no such number.
    fn seen(&self, number: usize) -> Option<Seen>;

    /// The number of the message with this unique-id; `None` where there is none.
    fn find(&self, unique_id: &str) -> Option<usize> {
        (1..=self.count()).find(|&number| self.unique_id(number).as_deref() == Some(unique_id))
    }

    /// Begins to read a message as RFC 5322 text: the content of a full record, or for a plain
    /// one From, To, Subject, Date, an empty line and the body. `None` if there is no such number.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read.
    fn read(&self, number: usize) -> Result<Option<Box<dyn Reading>>, StoreError>;

    /// Octets after the last whole record: torn, or being written right now.
    fn torn_octets(&self) -> u64;
}

/// Takes a message of a list: its number, its lines.
pub type TakeLines<'a> = dyn FnMut(usize, &Lines<'_>) -> Result<(), CopyError> + 'a;

/// A message that is being read.
pub trait Reading: Send + fmt::Debug {
    /// Appends the next piece to `text`: LF line ends, some 64 KiB at most. `false` at the end.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read.
    fn next(&mut self, text: &mut Vec<u8>) -> Result<bool, StoreError>;
}

/// Each user once, with the address that the message was sent to.
pub type Recipients = Arc<[(UserName, Arc<str>)]>;

/// A message to be stored.
#[derive(Debug)]
pub struct Message {
    /// Where failures are reported to.
    pub reverse_path: ReversePath,
    /// Whom it is for.
    pub recipients: Recipients,
    /// `Return-Path` and `Received`, with LF line ends.
    pub trace: String,
    /// The `Received` line's value.
    pub received: Arc<str>,
    /// The message.
    pub text: Spool,
}

/// Hears of what a person should know: torn records that were set aside, mailboxes that somebody
/// changed.
pub type Reporter = Arc<dyn Fn(&str) + Send + Sync>;

/// Learns what became of a message.
pub type Done = Box<dyn FnOnce(Result<(), AppendError>) + Send>;

/// Why a message is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No space is left. Nothing is stored.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// The store cannot do it now. Nothing is stored.
    #[error("{0}")]
    Failed(String),
    /// The disk failed in such a way that nobody can say whether the message is stored.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The message has been through too many servers. Nothing is stored.
    #[error("too many Received fields: {0}")]
    Loop(usize),
}

impl AppendError {
    /// What an error of the disk means for a message.
    #[must_use]
    pub fn from_disk(what: &str, error: &io::Error) -> Self {
        let cause = format!("{what}: {error}");
        if is_full(error) {
            Self::NoSpace(cause)
        } else {
            Self::Failed(cause)
        }
    }
}

/// Why a store cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has it.
    #[error("mail root `{root}` is in use by another server")]
    InUse {
        /// The root.
        root: String,
    },
    /// The system refused.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// What was tried: `read`, `write`.
        action: &'static str,
        /// With what.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// Why a record was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The mailbox cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The copy cannot be written.
    #[error(transparent)]
    Write(io::Error),
}
