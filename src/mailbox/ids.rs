//! Names of messages that must not be used again.
//!
//! A message's unique-id is a hash of its record and a number among records that are alike to the
//! octet: two equal mails in one minute. When one of them is removed, the others keep their numbers,
//! and an equal mail that comes later gets a new one. So the numbers of removed records are kept in
//! a small file beside the mailbox, a line a record (`hash copy seconds`), for as long as an equal
//! one is there or may still come. Its first line (`size octets`) is for whoever finds a new one
//! prepared and not in place: it counts if the mailbox has that size.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock;
use crate::disk::{self, Disk, directory_of};

use super::file::about;
use super::index::Entry;

const IDS_NAME: &str = ".minismtp.ids";
const SIZE_WORD: &str = "size ";
/// An equal record cannot come any more when the minute in its `Received` line is over. A day, for
/// clocks that are set back.
const KEEP_SECONDS: i64 = 24 * 60 * 60;

/// The removed records of a mailbox.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// By hash: each removed copy, and when.
    copies: BTreeMap<u128, BTreeMap<u32, i64>>,
}

impl Removed {
    /// Reads the file of a user's directory, or what is prepared if it counts for a mailbox of this
    /// size.
    ///
    /// # Errors
    ///
    /// As the disk reports them.
    pub fn read(disk: &dyn Disk, directory: &Path, octets: u64) -> io::Result<Self> {
        let mut removed = Self::default();
        let path = path(directory);
        let read = |path: &Path| disk::read(disk, path).map_err(about(path));
        let prepared = read(&disk::beside(&path))?.filter(|text| counts_for(text, octets));
        let text = match prepared {
            None => read(&path)?,
            prepared => prepared,
        };
        let Some(text) = text else {
            return Ok(removed);
        };
        for line in String::from_utf8_lossy(&text).lines() {
            // A line that is none is none of ours.
            let mut words = line.split(' ');
            let hash = words
                .next()
                .and_then(|word| u128::from_str_radix(word, 16).ok());
            let copy = words.next().and_then(|word| word.parse().ok());
            let time = words.next().and_then(|word| word.parse().ok());
            if let (Some(hash), Some(copy), Some(time)) = (hash, copy, time) {
                removed.copies.entry(hash).or_default().insert(copy, time);
            }
        }
        Ok(removed)
    }

    /// The number after `copy` for a record with this hash.
    #[must_use]
    pub fn next_copy(&self, hash: u128, copy: u32) -> u32 {
        let mut next = copy + 1;
        if let Some(copies) = self.copies.get(&hash) {
            while copies.contains_key(&next) {
                next += 1;
            }
        }
        next
    }

    /// Adds records that are being removed, and forgets what cannot matter any more. `kept` says of
    /// each hash whether a record has it that stays.
    ///
    /// # Errors
    ///
    /// As `kept` has them.
    pub fn add(
        &mut self,
        gone: &[Entry],
        kept: impl FnOnce(&mut BTreeMap<u128, bool>) -> io::Result<()>,
    ) -> io::Result<()> {
        let now = clock::now().timestamp();
        let hashes = gone.iter().map(|entry| entry.hash);
        let mut is_kept: BTreeMap<u128, bool> = hashes
            .chain(self.copies.keys().copied())
            .map(|hash| (hash, false))
            .collect();
        kept(&mut is_kept)?;
        let is_kept = |hash: &u128| is_kept.get(hash) == Some(&true);
        for entry in gone {
            if !entry.is_full || is_kept(&entry.hash) {
                self.copies
                    .entry(entry.hash)
                    .or_default()
                    .insert(entry.copy, now);
            }
        }
        self.copies.retain(|hash, copies| {
            is_kept(hash) || copies.values().any(|time| now - time < KEEP_SECONDS)
        });
        Ok(())
    }

    /// Prepares what is to replace the file of a user's directory once the records are gone and the
    /// mailbox has `octets` ([`put_in_place`], or [`settle`] where that does not come to pass): names
    /// of messages that stay must not change if they are not. Durable.
    ///
    /// # Errors
    ///
    /// As the disk reports them.
    pub fn prepare(&self, disk: &dyn Disk, directory: &Path, octets: u64) -> io::Result<()> {
        let path = path(directory);
        if self.copies.is_empty() && disk.status(&path)?.is_none() {
            return Ok(());
        }
        let mut text = format!("{SIZE_WORD}{octets}\n");
        for (hash, copies) in &self.copies {
            for (copy, time) in copies {
                text.push_str(&format!("{hash:032x} {copy} {time}\n"));
            }
        }
        disk::prepare(disk, &path, text.as_bytes()).map_err(about(&path))?;
        disk.sync_directory(directory)
    }
}

/// The records are gone: what was prepared counts.
///
/// # Errors
///
/// As the disk reports them.
pub fn put_in_place(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let path = path(directory);
    disk::put_in_place(disk, &path).map_err(about(&path))
}

/// Whether somebody is deleting messages, or has died over it.
///
/// # Errors
///
/// As the disk reports them.
pub fn are_prepared(disk: &dyn Disk, directory: &Path) -> io::Result<bool> {
    Ok(disk.status(&disk::beside(&path(directory)))?.is_some())
}

/// Puts in place what somebody prepared who died, or takes it back, as the size of the mailbox says:
/// it has to be asked before anything is written there. The caller holds the write lock, and there is
/// no journal.
///
/// # Errors
///
/// As the disk reports them.
pub fn settle(disk: &dyn Disk, mailbox: &Path) -> io::Result<()> {
    let directory = directory_of(mailbox);
    let path = path(directory);
    let settled = (|| {
        let Some(text) = disk::read(disk, &disk::beside(&path))? else {
            return Ok(());
        };
        let octets = disk.status(mailbox)?.map_or(0, |status| status.octets);
        if counts_for(&text, octets) {
            // What is seen of the mailbox has to last as long as what is said of it.
            if let Some(mailbox) = disk::open_if_there(disk, mailbox)? {
                mailbox.sync()?;
            }
            disk.sync_directory(directory)?;
            disk::put_in_place(disk, &path)
        } else {
            disk::withdraw(disk, &path)
        }
    })();
    settled.map_err(about(&path))
}

/// Whether what is prepared is for a mailbox of this size.
fn counts_for(prepared: &[u8], octets: u64) -> bool {
    let line = prepared.split(|octet| *octet == b'\n').next();
    line.is_some_and(|line| line == format!("{SIZE_WORD}{octets}").as_bytes())
}

fn path(directory: &Path) -> PathBuf {
    directory.join(IDS_NAME)
}
