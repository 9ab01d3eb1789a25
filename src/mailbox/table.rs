//! The table of a mailbox's messages: kept in a file beside the mailbox, so that one message of a
//! million is found without reading the others.
//!
//! `USER/.minismtp.index` is a cache and nothing more. It holds a header and an entry of 48 octets
//! for each record, all numbers little-endian:
//!
//! ```text
//! header  "minismtp index 2\n" 0 0 0 device:u64 inode:u64 indexed:u64 size:u64 modified:u64
//!         count:u64 crc:u32                                  crc over what stands before it
//! entry   offset:u64 octets:u64 message_octets:u64 hash:u128 copy:u32 crc:u32
//! ```
//!
//! The highest bit of `copy` says that the record is a full one; an entry's `crc` is over the rest of it.
//!
//! Whoever opens a mailbox reads the records that came since, and puts a new file in place once
//! those are many. Any doubt has all of it made anew: another file in the mailbox's place, one that
//! is shorter than it was, one of the same size that somebody wrote to, a last record that is not
//! the one that was indexed, or one of some others that does not begin where a record does (people
//! edit these files, and that moves what stands behind). Who deletes looks at each record that goes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, File, Open, Status, directory_of, open_if_there, remove_if_there};

use super::format::{self, Span, read_full};
use super::ids::Removed;
use super::index::Entry;
use super::scan;

const INDEX_NAME: &str = ".minismtp.index";
const NEW_INDEX_NAME: &str = ".minismtp.index.new";
const OLD_INDEX_NAME: &str = ".minismtp.index.old";
const MAGIC: &[u8; 20] = b"minismtp index 2\n\0\0\0";
const HEADER_OCTETS: usize = MAGIC.len() + 6 * 8 + 4;
const ENTRY_OCTETS: usize = 48;
/// Where in an entry its hash is.
const HASH: std::ops::Range<usize> = 24..40;
/// Where its checksum is, over all that stands before.
const CRC: usize = 44;
/// The bit of a copy number that says that the record is a full one.
const FULL: u32 = 1 << 31;
/// How many records are looked at to see whether they still are where the index has them.
const SAMPLES: usize = 64;
/// How many entries are read at once.
const BLOCK_ENTRIES: usize = 1024;
/// So many messages behind the index make it worth a new one.
const TAIL_MESSAGES_MAX: usize = 1000;
/// So much mail behind the index makes it worth a new one, in octets: to read it again takes a
/// millisecond.
const TAIL_OCTETS_MAX: u64 = 4 * 1024 * 1024;

/// The messages of a mailbox at one moment.
#[derive(Debug)]
pub struct Table {
    /// Those that the index file has.
    stored: Option<Stored>,
    /// Those behind them, with copy numbers that say nothing.
    tail: Vec<Entry>,
    /// The copy numbers of the tail, once somebody has asked for one.
    copies: Mutex<Option<Vec<u32>>>,
    removed: Removed,
}

/// What is known of records that were removed from a mailbox, which is kept from being changed in its
/// place; `None` where another has come to that place.
///
/// # Errors
///
/// As the disk reports them.
pub fn removed(disk: &dyn Disk, mailbox: &Path, file: &dyn File) -> io::Result<Option<Removed>> {
    let own = file.status()?;
    let removed = Removed::read(disk, directory_of(mailbox), own.octets)?;
    // Who deletes puts the other mailbox in place first, then what was removed from it.
    let found = disk.glance(mailbox)?;
    let is_it = found.is_some_and(|found| found.identity == own.identity);
    Ok(is_it.then_some(removed))
}

#[derive(Debug)]
struct Stored {
    file: Box<dyn File>,
    count: usize,
    /// The last block that was read, and its number.
    block: Mutex<(usize, Vec<u8>)>,
}

