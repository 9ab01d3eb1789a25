//! The journal: one place in the mail root where a single sync makes many appends to many mailboxes
//! durable at once.
//!
//! # What is in a file of it
//!
//! A header, then frames. All numbers are little-endian.
//!
//! ```text
//! header  "minismtp journal 1\n" epoch:u64 crc:u32            crc over the epoch
//! frame   length:u32 crc:u32 payload                          crc over epoch, offset and payload
//! payload 'B' (user:string committed:u64 inode:u64)*          base
//!       | 'A' count:u32 (user:string offset:u64 start:u32 head:string)* shared:string
//!       | 'D' (user:string offset:u64 length:u64)*            direct
//!       | 'T' user:string inode:u64 size:u64 offset:u64 length:u64   tail
//! string  length:u32 octets
//! ```
//!
//! A *base* says how long a mailbox is; nothing is written to a mailbox in an epoch before its
//! base is durable. An *append* holds a message: each recipient's record is its `head` followed by
//! `shared` from `start` on, at an absolute offset, so that writing it twice does no harm. A
//! *direct* entry commits records that are already synced in their mailboxes: large ones are not
//! written twice. A *tail*, which is alone in its journal, says that messages were deleted: see
//! [`super::tail`]. Frames end at the first one whose length is 0 or whose checksum is wrong: the
//! file is zeroed ahead of its end, and a checksum with the epoch in it keeps frames of an earlier
//! epoch from being taken for new ones. What is written are whole blocks, with zeros behind the last
//! frame.
//!
//! # What it promises
//!
//! The length of a mailbox is its last base plus the appends after it. Octets beyond were never
//! acknowledged, however whole they look.
//!
//! # Two parts
//!
//! The journal has two files, which take turns. When one is full, an epoch begins in the other one
//! with the bases of all mailboxes that are known, and the mailboxes are synced behind it; what an
//! epoch holds is needed until that is done, and only then may the epoch after the next take its
//! place. So at any moment the files hold the last two epochs, and a base that begins where the
//! epoch before it ended takes nothing from that one's records.

use std::io;
use std::path::Path;

use crate::disk::{BLOCK_OCTETS, Disk, File, Open};

use super::format::read_full;

/// The names of the journal's files in the mail root.
pub const JOURNAL_NAMES: [&str; 2] = [".minismtp.journal", ".minismtp.journal.2"];
/// A part of this size is full.
pub const PART_OCTETS_MAX: u64 = 16 * 1024 * 1024;
/// A full part takes more while the mailboxes of the other one are being synced, up to so many
/// times its size.
const OVERFULL_FACTOR: u64 = 4;
/// A file is zeroed ahead in steps of this size, or of a whole part where that is less: overwriting
/// what is allocated syncs in half the time that growing takes.
const GROWTH_OCTETS: u64 = 1024 * 1024;

/// How much memory is kept for the next frames.
const BLOCKS_OCTETS_KEPT: usize = 256 * 1024;

const MAGIC: &[u8] = b"minismtp journal 1\n";
const HEADER_OCTETS: usize = MAGIC.len() + 8 + 4;
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
    /// What follows messages that were deleted moves up.
    Tail(Tail),
}

/// A new end for a mailbox, which is durable in a file beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Whose mailbox.
    pub user: String,
    /// Which file it is.
    pub inode: u64,
    /// How long it was.
    pub size: u64,
    /// Where in the mailbox the new end begins.
    pub offset: u64,
    /// How long it is.
    pub octets: u64,
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

impl AppendRecord {
    fn placed(&self) -> Placed<'_> {
        Placed {
            user: &self.user,
            offset: self.offset,
            head: &self.head,
            start: self.start as usize,
        }
    }
}

/// An [`AppendRecord`] on its way into the journal, borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Whose mailbox.
    pub user: &'a str,
    /// Where in it.
    pub offset: u64,
    /// The four lines.
    pub head: &'a [u8],
    /// Where in the shared octets it goes on.
    pub start: usize,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    parts: [Option<Part>; 2],
    /// Odd in the first file, even in the second.
    epoch: u64,
    part_octets_max: u64,
    end: u64,
    /// The last block, as far as it has frames.
    last_block: Vec<u8>,
    /// What is being written.
    blocks: Blocks,
}

