//! After a crash: what the journal says is made true in the mailboxes, what it does not know of is
//! set aside, and the journal is removed.
//!
//! Everything here can be repeated: a crash in the middle leaves the journal in place, and the next
//! start does it again. Records are always written again, even where the file seems to hold them
//! already: after a failed sync the system shows octets that never reached the disk.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::clock;
use crate::disk::{Disk, File, Open, directory_of, is_full};

use super::Reporter;
use super::file::mailbox_path;
use super::format;
use super::journal::{self, AppendRecord, Base, Entry};
use super::tail;

/// What no disk writes in part.
const BLOCK_OCTETS: u64 = 512;

/// What to make of octets behind the last committed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The server that wrote them died: they prove nothing, however whole they look.
    Doubtful,
    /// The same, and a server has to come up: where there is no room to keep a copy of them they are
    /// given up.
    Expendable,
    /// The server lives and has nothing half done: whole records there are a person's.
    KeepWhole,
}

/// Makes the journal's word true and removes it, and tells what there was to do. The caller holds the
/// write lock.
///
/// # Errors
///
/// As the disk reports them, with the path; the journal is still there then, and all of it can be
/// repeated.
pub fn recover(disk: &dyn Disk, tail: Tail, report: &Reporter) -> io::Result<()> {
    let Some(entries) = journal::read(disk)? else {
        // Whoever removed it may not have come to this: it must not come back with the next power cut.
        return disk.sync_directory(Path::new(""));
    };
    for entry in &entries {
        if let Entry::Tail(tail) = entry {
            tail::apply(disk, tail)?;
        }
    }
    for (user, plan) in plans(&entries) {
        let path = mailbox_path(&user);
        let recovered = recover_mailbox(disk, &path, &plan, tail, report);
        recovered.map_err(|error| {
            let path = disk.show(&path);
            io::Error::new(
                error.kind(),
                format!("mailbox `{}`: {error}", path.display()),
            )
        })?;
    }
    journal::remove(disk)
}

/// How much of a mailbox the journal vouches for; `None` where it does not know this file. For who
/// reads while somebody writes: the records of a batch are in the mailbox before they count.
///
/// # Errors
///
/// As the disk reports them; [`io::ErrorKind::ResourceBusy`] while the mailbox is half moved up, and
/// says nothing.
pub fn committed(disk: &dyn Disk, user: &str, inode: u64) -> io::Result<Option<u64>> {
    let entries = journal::read(disk)?.unwrap_or_default();
    let is_half_moved = |entry: &Entry| matches!(entry, Entry::Tail(tail) if tail.user == user && tail.inode == inode);
    if entries.iter().any(is_half_moved) {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "messages were being deleted from it, which has to be finished first",
        ));
    }
    let plan = plans(&entries).remove(user);
    Ok(plan.filter(|plan| plan.inode == inode).map(|plan| plan.end))
}

