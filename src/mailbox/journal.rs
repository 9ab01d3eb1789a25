//! The journal: one file in the mail root whose single sync makes many appends to many mailboxes
//! durable at once.
//!
//! # What is in it
//!
//! A header, then frames. All numbers are little-endian.
//!
//! ```text
//! header  "minismtp journal 1\n" epoch:u64 crc:u32            crc over the epoch
//! frame   length:u32 crc:u32 payload                          crc over epoch, offset and payload
//! payload 'B' (user:string committed:u64 inode:u64)*          base
//!       | 'A' count:u32 (user:string offset:u64 start:u32 head:string)* shared:string
//!       | 'D' (user:string offset:u64 length:u64)*            direct
//! string  length:u32 octets
//! ```
//!
//! A *base* says how long a mailbox is; nothing is written to a mailbox in an epoch before its
//! base is durable. An *append* holds a message: each recipient's record is its `head` followed by
//! `shared` from `start` on, at an absolute offset, so that writing it twice does no harm. A
//! *direct* entry commits records that are already synced in their mailboxes: large ones are not
//! written twice. Frames end at the first one whose length is 0 or whose checksum is wrong: the
//! file is zeroed ahead of its end, and a checksum with the epoch in it keeps frames of an earlier
//! epoch from being taken for new ones.
//!
//! # What it promises
//!
//! The length of a mailbox is its last base plus the appends after it. Octets beyond were never
//! acknowledged, however whole they look. When the journal is full, all mailboxes are synced, and a
//! new epoch begins with the bases of all that are known.

use std::io;
use std::path::Path;

use crate::disk::{Disk, File, Open};

/// The journal's name in the mail root.
pub const JOURNAL_NAME: &str = ".minismtp.journal";
/// A journal of this size begins a new epoch before the next batch.
pub const JOURNAL_OCTETS_MAX: u64 = 8 * 1024 * 1024;
/// The file is zeroed ahead in steps of this size: overwriting what is allocated syncs in half
/// the time that growing takes.
const GROWTH_OCTETS: u64 = 1024 * 1024;

const MAGIC: &[u8] = b"minismtp journal 1\n";
const HEADER_OCTETS: u64 = MAGIC.len() as u64 + 8 + 4;
const FRAME_HEADER_OCTETS: u64 = 8;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// How long mailboxes are.
    Base(Vec<Base>),
    /// A message for its recipients.
    Append {
        /// A record each.
        records: Vec<AppendRecord>,
        /// What they share: trace fields, message, final full stop.
        shared: Vec<u8>,
    },
    /// Records that are already durable where they are: user, offset, length.
    Direct(Vec<(String, u64, u64)>),
}

/// What is vouched for of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Whose mailbox.
    pub user: String,
    /// How long it is.
    pub committed: u64,
    /// Which file it is: another one is somebody else's doing, or a copy.
    pub inode: u64,
}

/// One recipient's record of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRecord {
    /// Whose mailbox.
    pub user: String,
    /// Where in it.
    pub offset: u64,
    /// The four lines.
    pub head: Vec<u8>,
    /// Where in the shared octets it goes on.
    pub start: u32,
}

/// An open journal, in one epoch.
#[derive(Debug)]
pub struct Journal {
    file: Box<dyn File>,
    identity: (u64, u64),
    epoch: u64,
    end: u64,
    allocated: u64,
}

impl Journal {
    /// Makes the journal where there is none. Its name is durable once the root is synced, which
    /// has to happen before anything that matters is committed.
    ///
    /// # Errors
    ///
    /// As the disk reports them.
    pub fn create(disk: &dyn Disk) -> io::Result<Self> {
        let file = disk.open(Path::new(JOURNAL_NAME), Open::New)?;
        let identity = file.status()?.identity;
        let mut journal = Self {
            file,
            identity,
            epoch: 0,
            end: 0,
            allocated: 0,
        };
        journal.begin_epoch(Vec::new())?;
        Ok(journal)
    }