/// Memory for whole blocks, at a multiple of their size.
#[derive(Debug, Default)]
struct Blocks(Vec<u8>);

impl Blocks {
    /// Takes pieces, and zeros up to the end of a block.
    fn fill(&mut self, pieces: [&[u8]; 2]) -> &[u8] {
        let filled = pieces[0].len() + pieces[1].len();
        let octets = filled.next_multiple_of(BLOCK_OCTETS);
        self.0.clear();
        self.0.reserve(octets + BLOCK_OCTETS);
        let start = self.0.as_ptr().align_offset(BLOCK_OCTETS);
        // An address that cannot be asked after is as good as any other.
        let start = if start < BLOCK_OCTETS { start } else { 0 };
        self.0.resize(start, 0);
        for piece in pieces {
            self.0.extend_from_slice(piece);
        }
        self.0.resize(start + octets, 0);
        &self.0[start..]
    }
}

#[derive(Debug)]
struct Part {
    file: Box<dyn File>,
    identity: (u64, u64),
    allocated: u64,
}

impl Journal {
    /// Makes the journal where there is none, with parts of this size. Its name is durable once
    /// the root is synced, which has to happen before anything that matters is committed.
    ///
    /// # Errors
    ///
    /// As the disk reports them.
    pub fn create(disk: &dyn Disk, part_octets_max: u64) -> io::Result<Self> {
        let mut journal = Self {
            parts: [None, None],
            epoch: 1,
            part_octets_max,
            end: 0,
            last_block: Vec::new(),
            blocks: Blocks::default(),
        };
        journal.parts[journal.turn()] = Some(Part::create(disk, JOURNAL_NAMES[journal.turn()])?);
        journal.write_header(Vec::new())?;
        Ok(journal)
    }

    /// Whether the file that has its turn is still in its place.
    ///
    /// # Errors
    ///
    /// As the disk reports them.
    pub fn is_there(&self, disk: &dyn Disk) -> io::Result<bool> {
        let found = disk.glance(Path::new(JOURNAL_NAMES[self.turn()]))?;
        let part = self.parts[self.turn()].as_ref();
        Ok(part.is_some_and(|part| found.is_some_and(|found| found.identity == part.identity)))
    }

