//! The plain model that other stores are tested against: mail in memory, gone with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Lock, SimulatedDisk};
use crate::user::UserName;

use super::format::{Lines, Record, Summary};
use super::index;
use super::spool::{Shares, Spool, Text};
use super::{
    AppendError, CopyError, Done, Mailbox, Message, Reading, Seen, Store, StoreError, TakeLines,
};

/// Mail in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    mailboxes: Mutex<BTreeMap<UserName, Vec<Stored>>>,
    /// How many messages there ever were.
    count: AtomicU64,
    locked: Arc<Mutex<BTreeSet<UserName>>>,
    shares: Shares,
}

#[derive(Clone, Debug)]
struct Stored {
    id: u64,
    record: Arc<[u8]>,
}

impl MemoryStore {
    fn mailboxes(&self) -> MutexGuard<'_, BTreeMap<UserName, Vec<Stored>>> {
        self.mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, message: Message) -> Result<(), AppendError> {
        let summary = Summary::new(
            message.text.beginning(),
            message.text.is_whole(),
            &message.reverse_path,
            &message.received,
        );
        let heads: Vec<_> = message
            .recipients
            .iter()
            .map(|(_, address)| summary.head(address))
            .collect();
        let failed = |error: io::Error| AppendError::Failed(error.to_string());
        let text = all(&message.text.finish().map_err(failed)?).map_err(failed)?;
        for ((user, _), head) in message.recipients.iter().zip(heads) {
            let record = match head.plain_body {
                Some(body) => [head.lines.as_bytes(), &text[body..]].concat(),
                None => [head.lines.as_bytes(), message.trace.as_bytes(), &text].concat(),
            };
            let id = self.count.fetch_add(1, Ordering::Relaxed);
            let stored = Stored {
                id,
                record: record.into(),
            };
            self.mailboxes()
                .entry(user.clone())
                .or_default()
                .push(stored);
        }
        Ok(())
    }
}

fn all(text: &Text) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    text.pieces(0, |piece| {
        octets.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(octets)
}

impl Store for MemoryStore {
    fn spool(&self) -> Spool {
        Spool::new(Arc::new(SimulatedDisk::default()), self.shares.clone())
    }

    fn append(&self, message: Message, done: Done) {
        done(self.store(message));
    }

    fn commit(&self, _is_alone: bool) {}

    fn open(&self, user: &UserName) -> Result<Box<dyn Mailbox>, StoreError> {
        let records = self.mailboxes().get(user).cloned().unwrap_or_default();
        Ok(Box::new(MemoryMailbox(records)))
    }

    fn create(&self, user: &UserName) -> Result<(), StoreError> {
        self.mailboxes().entry(user.clone()).or_default();
        Ok(())
    }

    fn lock(&self, user: &UserName) -> Result<Option<Box<dyn Lock>>, StoreError> {
        let is_free = self
            .locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(user.clone());
        let lock = || MemoryLock {
            user: user.clone(),
            locked: Arc::clone(&self.locked),
        };
        Ok(is_free.then(|| Box::new(lock()) as Box<dyn Lock>))
    }

    fn expunge(&self, user: &UserName, messages: &[Seen]) -> Result<Vec<usize>, StoreError> {
        let mut mailboxes = self.mailboxes();
        let records = mailboxes.entry(user.clone()).or_default();
        let now = MemoryMailbox(records.clone());
        let is_missing = |message: &&Seen| now.seen(message.number) != Some(**message);
        let missing = messages.iter().filter(is_missing);
        let missing: Vec<usize> = missing.map(|message| message.number).collect();
        if missing.is_empty() {
            let mut number = 0;
            records.retain(|_| {
                number += 1;
                !messages.iter().any(|message| message.number == number)
            });
        }
        Ok(missing)
    }

    fn remove(&self, user: &UserName) -> Result<(), StoreError> {
        self.mailboxes().remove(user);
        Ok(())
    }

    fn users(&self) -> Result<Vec<UserName>, StoreError> {
        Ok(self.mailboxes().keys().cloned().collect())
    }

    fn close(&self) {}
}

#[derive(Debug)]
struct MemoryLock {
    user: UserName,
    locked: Arc<Mutex<BTreeSet<UserName>>>,
}

impl Lock for MemoryLock {
    fn set_at_rest(&self, _is_at_rest: bool) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.user);
    }
}

#[derive(Debug)]
struct MemoryMailbox(Vec<Stored>);

impl MemoryMailbox {
    fn find(&self, number: usize) -> Option<&Stored> {
        self.0.get(number.checked_sub(1)?)
    }
}

impl Mailbox for MemoryMailbox {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn summary(&self, number: usize) -> Result<Option<Record>, StoreError> {
        Ok(self
            .find(number)
            .map(|stored| Record::parse(&stored.record)))
    }

    fn list(
        &self,
        numbers: RangeInclusive<usize>,
        take: &mut TakeLines<'_>,
    ) -> Result<(), CopyError> {
        for number in numbers {
            if let Some(stored) = self.find(number) {
                take(number, &Lines::parse(&stored.record))?;
            }
        }
        Ok(())
    }

    fn copy(&self, number: usize, out: &mut dyn io::Write) -> Result<bool, CopyError> {
        let Some(stored) = self.find(number) else {
            return Ok(false);
        };
        out.write_all(&stored.record).map_err(CopyError::Write)?;
        Ok(true)
    }

    fn octets(&self, number: usize) -> Option<u64> {
        let text = index::message(&self.find(number)?.record);
        Some(index::with_crlf(&text))
    }

    fn unique_id(&self, number: usize) -> Option<String> {
        self.find(number).map(|stored| stored.id.to_string())
    }

    fn seen(&self, number: usize) -> Option<Seen> {
        let hash = u128::from(self.find(number)?.id);
        Some(Seen { number, hash })
    }

    fn read(&self, number: usize) -> Result<Option<Box<dyn Reading>>, StoreError> {
        let text = self
            .find(number)
            .map(|stored| index::message(&stored.record));
        Ok(text.map(|text| Box::new(MemoryReading(text)) as Box<dyn Reading>))
    }

    fn torn_octets(&self) -> u64 {
        0
    }
}

#[derive(Debug)]
struct MemoryReading(Vec<u8>);

impl Reading for MemoryReading {
    fn next(&mut self, text: &mut Vec<u8>) -> Result<bool, StoreError> {
        let is_more = !self.0.is_empty();
        text.append(&mut self.0);
        Ok(is_more)
    }
}
