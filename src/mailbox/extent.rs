//! How much of a mailbox counts, for whoever reads it while others may write.
//!
//! A batch is in the mailboxes before it counts, and may be taken back. So who reads looks until nobody
//! is in the middle of anything. Nothing is locked for that: who is stopped while he reads keeps nobody
//! else from it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::disk::{Disk, File, Holder};

use super::ids;
use super::journal;
use super::locks;
use super::tail;

/// How long until the next look: a batch takes about as long.
const PAUSE: Duration = Duration::from_micros(200);
/// So many looks in a row that say the same are no coincidence.
const DOUBTS_MAX: u32 = 5;

/// How much of a mailbox counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many octets.
    Octets(u64),
    /// Somebody died in the middle of a change, or has something left to cut off: first that has to be
    /// mended.
    LeftHalfDone,
    /// Somebody is at a change for long, or it cannot be seen.
    Unknown,
}

/// What one look says.
enum Look {
    Extent(Extent),
    /// Somebody is at a change.
    Unsettled,
    /// The server is in the middle of a batch and does not write: it has something left to cut off, or
    /// this look fell between two of its steps.
    Doubtful,
}

impl Extent {
    /// The extent of a mailbox that is kept from being changed in its place. Waits so long for it.
    #[must_use]
    pub fn of(disk: &dyn Disk, directory: &Path, mailbox: &dyn File, patience: Duration) -> Self {
        let begun = Instant::now();
        let mut doubts = 0;
        loop {
            match look(disk, directory, mailbox) {
                Ok(Look::Extent(extent)) => return extent,
                Ok(Look::Doubtful) if doubts == DOUBTS_MAX => return Self::LeftHalfDone,
                Ok(Look::Doubtful) => doubts += 1,
                Ok(Look::Unsettled) => doubts = 0,
                Err(_) => return Self::Unknown,
            }
            if begun.elapsed() >= patience {
                return Self::Unknown;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn look(disk: &dyn Disk, directory: &Path, mailbox: &dyn File) -> io::Result<Look> {
    // Who moves a tail up takes the mailbox over until that is done.
    if tail::is_left_over(disk, directory)? {
        return Ok(Look::Extent(Extent::LeftHalfDone));
    }
    let before = mailbox.status()?;
    let server = locks::server(disk)?;
    // Nobody writes to a mailbox before the journal is there.
    let may_be_cut = server != Holder::AtRest && journal::exists(disk)?;
    let is_half_done = may_be_cut || ids::are_prepared(disk, directory)?;
    if !is_half_done {
        // What was there before the server was at rest counts, unless it is gone again.
        let is_settled = mailbox.status()? == before;
        return Ok(if is_settled {
            Look::Extent(Extent::Octets(before.octets))
        } else {
            Look::Unsettled
        });
    }
    Ok(if locks::is_write_locked(disk)? {
        Look::Unsettled
    } else if may_be_cut && server == Holder::Busy {
        Look::Doubtful
    } else {
        Look::Extent(Extent::LeftHalfDone)
    })
}