impl Table {
    /// Reads the table of an open mailbox, as far as it is known, and what came since up to this many
    /// octets. Keeps it where that was much.
    ///
    /// # Errors
    ///
    /// The mailbox cannot be read. An index that cannot be read or written is none.
    pub fn open(
        disk: &dyn Disk,
        directory: &Path,
        file: &dyn File,
        octets: u64,
        removed: Removed,
    ) -> io::Result<Self> {
        let status = file.status()?;
        let (stored, start) = match Stored::open(disk, directory, file, &status) {
            Some((stored, end)) => (Some(stored), end),
            None => (None, 0),
        };
        // Another reader may know of more by now.
        let tail = scan::scan(file, start, octets.max(start))?;
        let table = Self {
            stored,
            copies: Mutex::new(None),
            removed,
            tail,
        };
        let tail_octets = table.tail.last().map_or(0, |last| last.span.end() - start);
        if table.tail.len() > TAIL_MESSAGES_MAX || tail_octets > TAIL_OCTETS_MAX {
            table.save(disk, directory, &status).unwrap_or_default();
        }
        Ok(table)
    }

    /// The same for who is about to delete the messages with these numbers: where the mailbox itself
    /// has other records there, or another end, it is read anew.
    ///
    /// # Errors
    ///
    /// As for [`Table::open`].
    pub fn open_checked(
        disk: &dyn Disk,
        directory: &Path,
        file: &dyn File,
        octets: u64,
        removed: Removed,
        numbers: &BTreeSet<usize>,
    ) -> io::Result<Self> {
        let table = Self::open(disk, directory, file, octets, removed.clone())?;
        if table.is_true(file, numbers).unwrap_or(false) {
            return Ok(table);
        }
        remove(disk, directory)?;
        Self::open(disk, directory, file, octets, removed)
    }