fn recover_mailbox(
    disk: &dyn Disk,
    path: &Path,
    plan: &Plan<'_>,
    tail: Tail,
    report: &Reporter,
) -> io::Result<()> {
    let found = |what: &str| report(&format!("mailbox {} {what}", disk.show(path).display()));
    let opened = match disk.status(path) {
        // Names are durable before anything is committed: somebody took the mailbox away.
        Ok(None) => {
            found("is gone");
            return Ok(());
        }
        Ok(Some(_)) => disk.open(path, Open::Write),
        Err(error) => Err(error),
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if is_odd(&error) => {
            found(&format!("is left as it is: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    match plan.compare(&*file, tail)? {
        Comparison::Ours => make_true(disk, path, &*file, plan, tail, report)?,
        Comparison::Overlaid => {
            let octets = file.status()?.octets;
            let name = keep_copy(disk, path, &*file, plan.base..octets)?;
            found(&format!(
                "held other messages than before the crash; they are in {}",
                disk.show(&name).display(),
            ));
            make_true(disk, path, &*file, plan, tail, report)?;
        }
        Comparison::Displaced => {
            file.sync()?;
            let name = plan.keep_beside(disk, path)?;
            found(&format!(
                "was changed since the crash and is left as it is; what it got before is in {}",
                disk.show(&name).display(),
            ));
        }
        Comparison::Edited => {
            file.sync()?;
            found("was changed by somebody and is left as it is");
        }
    }
    // A killed run may have left names that are visible and not durable.
    disk.sync_directory(directory_of(path))
}

/// Writes what the journal holds, and sets aside what lies behind it.
fn make_true(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    plan: &Plan<'_>,
    tail: Tail,
    report: &Reporter,
) -> io::Result<()> {
    plan.write(file)?;
    file.sync()?;
    let end = match tail {
        Tail::Doubtful | Tail::Expendable => plan.end,
        Tail::KeepWhole => format::last_record_end(file, file.status()?.octets)?.max(plan.end),
    };
    cut_off(disk, path, file, end, report, tail == Tail::Expendable)
}

/// Whether what stands where a mailbox should be is no file in a directory.
#[must_use]
pub fn is_odd(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory
    )
}

/// Moves everything from `end` on into a file beside the mailbox, and cuts it off there. Durable.
///
/// # Errors
///
/// As the disk reports them. The mailbox is cut only once the copy is safe.
pub fn set_aside(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    end: u64,
    report: &Reporter,
) -> io::Result<()> {
    cut_off(disk, path, file, end, report, false)
}

/// Does the same. What is expendable is given up where there is no room for a copy: it was never
/// acknowledged, so its sender tries again.
fn cut_off(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    end: u64,
    report: &Reporter,
    is_expendable: bool,
) -> io::Result<()> {
    let octets = file.status()?.octets;
    if octets <= end {
        return Ok(());
    }
    let kept = match keep_copy(disk, path, file, end..octets) {
        Err(error) if is_expendable && is_full(&error) => None,
        kept => Some(kept?),
    };
    file.truncate(end)?;
    file.sync()?;
    let what = match kept {
        Some(name) => format!("set aside in {}", disk.show(&name).display()),
        None => "cut off without a copy: there is no room for one".to_owned(),
    };
    report(&format!(
        "the last {} octets of {}, which no line with only a full stop ends, are {what}",
        octets - end,
        disk.show(path).display(),
    ));
    Ok(())
}

/// Copies a part of a mailbox into a file of its own beside it, durably; gives its name.
fn keep_copy(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    part: Range<u64>,
) -> io::Result<PathBuf> {
    keep(disk, path, |copy| {
        copy_from(file, part.start, part.end, copy)
    })
}

/// Makes a file beside a mailbox, durably, with what `fill` writes to it; gives its name.
fn keep(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&dyn File) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let directory = directory_of(path);
    let (name, file) = torn_file(disk, directory)?;
    let filled = fill(&*file).and_then(|()| file.sync());
    if filled.is_err() {
        // Half of it is of no use, and there may be many tries.
        drop(disk.remove(&name));
    }
    filled?;
    disk.sync_directory(directory)?;
    Ok(name)
}

fn copy_from(file: &dyn File, start: u64, end: u64, copy: &dyn File) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut at = start;
    while at < end {
        let got = file.read_at(&mut buffer, at)?;
        if got == 0 {
            break;
        }
        copy.write_at(&buffer[..got], at - start)?;
        at += got as u64;
    }
    Ok(())
}