    /// Which file it is.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether a new epoch should begin.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.end >= JOURNAL_OCTETS_MAX
    }

    /// Forgets all entries, which nobody needs any more, and begins anew with these bases.
    ///
    /// # Errors
    ///
    /// As the disk reports them. The journal must not be used any more then.
    pub fn begin_epoch(&mut self, bases: Vec<Base>) -> io::Result<()> {
        self.epoch += 1;
        let mut octets = MAGIC.to_vec();
        octets.extend_from_slice(&self.epoch.to_le_bytes());
        octets.extend_from_slice(&crc32fast::hash(&self.epoch.to_le_bytes()).to_le_bytes());
        if !bases.is_empty() {
            frame(self.epoch, HEADER_OCTETS, &Entry::Base(bases), &mut octets)?;
        }
        self.end = 0;
        self.reserve(octets.len() as u64)?;
        self.commit(&octets)
    }

    /// Makes room for this much more.
    ///
    /// # Errors
    ///
    /// As the disk reports them: no space, above all. The journal is as it was.
    pub fn reserve(&mut self, octets: u64) -> io::Result<()> {
        // Room for one frame header of zeros behind the last frame, always.
        while self.allocated < self.end + octets + FRAME_HEADER_OCTETS {
            let zeros = vec![0; usize::try_from(GROWTH_OCTETS).map_err(io::Error::other)?];
            self.file.write_at(&zeros, self.allocated)?;
            self.allocated += GROWTH_OCTETS;
        }
        Ok(())
    }

    /// Frames entries for [`Journal::commit`].
    ///
    /// # Errors
    ///
    /// An entry is larger than 4 GiB.
    pub fn frames(&self, entries: &[Entry]) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        for entry in entries {
            frame(
                self.epoch,
                self.end + octets.len() as u64,
                entry,
                &mut octets,
            )?;
        }
        Ok(octets)
    }

    /// Writes frames behind the last one and syncs: what they say holds from then on.
    ///
    /// # Errors
    ///
    /// As the disk reports them. Nobody can say then whether the frames will be found: call
    /// [`Journal::retract`].
    pub fn commit(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_at(frames, self.end)?;
        self.file.sync()?;
        self.end += frames.len() as u64;
        Ok(())
    }

    /// Overwrites the beginning of frames whose commit failed, so that nobody who reads the
    /// journal from now on finds them. That is not durable before the journal is removed.
    ///
    /// # Errors
    ///
    /// As the disk reports them.
    pub fn retract(&self) -> io::Result<()> {
        self.file.write_at(&[0; 8], self.end)
    }
}

/// Reads the entries of the journal in a root; `None` where there is no journal. One whose
/// header is torn has no entries: it was never used, or had just been emptied.
///
/// # Errors
///
/// As the disk reports them.
pub fn read(disk: &dyn Disk) -> io::Result<Option<Vec<Entry>>> {
    let Some(octets) = crate::disk::read(disk, Path::new(JOURNAL_NAME))? else {
        return Ok(None);
    };
    Ok(Some(entries(&octets)))
}

fn entries(octets: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut reader = Reader { rest: octets };
    let Some(epoch) = header(&mut reader) else {
        return entries;
    };
    loop {
        let offset = (octets.len() - reader.rest.len()) as u64;
        let Some(entry) = next_entry(&mut reader, epoch, offset) else {
            return entries;
        };
        entries.push(entry);
    }
}

fn header(reader: &mut Reader<'_>) -> Option<u64> {
    let magic = reader.take(MAGIC.len())?;
    let epoch = reader.u64()?;
    let crc = reader.u32()?;
    (magic == MAGIC && crc == crc32fast::hash(&epoch.to_le_bytes())).then_some(epoch)
}

fn next_entry(reader: &mut Reader<'_>, epoch: u64, offset: u64) -> Option<Entry> {
    let length = reader.u32()?;
    let crc = reader.u32()?;
    let payload = reader.take(usize::try_from(length).ok()?)?;
    if payload.is_empty() || crc != checksum(epoch, offset, payload) {
        return None;
    }
    decode(payload)
}

