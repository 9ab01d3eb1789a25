//! Deleting near the end of a mailbox: what follows moves up in its place, and the rest is not
//! touched.
//!
//! The order is what makes it all or nothing, under the write lock:
//!
//! 1. what is kept of the end is written to a file beside the mailbox and synced;
//! 2. a journal with a [`Tail`] is synced: now the messages are deleted;
//! 3. the end is copied into the mailbox, which is cut behind it and synced, and the names of what
//!    is gone are put in place;
//! 4. the journal is removed, then the file.
//!
//! A crash before the second step leaves a file that nobody needs; one after it has the third step
//! done again. Who reads keeps the mailbox from being changed so ([`File::keep`]), and finds a file
//! beside it where somebody died in between.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, File, Open, remove_if_there};

use super::file::{about, copy_span, mailbox_path};
use super::format::Span;
use super::ids;
use super::journal::{self, Entry, Journal, Tail};

const TAIL_NAME: &str = ".minismtp.mymailbox.tail";
/// Room for the one entry, and for no more that would have to be written first.
const JOURNAL_OCTETS: u64 = 64 * 1024;

/// Puts only these parts of a mailbox behind its first `offset` octets. The caller holds the write
/// lock, has taken the file over, and there is no journal.
///
/// # Errors
///
/// As the disk reports them. The mailbox is then as it was, unless the journal says otherwise.
pub fn replace(
    disk: &dyn Disk,
    user: &str,
    file: &dyn File,
    offset: u64,
    kept: &[Span],
) -> io::Result<()> {
    let directory = Path::new(user);
    remove_leftover(disk, directory)?;
    let beside = disk.open(&directory.join(TAIL_NAME), Open::New)?;
    let mut octets = 0;
    for span in kept {
        copy_span(file, *span, |piece| {
            beside.write_at(piece, octets)?;
            octets += piece.len() as u64;
            Ok(())
        })?;
    }
    beside.sync()?;
    disk.sync_directory(directory)?;
    let status = file.status()?;
    let tail = Tail {
        user: user.to_owned(),
        inode: status.identity.1,
        size: status.octets,
        offset,
        octets,
    };
    let mut journal = Journal::create(disk, JOURNAL_OCTETS)?;
    let mut frames = Vec::new();
    journal.frame(&Entry::Tail(tail.clone()), &mut frames)?;
    disk.sync_directory(Path::new(""))?;
    if let Err(error) = journal.commit(&frames) {
        // Nobody knows whether it counts: make sure that it does not, before anybody looks.
        journal.retract()?;
        journal::remove(disk)?;
        return Err(error);
    }
    apply(disk, &tail)?;
    journal::remove(disk)?;
    remove_leftover(disk, directory)
}

/// Copies the new end into its place. Can be repeated.
///
/// # Errors
///
/// As the disk reports them.
pub fn apply(disk: &dyn Disk, tail: &Tail) -> io::Result<()> {
    let path = mailbox_path(&tail.user);
    let Some(status) = disk.status(&path)? else {
        return Ok(());
    };
    let is_there = if status.identity.1 == tail.inode {
        status.octets >= tail.offset
    } else {
        // A copy of the root, such as a backup, is as long as the mailbox was before or after this.
        [tail.size, tail.offset + tail.octets].contains(&status.octets)
    };
    // Somebody replaced the mailbox: then that is what counts.
    if !is_there {
        return Ok(());
    }
    let file = disk.open(&path, Open::Write)?;
    let beside = self::path(Path::new(&tail.user));
    let beside = disk.open(&beside, Open::Read).map_err(about(&beside))?;
    let whole = Span {
        offset: 0,
        octets: tail.octets,
    };
    let mut at = tail.offset;
    copy_span(&*beside, whole, |piece| {
        file.write_at(piece, at)?;
        at += piece.len() as u64;
        Ok(())
    })?;
    file.truncate(at)?;
    file.sync()?;
    ids::put_in_place(disk, Path::new(&tail.user))
}

/// Whether somebody has died while a mailbox got a new end, or is at it.
///
/// # Errors
///
/// As the disk reports them.
pub fn is_left_over(disk: &dyn Disk, directory: &Path) -> io::Result<bool> {
    Ok(disk.status(&path(directory))?.is_some())
}

/// Removes what somebody left who died. The caller holds the write lock, and there is no journal.
///
/// # Errors
///
/// As the disk reports them.
pub fn remove_leftover(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    remove_if_there(disk, &path(directory))
}

fn path(directory: &Path) -> PathBuf {
    directory.join(TAIL_NAME)
}