fn torn_file(disk: &dyn Disk, directory: &Path) -> io::Result<(PathBuf, Box<dyn File>)> {
    let time = clock::now().format("%Y%m%dT%H%M%S").to_string();
    for number in 0.. {
        let suffix = if number == 0 {
            String::new()
        } else {
            format!("-{number}")
        };
        let name = directory.join(format!("mymailbox.torn-{time}{suffix}"));
        match disk.open(&name, Open::New) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return Ok((name, opened?)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// What the journal says about one mailbox.
#[derive(Debug, Default)]
struct Plan<'a> {
    base: u64,
    inode: u64,
    end: u64,
    /// In the order of their places, which follow each other; those that are durable in their
    /// place already are not here.
    records: Vec<(&'a AppendRecord, &'a [u8])>,
}

/// How a mailbox compares with the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    /// It is the one that the journal speaks of, perhaps torn.
    Ours,
    /// It seems to be another, such as a backup, where our records belong. What the crash itself
    /// left may look so too: both are kept.
    Overlaid,
    /// Our records do not fit behind what is there.
    Displaced,
    /// A person changed it while the server ran: the person is right.
    Edited,
}

impl Plan<'_> {
    fn compare(&self, file: &dyn File, tail: Tail) -> io::Result<Comparison> {
        let status = file.status()?;
        let fits = status.octets >= self.base && format::is_record_boundary(file, self.base)?;
        // While the server lives, what the system shows is what was written: any difference is
        // somebody's. After a crash it may be the crash's.
        if tail == Tail::KeepWhole {
            let is_whole = fits && status.octets >= self.end && self.is_written(file)?;
            return Ok(if is_whole {
                Comparison::Ours
            } else {
                Comparison::Edited
            });
        }
        if !fits {
            return Ok(Comparison::Displaced);
        }
        let is_another = status.identity.1 != self.inode && self.has_another_record(file)?;
        Ok(if is_another {
            Comparison::Overlaid
        } else {
            Comparison::Ours
        })
    }

    fn is_written(&self, file: &dyn File) -> io::Result<bool> {
        let mut found = Vec::new();
        for (record, tail) in &self.records {
            let octets = [record.head.as_slice(), tail].concat();
            found.resize(octets.len(), 0);
            let filled = format::read_full(file, &mut found, record.offset)?;
            if found[..filled] != octets {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a record stands where our first one should be that is not ours, not even torn:
    /// blocks that never arrived begin at their edges, or hold zeros.
    fn has_another_record(&self, file: &dyn File) -> io::Result<bool> {
        let Some((record, _)) = self.records.first() else {
            return Ok(false);
        };
        let mut found = vec![0; record.head.len()];
        let filled = format::read_full(file, &mut found, record.offset)?;
        let found = &found[..filled];
        let Some(at) = found
            .iter()
            .zip(&record.head)
            .position(|(found, ours)| found != ours)
        else {
            return Ok(false);
        };
        let is_at_edge = (record.offset + at as u64).is_multiple_of(BLOCK_OCTETS);
        Ok(found.starts_with(b"From: ") && !is_at_edge && found[at] != 0)
    }

    fn write(&self, file: &dyn File) -> io::Result<()> {
        self.records.iter().try_for_each(|(record, tail)| {
            file.write_at(&[record.head.as_slice(), tail].concat(), record.offset)
        })
    }

    /// Keeps the records, which have lost their place, in a file of their own.
    fn keep_beside(&self, disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
        keep(disk, path, |file| {
            let mut at = 0;
            self.records.iter().try_for_each(|(record, tail)| {
                file.write_pieces_at(&[&record.head, tail], at)?;
                at += (record.head.len() + tail.len()) as u64;
                Ok(())
            })
        })
    }
}

fn plans(entries: &[Entry]) -> BTreeMap<String, Plan<'_>> {
    let mut plans: BTreeMap<String, Plan<'_>> = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Base(bases) => {
                for Base {
                    user,
                    committed,
                    inode,
                } in bases
                {
                    let goes_on = |plan: &Plan<'_>| (plan.end, plan.inode) == (*committed, *inode);
                    if plans.get(user).is_some_and(goes_on) {
                        continue;
                    }
                    let (base, end) = (*committed, *committed);
                    let plan = Plan {
                        base,
                        inode: *inode,
                        end,
                        records: Vec::new(),
                    };
                    plans.insert(user.clone(), plan);
                }
            }
            Entry::Append { records, shared } => {
                for record in records {
                    let tail = shared.get(record.start as usize..).unwrap_or_default();
                    let plan = plans.entry(record.user.clone()).or_default();
                    plan.end = record.offset + (record.head.len() + tail.len()) as u64;
                    plan.records.push((record, tail));
                }
            }
            Entry::Tail(_) => {}
            Entry::Direct(spans) => {
                for (user, offset, length) in spans {
                    plans.entry(user.clone()).or_default().end = offset + length;
                }
            }
        }
    }
    plans
}