fn frame(epoch: u64, offset: u64, entry: &Entry, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    encode(entry, out)?;
    let payload = &out[start + 8..];
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let crc = checksum(epoch, offset, payload);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn checksum(epoch: u64, offset: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn encode(entry: &Entry, out: &mut Vec<u8>) -> io::Result<()> {
    match entry {
        Entry::Base(bases) => {
            out.push(b'B');
            for base in bases {
                put_string(out, base.user.as_bytes())?;
                out.extend_from_slice(&base.committed.to_le_bytes());
                out.extend_from_slice(&base.inode.to_le_bytes());
            }
        }
        Entry::Append { records, shared } => {
            out.push(b'A');
            put_length(out, records.len())?;
            for record in records {
                put_string(out, record.user.as_bytes())?;
                out.extend_from_slice(&record.offset.to_le_bytes());
                out.extend_from_slice(&record.start.to_le_bytes());
                put_string(out, &record.head)?;
            }
            put_string(out, shared)?;
        }
        Entry::Direct(spans) => {
            out.push(b'D');
            for (user, offset, length) in spans {
                put_string(out, user.as_bytes())?;
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
    }
    Ok(())
}

fn put_length(out: &mut Vec<u8>, length: usize) -> io::Result<()> {
    out.extend_from_slice(
        &u32::try_from(length)
            .map_err(io::Error::other)?
            .to_le_bytes(),
    );
    Ok(())
}

fn put_string(out: &mut Vec<u8>, octets: &[u8]) -> io::Result<()> {
    put_length(out, octets.len())?;
    out.extend_from_slice(octets);
    Ok(())
}

fn decode(payload: &[u8]) -> Option<Entry> {
    let mut reader = Reader { rest: payload };
    match reader.take(1)? {
        b"B" => {
            let mut bases = Vec::new();
            while !reader.rest.is_empty() {
                let (user, committed) = (reader.text()?, reader.u64()?);
                bases.push(Base {
                    user,
                    committed,
                    inode: reader.u64()?,
                });
            }
            Some(Entry::Base(bases))
        }
        b"A" => {
            let mut records = Vec::new();
            for _ in 0..reader.u32()? {
                let (user, offset) = (reader.text()?, reader.u64()?);
                let (start, head) = (reader.u32()?, reader.string()?.to_vec());
                records.push(AppendRecord {
                    user,
                    offset,
                    head,
                    start,
                });
            }
            Some(Entry::Append {
                records,
                shared: reader.string()?.to_vec(),
            })
        }
        b"D" => {
            let mut spans = Vec::new();
            while !reader.rest.is_empty() {
                spans.push((reader.text()?, reader.u64()?, reader.u64()?));
            }
            Some(Entry::Direct(spans))
        }
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(octets)?;
        self.rest = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.string()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    fn sample() -> Vec<Entry> {
        vec![
            Entry::Base(vec![
                Base {
                    user: "Andrew".into(),
                    committed: 7,
                    inode: 1,
                },
                Base {
                    user: "Jürgen".into(),
                    committed: 0,
                    inode: 2,
                },
            ]),
            Entry::Append {
                records: vec![AppendRecord {
                    user: "Andrew".into(),
                    offset: 7,
                    head: b"From: a@b\n".to_vec(),
                    start: 3,
                }],
                shared: b"xyzhello\n.\n".to_vec(),
            },
            Entry::Direct(vec![("Andrew".into(), 28, 1_000_000)]),
        ]
    }

    fn write(disk: &SimulatedDisk, entries: &[Entry]) -> Journal {
        let mut journal = Journal::create(disk).unwrap();
        let frames = journal.frames(entries).unwrap();
        journal.reserve(frames.len() as u64).unwrap();
        journal.commit(&frames).unwrap();
        journal
    }

    #[test]
    fn what_is_committed_is_read() {
        let disk = SimulatedDisk::default();
        assert_eq!(read(&disk).unwrap(), None);
        write(&disk, &sample());
        assert_eq!(read(&disk).unwrap(), Some(sample()));
    }

    #[test]
    fn an_earlier_epoch_is_forgotten() {
        let disk = SimulatedDisk::default();
        let mut journal = write(&disk, &sample());
        let bases = vec![Base {
            user: "Andrew".to_owned(),
            committed: 99,
            inode: 1,
        }];
        journal.begin_epoch(bases.clone()).unwrap();
        assert_eq!(read(&disk).unwrap(), Some(vec![Entry::Base(bases)]));
    }

    #[test]
    fn what_is_retracted_is_not_read() {
        let disk = SimulatedDisk::default();
        let mut journal = write(&disk, &sample()[..1]);
        let frames = journal.frames(&sample()[1..]).unwrap();
        disk.fail_at(disk.operations() + 2, io::ErrorKind::Other);
        journal.commit(&frames).unwrap_err();
        assert_eq!(read(&disk).unwrap(), Some(sample()));
        journal.retract().unwrap();
        assert_eq!(read(&disk).unwrap(), Some(sample()[..1].to_vec()));
    }

    /// Any damage ends the entries where it is; it never makes one up.
    #[test]
    fn damage_is_seen() {
        let disk = SimulatedDisk::default();
        write(&disk, &sample());
        let whole = crate::disk::read(&disk, Path::new(JOURNAL_NAME))
            .unwrap()
            .unwrap();
        for at in 0..200 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let found = entries(&damaged);
            assert!(sample().starts_with(&found), "octet {at}");
            let cut = entries(&whole[..at]);
            assert!(sample().starts_with(&cut), "cut at {at}");
        }
    }
}