    /// Whether a new epoch should begin.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.end >= self.part_octets_max
    }

    /// Whether a new epoch has to begin.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.end >= self.part_octets_max * OVERFULL_FACTOR
    }

    /// Begins an epoch with these bases. The epoch before the present one is forgotten: its
    /// mailboxes must be synced. Those of the present one may be synced from now on.
    ///
    /// # Errors
    ///
    /// As the disk reports them. The journal must not be used any more then.
    pub fn begin_epoch(&mut self, disk: &dyn Disk, bases: Vec<Base>) -> io::Result<()> {
        self.epoch += 1;
        // Somebody may have died, or failed, who was about to remove both files.
        if !self.is_there(disk)? {
            self.parts[self.turn()] = Some(Part::create(disk, JOURNAL_NAMES[self.turn()])?);
            self.write_header(bases)?;
            return disk.sync_directory(Path::new(""));
        }
        self.write_header(bases)
    }

    fn write_header(&mut self, bases: Vec<Base>) -> io::Result<()> {
        let mut octets = MAGIC.to_vec();
        octets.extend_from_slice(&self.epoch.to_le_bytes());
        octets.extend_from_slice(&crc32fast::hash(&self.epoch.to_le_bytes()).to_le_bytes());
        if !bases.is_empty() {
            frame(self.epoch, 0, &mut octets, |out| {
                encode(&Entry::Base(bases), out)
            })?;
        }
        self.end = 0;
        self.last_block.clear();
        self.reserve(octets.len() as u64)?;
        self.commit(&octets)
    }

    /// Which file has its turn.
    fn turn(&self) -> usize {
        usize::from(self.epoch.is_multiple_of(2))
    }

    fn part(&mut self) -> io::Result<&mut Part> {
        let turn = self.turn();
        self.parts[turn]
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes room for this much more.
    ///
    /// # Errors
    ///
    /// As the disk reports them: no space, above all. The journal is as it was.
    pub fn reserve(&mut self, octets: u64) -> io::Result<()> {
        // Room for one frame header of zeros behind the last frame, always.
        let needed = self.end + octets + FRAME_HEADER_OCTETS;
        let growth = self.part_octets_max.min(GROWTH_OCTETS);
        let part = self.part()?;
        while part.allocated < needed {
            let zeros = vec![0; usize::try_from(growth).map_err(io::Error::other)?];
            part.file.write_at(&zeros, part.allocated)?;
            // Where blocks are not allocated yet, every commit would have to allocate its own.
            part.file.sync()?;
            part.allocated += growth;
        }
        Ok(())
    }

    /// Appends a frame for [`Journal::commit`] to the frames that go with it.
    ///
    /// # Errors
    ///
    /// The entry is larger than 4 GiB.
    pub fn frame(&self, entry: &Entry, frames: &mut Vec<u8>) -> io::Result<()> {
        frame(self.epoch, self.end, frames, |out| encode(entry, out))
    }

    /// Appends the frame of an [`Entry::Append`] whose shared octets are these pieces.
    ///
    /// # Errors
    ///
    /// As for [`Journal::frame`].
    pub fn frame_append<'a>(
        &self,
        records: impl ExactSizeIterator<Item = Placed<'a>>,
        shared: [&[u8]; 2],
        frames: &mut Vec<u8>,
    ) -> io::Result<()> {
        frame(self.epoch, self.end, frames, |out| {
            encode_append(records, shared, out)
        })
    }

    /// Writes frames behind the last one and syncs: what they say holds from then on.
    ///
    /// # Errors
    ///
    /// As the disk reports them. Nobody can say then whether the frames will be found: call
    /// [`Journal::retract`].
    pub fn commit(&mut self, frames: &[u8]) -> io::Result<()> {
        let (file, start, blocks) = self.behind_last(frames)?;
        file.write_synced(blocks, start)?;
        self.end += frames.len() as u64;
        let filled = self.last_block.len() + frames.len();
        let of_last = frames.len().min(filled % BLOCK_OCTETS);
        if filled >= BLOCK_OCTETS {
            self.last_block.clear();
        }
        self.last_block
            .extend_from_slice(&frames[frames.len() - of_last..]);
        self.blocks.0.clear();
        self.blocks.0.shrink_to(BLOCKS_OCTETS_KEPT);
        Ok(())
    }

    /// Overwrites the beginning of frames whose commit failed, so that nobody who reads the
    /// journal from now on finds them. That is not durable before the journal is removed.
    ///
    /// # Errors
    ///
    /// As the disk reports them.
    pub fn retract(&mut self) -> io::Result<()> {
        // All of the block, which the disk may not give any more.
        let (file, start, blocks) = self.behind_last(&[0; 8])?;
        file.write_at(blocks, start)
    }

    /// What is to be written to have these octets behind the last frame: the file, the place and whole
    /// blocks. The first has the frames once more that are in it: they stay as they are.
    fn behind_last(&mut self, octets: &[u8]) -> io::Result<(&dyn File, u64, &[u8])> {
        let start = self.end - self.last_block.len() as u64;
        let part = self.parts[self.turn()].as_ref();
        let part = part.ok_or(io::ErrorKind::NotFound)?;
        let blocks = self.blocks.fill([&self.last_block, octets]);
        Ok((&*part.file, start, blocks))
    }
}

impl Part {
    fn create(disk: &dyn Disk, name: &str) -> io::Result<Self> {
        let file = disk.open(Path::new(name), Open::NewSynced)?;
        let identity = file.status()?.identity;
        Ok(Self {
            file,
            identity,
            allocated: 0,
        })
    }
}

/// Reads the entries of the journal in a root, those of the older epoch first; `None` where there is
/// no journal. A file whose header is torn has none: it was never used, or its epoch had just begun.
///
/// # Errors
///
/// As the disk reports them.
pub fn read(disk: &dyn Disk) -> io::Result<Option<Vec<Entry>>> {
    let names = names(disk)?;
    let mut found = Vec::new();
    for name in &names {
        let octets = crate::disk::read(disk, Path::new(name))?;
        found.extend(entries(&octets.unwrap_or_default()));
    }
    Ok((!names.is_empty()).then_some(found))
}