    /// Whether a mailbox has these records where the index has them, and the last one.
    fn is_true(&self, file: &dyn File, numbers: &BTreeSet<usize>) -> io::Result<bool> {
        let Some(stored) = &self.stored else {
            return Ok(true);
        };
        let gone = numbers.iter().filter_map(|number| number.checked_sub(1));
        let gone = gone.take_while(|&at| at < stored.count);
        for at in gone.chain(stored.count.checked_sub(1)) {
            let entry = stored.get(at)?;
            if !is_boundary(file, &entry)? || !is_record(file, &entry)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many messages there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.stored_count() + self.tail.len()
    }

    /// The entry of a message, counted from 0; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The index file cannot be read.
    pub fn get(&self, at: usize) -> io::Result<Option<Entry>> {
        match &self.stored {
            Some(stored) if at < stored.count => stored.get(at).map(Some),
            _ => Ok(self.tail.get(at - self.stored_count()).copied()),
        }
    }

    /// The entry with its copy number: what its unique-id is made of.
    ///
    /// # Errors
    ///
    /// As for [`Table::get`].
    pub fn numbered(&self, at: usize) -> io::Result<Option<Entry>> {
        let Some(mut entry) = self.get(at)? else {
            return Ok(None);
        };
        if at >= self.stored_count() {
            let mut copies = lock(&self.copies);
            let copies = match &mut *copies {
                Some(copies) => copies,
                none => none.insert(self.number_tail()?),
            };
            entry.copy = copies[at - self.stored_count()];
        }
        Ok(Some(entry))
    }

    /// Where the message with this unique-id is, counted from 0; `None` where there is none.
    ///
    /// # Errors
    ///
    /// As for [`Table::get`].
    pub fn find(&self, hash: u128, copy: u32) -> io::Result<Option<usize>> {
        let mut candidates = Vec::new();
        if let Some(stored) = &self.stored {
            candidates = stored.find(hash)?;
        }
        let tail = (self.stored_count()..).zip(&self.tail);
        candidates.extend(
            tail.filter(|(_, entry)| entry.hash == hash)
                .map(|(at, _)| at),
        );
        for at in candidates {
            if self.numbered(at)?.is_some_and(|entry| entry.copy == copy) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Where the last record ends.
    ///
    /// # Errors
    ///
    /// As for [`Table::get`].
    pub fn end(&self) -> io::Result<u64> {
        match self.count().checked_sub(1) {
            None => Ok(0),
            Some(last) => Ok(self.get(last)?.map_or(0, |entry| entry.span.end())),
        }
    }

    /// What is known of removed records.
    #[must_use]
    pub fn removed(&self) -> &Removed {
        &self.removed
    }

    /// How many of the messages before the one at `at` are in the index file, and where the last
    /// of them ends. `None` where too much would be left for whoever reads.
    ///
    /// # Errors
    ///
    /// As for [`Table::get`].
    pub fn stored_before(&self, at: usize) -> io::Result<Option<(usize, u64)>> {
        let count = self.stored_count().min(at);
        let Some(last) = count.checked_sub(1) else {
            return Ok(None);
        };
        let end = self.get(last)?.map_or(0, |entry| entry.span.end());
        let is_near = self.count() - count <= TAIL_MESSAGES_MAX / 2
            && self.end()? - end <= TAIL_OCTETS_MAX / 2;
        Ok(is_near.then_some((count, end)))
    }

    fn stored_count(&self) -> usize {
        self.stored.as_ref().map_or(0, |stored| stored.count)
    }

    /// Numbers records of the tail that are alike, or like one before it or one removed.
    fn number_tail(&self) -> io::Result<Vec<u32>> {
        // One hash in a million has a twin: only of those more than 8 octets are remembered.
        let low = |hash: u128| number(&hash.to_le_bytes()[..8]);
        let mut lows: Vec<u64> = self.tail.iter().map(|entry| low(entry.hash)).collect();
        lows.sort_unstable();
        let mut twins: HashSet<u64> = lows
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        let mut last_copies: HashMap<u128, u32> = HashMap::new();
        for at in 0..self.stored_count() {
            if let Some(entry) = self.get(at)?
                && lows.binary_search(&low(entry.hash)).is_ok()
            {
                twins.insert(low(entry.hash));
                last_copies.insert(entry.hash, entry.copy);
            }
        }
        let copies = self.tail.iter().map(|entry| {
            if !twins.contains(&low(entry.hash)) {
                return self.removed.next_copy(entry.hash, 0);
            }
            let last = last_copies.entry(entry.hash).or_insert(0);
            *last = self.removed.next_copy(entry.hash, *last);
            *last
        });
        Ok(copies.collect())
    }

    /// Puts a new index file in place.
    fn save(&self, disk: &dyn Disk, directory: &Path, status: &Status) -> io::Result<()> {
        write(disk, directory, status, self.count(), |at| {
            self.numbered(at)?
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
}

/// The start of an index file.
struct Header {
    /// Device and inode of the mailbox.
    identity: (u64, u64),
    /// Where the last record that is in the index ends.
    indexed: u64,
    /// How large the mailbox was.
    size: u64,
    /// When it had been written to.
    modified: u64,
    count: usize,
}

impl Header {
    /// `None` where there is none that is whole.
    fn read(file: &dyn File) -> Option<Self> {
        let mut header = [0; HEADER_OCTETS];
        let filled = read_full(file, &mut header, 0).ok()?;
        let (said, crc) = header.split_at(HEADER_OCTETS - 4);
        let (magic, numbers) = said.split_at(MAGIC.len());
        if filled < HEADER_OCTETS || magic != MAGIC || crc32fast::hash(said).to_le_bytes() != crc {
            return None;
        }
        let mut numbers = numbers.chunks_exact(8).map(number);
        let mut next = || numbers.next();
        Some(Self {
            identity: (next()?, next()?),
            indexed: next()?,
            size: next()?,
            modified: next()?,
            count: usize::try_from(next()?).ok()?,
        })
    }
}

impl Stored {
    /// The index of a mailbox, and how much of the mailbox it knows; `None` where there is none
    /// that can be believed.
    fn open(
        disk: &dyn Disk,
        directory: &Path,
        mailbox: &dyn File,
        status: &Status,
    ) -> Option<(Self, u64)> {
        let file = disk.open(&path(directory), Open::Read).ok()?;
        let Header {
            identity,
            indexed,
            size,
            modified,
            count,
        } = Header::read(&*file)?;
        let stored_octets = count.checked_mul(ENTRY_OCTETS)? as u64 + HEADER_OCTETS as u64;
        if identity != status.identity || file.status().ok()?.octets < stored_octets {
            return None;
        }
        let stored = Self {
            file,
            count,
            block: Mutex::new((usize::MAX, Vec::new())),
        };
        if (size, modified) != (status.octets, time(status)) {
            // It has grown, or somebody edited it.
            if status.octets == size || status.octets < indexed {
                return None;
            }
            let last = stored.get(count.checked_sub(1)?).ok()?;
            if !is_record(mailbox, &last).ok()? {
                return None;
            }
            let samples = count.min(SAMPLES);
            for sample in 0..samples {
                let entry = stored.get(sample * count / samples).ok()?;
                if !is_boundary(mailbox, &entry).ok()? {
                    return None;
                }
            }
        }
        Some((stored, indexed))
    }

    fn get(&self, at: usize) -> io::Result<Entry> {
        let entry = self.read(at / BLOCK_ENTRIES, |block| {
            decode(&block[at % BLOCK_ENTRIES * ENTRY_OCTETS..][..ENTRY_OCTETS])
        })?;
        entry.ok_or_else(damaged)
    }

    /// The entries with this hash.
    fn find(&self, hash: u128) -> io::Result<Vec<usize>> {
        let hash = hash.to_le_bytes();
        let mut found = Vec::new();
        for number in 0..self.count.div_ceil(BLOCK_ENTRIES) {
            self.read(number, |block| {
                let entries = (number * BLOCK_ENTRIES..).zip(block.chunks_exact(ENTRY_OCTETS));
                found.extend(
                    entries
                        .filter(|(_, entry)| entry[HASH] == hash)
                        .map(|(at, _)| at),
                );
            })?;
        }
        Ok(found)
    }

    /// Hands the octets of a block to `take`, or of what there is of the last one.
    fn read<T>(&self, number: usize, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let mut block = lock(&self.block);
        if block.0 != number {
            let entries = BLOCK_ENTRIES.min(self.count - number * BLOCK_ENTRIES);
            block.0 = usize::MAX;
            block.1.resize(entries * ENTRY_OCTETS, 0);
            let offset = HEADER_OCTETS + number * BLOCK_ENTRIES * ENTRY_OCTETS;
            let filled = read_full(&*self.file, &mut block.1, offset as u64)?;
            if filled < block.1.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            block.0 = number;
        }
        Ok(take(&block.1))
    }
}

/// Whether a record of a mailbox begins where this one does.
fn is_boundary(mailbox: &dyn File, entry: &Entry) -> io::Result<bool> {
    format::is_record_boundary(mailbox, entry.span.offset)
}

/// Whether a mailbox has this very record there.
fn is_record(mailbox: &dyn File, entry: &Entry) -> io::Result<bool> {
    let found = scan::scan(mailbox, entry.span.offset, entry.span.end())?;
    let found = found.first();
    Ok(found.is_some_and(|found| found.span == entry.span && found.hash == entry.hash))
}

/// Puts an index of these entries in place, for a mailbox with this status.
///
/// # Errors
///
/// As the disk reports them; the old index is then still there.
pub fn write(
    disk: &dyn Disk,
    directory: &Path,
    status: &Status,
    count: usize,
    mut entry: impl FnMut(usize) -> io::Result<Entry>,
) -> io::Result<()> {
    let new = directory.join(NEW_INDEX_NAME);
    remove_if_there(disk, &new)?;
    let file = disk.open(&new, Open::New)?;
    let mut octets = Vec::with_capacity(BLOCK_ENTRIES * ENTRY_OCTETS);
    let (mut indexed, mut offset) = (0, HEADER_OCTETS as u64);
    for at in 0..count {
        let entry = entry(at)?;
        indexed = entry.span.end();
        encode(&entry, &mut octets);
        if octets.len() >= BLOCK_ENTRIES * ENTRY_OCTETS || at + 1 == count {
            file.write_at(&octets, offset)?;
            offset += octets.len() as u64;
            octets.clear();
        }
    }
    let header = header(status, count, indexed);
    // Last: whoever else is making one at this moment and takes this name sees that it is none yet.
    file.write_at(&header, 0)?;
    // Half of it must not look whole after a power cut.
    file.sync()?;
    disk.rename(&new, &path(directory))
}

fn header(status: &Status, count: usize, indexed: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    let (device, inode) = status.identity;
    let count = count as u64;
    for number in [device, inode, indexed, status.octets, time(status), count] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header
}

/// Brings the index of a user's mailbox up to date with its first `octets`, if that is worth it: so
/// that the first who reads after much mail need not wait. What fails is left for whoever reads.
pub fn refresh(disk: &dyn Disk, mailbox: &Path, octets: u64) {
    let directory = directory_of(mailbox);
    let indexed = indexed(disk, directory).unwrap_or(0);
    if octets <= indexed.saturating_add(TAIL_OCTETS_MAX) {
        return;
    }
    let refreshed = (|| -> io::Result<()> {
        let Some(file) = open_if_there(disk, mailbox)? else {
            return Ok(());
        };
        file.keep()?;
        if let Some(removed) = removed(disk, mailbox, &*file)? {
            Table::open(disk, directory, &*file, octets, removed)?;
        }
        Ok(())
    })();
    refreshed.unwrap_or_default();
}

/// How much of its mailbox an index knows, if it is one.
fn indexed(disk: &dyn Disk, directory: &Path) -> Option<u64> {
    let file = disk.open(&path(directory), Open::Read).ok()?;
    Some(Header::read(&*file)?.indexed)
}

/// What is told of an index that has to be removed before anybody tries again.
pub(super) fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "its index was damaged; try again, it is made anew",
    )
}

/// Removes an index that is not to be believed.
///
/// # Errors
///
/// As the disk reports them.
pub fn remove(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    remove_if_there(disk, &path(directory))
}

/// Takes an index away, since its mailbox is about to be changed.
///
/// # Errors
///
/// As the disk reports them.
pub fn set_aside(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    // One that somebody left who died is of another time.
    forget(disk, directory);
    match disk.rename(&path(directory), &directory.join(OLD_INDEX_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts back the first `count` entries of an index that was set aside, for a mailbox which now has
/// this status and still has them in its first `indexed` octets. What stands behind them costs
/// nothing: neither to write all of them again, nor to read the few records that follow.
///
/// # Errors
///
/// As the disk reports them; there is no index then.
pub fn put_back(
    disk: &dyn Disk,
    directory: &Path,
    status: &Status,
    count: usize,
    indexed: u64,
) -> io::Result<()> {
    let old = directory.join(OLD_INDEX_NAME);
    if disk.status(&old)?.is_none() {
        return Ok(());
    }
    let file = disk.open(&old, Open::Write)?;
    // Who has it open has read this, and the entries stay.
    file.write_at(&header(status, count, indexed), 0)?;
    file.sync()?;
    disk.rename(&old, &path(directory))
}

/// Removes what was set aside and is of no use any more.
pub fn forget(disk: &dyn Disk, directory: &Path) {
    drop(disk.remove(&directory.join(OLD_INDEX_NAME)));
}

fn path(directory: &Path) -> PathBuf {
    directory.join(INDEX_NAME)
}

fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    for number in [entry.span.offset, entry.span.octets, entry.octets] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&entry.hash.to_le_bytes());
    let copy = entry.copy | if entry.is_full { FULL } else { 0 };
    out.extend_from_slice(&copy.to_le_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Reads the octets of one entry; `None` where they are damaged.
fn decode(octets: &[u8]) -> Option<Entry> {
    let (said, crc) = octets.split_at(CRC);
    if crc32fast::hash(said).to_le_bytes() != crc {
        return None;
    }
    let copy = u32::try_from(number(&said[HASH.end..])).ok()?;
    let number = |at: usize| number(&said[at..at + 8]);
    Some(Entry {
        span: Span {
            offset: number(0),
            octets: number(8),
        },
        octets: number(16),
        hash: u128::from(number(24)) | u128::from(number(32)) << 64,
        copy: copy & !FULL,
        is_full: copy & FULL != 0,
    })
}

fn number(octets: &[u8]) -> u64 {
    octets
        .iter()
        .rev()
        .fold(0, |number, &octet| number << 8 | u64::from(octet))
}

/// The last change of a file's content.
fn time(status: &Status) -> u64 {
    u64::try_from(status.changed.0).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
