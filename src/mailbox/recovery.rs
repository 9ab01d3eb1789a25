//! After a crash: what the journal says is made true in the mailboxes, what it does not know of is
//! set aside, and the journal is removed.
//!
//! Everything here can be repeated: a crash in the middle leaves the journal in place, and the next
//! start does it again. Records are always written again, even where the file seems to hold them
//! already: after a failed sync the system shows octets that never reached the disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock;
use crate::disk::{Disk, File, Open};

use super::file::mailbox_path;
use super::format;
use super::journal::{self, AppendRecord, Entry, JOURNAL_NAME};

/// What a recovery did, a sentence each, for the log.
pub type Findings = Vec<String>;

/// What to make of octets behind the last committed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The server that wrote them died: they prove nothing, however whole they look.
    Doubtful,
    /// The server lives and has nothing half done: whole records there are a person's.
    KeepWhole,
}

/// Makes the journal's word true and removes it. The caller holds the write lock.
///
/// # Errors
///
/// As the disk reports them; the journal is still there then, and all of it can be repeated.
pub fn recover(disk: &dyn Disk, tail: Tail) -> io::Result<Findings> {
    let mut findings = Vec::new();
    let Some(entries) = journal::read(disk)? else {
        return Ok(findings);
    };
    let mut user_directories = Vec::new();
    for (user, plan) in plans(&entries) {
        let path = mailbox_path(&user);
        let file = match disk.status(&path) {
            Ok(Some(_)) => disk.open(&path, Open::Write)?,
            // Names are durable before anything is committed: somebody took the mailbox away.
            Ok(None) => {
                findings.push(format!("mailbox {} is gone", disk.show(&path).display()));
                continue;
            }
            Err(error) if is_odd(&error) => {
                findings.push(format!("mailbox {}: {error}", disk.show(&path).display()));
                continue;
            }
            Err(error) => return Err(error),
        };
        apply(disk, &path, &*file, &plan, tail, &mut findings)?;
        user_directories.push(PathBuf::from(user));
    }
    // A killed run may have left names that are visible and not durable.
    for directory in user_directories {
        disk.sync_directory(&directory)?;
    }
    disk.remove(Path::new(JOURNAL_NAME))?;
    disk.sync_directory(Path::new(""))?;
    Ok(findings)
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
    findings: &mut Findings,
) -> io::Result<()> {
    let octets = file.status()?.octets;
    if octets <= end {
        return Ok(());
    }
    let directory = path.parent().unwrap_or_else(|| Path::new(""));
    let (name, copy) = torn_file(disk, directory)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut at = end;
    while at < octets {
        let got = file.read_at(&mut buffer, at)?;
        if got == 0 {
            break;
        }
        copy.write_at(&buffer[..got], at - end)?;
        at += got as u64;
    }
    copy.sync()?;
    disk.sync_directory(directory)?;
    file.truncate(end)?;
    file.sync()?;
    let (path, name) = (disk.show(path), disk.show(&name));
    findings.push(format!(
        "{} octets behind the last whole message of {} set aside in {}",
        octets - end,
        path.display(),
        name.display(),
    ));
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
    end: u64,
    writes: Vec<Write<'a>>,
}

#[derive(Debug)]
enum Write<'a> {
    Record(&'a AppendRecord, &'a [u8]),
    /// Durable in its place already.
    Direct,
}

fn plans(entries: &[Entry]) -> BTreeMap<String, Plan<'_>> {
    let mut plans: BTreeMap<String, Plan<'_>> = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Base(bases) => {
                for (user, base) in bases {
                    let plan = Plan {
                        base: *base,
                        end: *base,
                        writes: Vec::new(),
                    };
                    plans.insert(user.clone(), plan);
                }
            }
            Entry::Append { records, shared } => {
                for record in records {
                    let tail = shared.get(record.start as usize..).unwrap_or_default();
                    let plan = plans.entry(record.user.clone()).or_default();
                    plan.end = record.offset + (record.head.len() + tail.len()) as u64;
                    plan.writes.push(Write::Record(record, tail));
                }
            }
            Entry::Direct(spans) => {
                for (user, offset, length) in spans {
                    let plan = plans.entry(user.clone()).or_default();
                    plan.end = offset + length;
                    plan.writes.push(Write::Direct);
                }
            }
        }
    }
    plans
}

fn apply(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    plan: &Plan<'_>,
    tail: Tail,
    findings: &mut Findings,
) -> io::Result<()> {
    let octets = file.status()?.octets;
    if octets < plan.base || !format::is_record_boundary(file, plan.base)? {
        // Not the file that the journal speaks of: somebody changed or replaced it. Writing at
        // its offsets would spoil it.
        findings.push(format!(
            "mailbox {} was changed by somebody since the crash and is left as it is",
            disk.show(path).display(),
        ));
        return file.sync();
    }
    for write in &plan.writes {
        if let Write::Record(record, tail) = write {
            file.write_at(&[record.head.as_slice(), tail].concat(), record.offset)?;
        }
    }
    file.sync()?;
    let keep = match tail {
        Tail::Doubtful => plan.end,
        Tail::KeepWhole => format::last_record_end(file, file.status()?.octets)?.max(plan.end),
    };
    set_aside(disk, path, file, keep, findings)
}