/// Removes the journal, durably, if there is one: all that it says must be true of the mailboxes by
/// then.
///
/// # Errors
///
/// As the disk reports them.
pub fn remove(disk: &dyn Disk) -> io::Result<()> {
    // The older epoch alone would have the newer one's records set aside.
    for name in names(disk)? {
        let name = Path::new(name);
        let file = disk.open(name, Open::Write);
        disk.remove(name)?;
        disk.sync_directory(Path::new(""))?;
        // A server may hold it for long, and a full disk needs the room now. Half of it would not do:
        // only now will nobody find it any more.
        if let Ok(file) = file {
            file.truncate(0).unwrap_or_default();
        }
    }
    Ok(())
}

/// The journal's files that are there, the older epoch first.
fn names(disk: &dyn Disk) -> io::Result<Vec<&'static str>> {
    let mut parts = Vec::new();
    for name in JOURNAL_NAMES {
        let file = match disk.open(Path::new(name), Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let mut octets = [0; HEADER_OCTETS];
        let filled = read_full(&*file, &mut octets, 0)?;
        let mut reader = Reader {
            rest: &octets[..filled],
        };
        parts.push((header(&mut reader), name));
    }
    // Without an epoch comes first.
    parts.sort_unstable();
    Ok(parts.into_iter().map(|(_, name)| name).collect())
}

/// Which files it has at the moment.
///
/// # Errors
///
/// As the disk reports them.
pub fn identities(disk: &dyn Disk) -> io::Result<[Option<(u64, u64)>; 2]> {
    let [first, second] = JOURNAL_NAMES.map(|name| disk.glance(Path::new(name)));
    Ok([first?, second?].map(|found| found.map(|found| found.identity)))
}

/// Whether there is a journal.
///
/// # Errors
///
/// As the disk reports them.
pub fn exists(disk: &dyn Disk) -> io::Result<bool> {
    Ok(identities(disk)?.iter().any(Option::is_some))
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

/// Appends a frame to octets that begin at `start` in the file.
fn frame(
    epoch: u64,
    start: u64,
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    encode(out)?;
    let payload = &out[at + 8..];
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let crc = checksum(epoch, start + at as u64, payload);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    out[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
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
            encode_append(records.iter().map(AppendRecord::placed), [shared, &[]], out)?;
        }
        Entry::Direct(spans) => {
            out.push(b'D');
            for (user, offset, length) in spans {
                put_string(out, user.as_bytes())?;
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
        Entry::Tail(tail) => {
            out.push(b'T');
            put_string(out, tail.user.as_bytes())?;
            for number in [tail.inode, tail.size, tail.offset, tail.octets] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    Ok(())
}

fn encode_append<'a>(
    records: impl ExactSizeIterator<Item = Placed<'a>>,
    shared: [&[u8]; 2],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    out.push(b'A');
    put_length(out, records.len())?;
    for record in records {
        put_string(out, record.user.as_bytes())?;
        out.extend_from_slice(&record.offset.to_le_bytes());
        put_length(out, record.start)?;
        put_string(out, record.head)?;
    }
    put_length(out, shared[0].len() + shared[1].len())?;
    out.extend_from_slice(shared[0]);
    out.extend_from_slice(shared[1]);
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
        b"T" => Some(Entry::Tail(Tail {
            user: reader.text()?,
            inode: reader.u64()?,
            size: reader.u64()?,
            offset: reader.u64()?,
            octets: reader.u64()?,
        })),
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
    use crate::disk::{RealDisk, SimulatedDisk};

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
            Entry::Tail(Tail {
                user: "Andrew".into(),
                inode: 1,
                size: 40,
                offset: 7,
                octets: 21,
            }),
        ]
    }

    fn write(disk: &SimulatedDisk, entries: &[Entry]) -> Journal {
        let mut journal = Journal::create(disk, PART_OCTETS_MAX).unwrap();
        let mut frames = Vec::new();
        for entry in entries {
            journal.frame(entry, &mut frames).unwrap();
        }
        journal.reserve(frames.len() as u64).unwrap();
        journal.commit(&frames).unwrap();
        journal
    }

    fn read(disk: &SimulatedDisk) -> Option<Vec<Entry>> {
        super::read(disk).unwrap()
    }

    #[test]
    fn what_is_committed_is_read() {
        let disk = SimulatedDisk::default();
        assert_eq!(read(&disk), None);
        write(&disk, &sample());
        assert_eq!(read(&disk), Some(sample()));
    }

    /// Frames of all sizes, also over the end of a block and over many, where an older epoch was.
    #[test]
    fn frames_are_read_after_each_commit_wherever_blocks_end() {
        let root = format!("minismtp-blocks-{}", std::process::id());
        let root = std::env::temp_dir().join(root);
        let disks: [Box<dyn Disk>; 2] = [
            Box::new(SimulatedDisk::default()),
            Box::new(RealDisk::open(&root).unwrap()),
        ];
        for disk in &disks {
            let mut journal = Journal::create(&**disk, PART_OCTETS_MAX).unwrap();
            let mut committed: Vec<Entry> = Vec::new();
            for epoch in 0..4 {
                if epoch > 0 {
                    journal.begin_epoch(&**disk, Vec::new()).unwrap();
                    // The one before stays.
                    let before = |entry: &Entry| matches!(entry, Entry::Direct(spans) if spans[0].1 + 1 == epoch);
                    committed.retain(before);
                }
                for length in [0, 1, 4000, 30, 4096, 9000, 3000, 8192, 60_000, 1, 100] {
                    let user = "x".repeat(length);
                    let entry = Entry::Direct(vec![(user, epoch, length as u64)]);
                    let mut frames = Vec::new();
                    journal.frame(&entry, &mut frames).unwrap();
                    journal.reserve(frames.len() as u64).unwrap();
                    journal.commit(&frames).unwrap();
                    committed.push(entry);
                    assert_eq!(super::read(&**disk).unwrap().unwrap(), committed);
                    let file = Path::new(JOURNAL_NAMES[journal.turn()]);
                    let octets = crate::disk::read(&**disk, file).unwrap().unwrap();
                    let end = usize::try_from(journal.end).unwrap();
                    let behind = &octets[end..end.next_multiple_of(BLOCK_OCTETS)];
                    assert!(behind.iter().all(|&octet| octet == 0), "{length}");
                }
            }
        }
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_last_two_epochs_are_read() {
        let disk = SimulatedDisk::default();
        let mut journal = write(&disk, &sample());
        let base = |committed| {
            vec![Base {
                user: "Andrew".to_owned(),
                committed,
                inode: 1,
            }]
        };
        journal.begin_epoch(&disk, base(99)).unwrap();
        let both = [sample(), vec![Entry::Base(base(99))]].concat();
        assert_eq!(read(&disk), Some(both));
        journal.begin_epoch(&disk, base(100)).unwrap();
        let both = vec![Entry::Base(base(99)), Entry::Base(base(100))];
        assert_eq!(read(&disk), Some(both));
        assert_eq!(names(&disk).unwrap(), [JOURNAL_NAMES[1], JOURNAL_NAMES[0]]);
        remove(&disk).unwrap();
        assert_eq!(read(&disk), None);
    }

    #[test]
    fn what_is_retracted_is_not_read() {
        let disk = SimulatedDisk::default();
        let mut journal = write(&disk, &sample()[..1]);
        let mut frames = Vec::new();
        for entry in &sample()[1..] {
            journal.frame(entry, &mut frames).unwrap();
        }
        disk.fail_at(disk.operations() + 2, io::ErrorKind::Other);
        journal.commit(&frames).unwrap_err();
        assert_eq!(read(&disk), Some(sample()));
        journal.retract().unwrap();
        assert_eq!(read(&disk), Some(sample()[..1].to_vec()));
    }

    /// Any damage ends the entries where it is; it never makes one up.
    #[test]
    fn damage_is_seen() {
        let disk = SimulatedDisk::default();
        write(&disk, &sample());
        let whole = crate::disk::read(&disk, Path::new(JOURNAL_NAMES[0]))
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
