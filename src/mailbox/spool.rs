//! A message's text while it arrives: in memory while it is small or there is room, else in a file.

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::disk::{Disk, File, Open};
use crate::wire::dot::Encoder;

use super::file::copy_span;
use super::format::{RECORD_END, Span};

/// What is held in memory of every text, in octets.
pub const SPOOL_MEMORY_OCTETS: usize = 64 * 1024;
/// How long a text may be that is in memory while there is room for it; a longer one is in a file.
pub const ROOM_OCTETS: usize = 256 * 1024;
/// For how many such texts there is room.
pub const ROOMS: usize = 64;
/// Room for a few doubled dots and the end of a record.
const END_OCTETS: usize = 16;
/// What the names of spool files begin with.
pub const SPOOL_PREFIX: &str = ".minismtp.spool.";

/// Something of which there is a number, for all who share it.
#[derive(Clone, Debug)]
pub struct Permits {
    taken: Arc<AtomicUsize>,
    max: usize,
}

impl Permits {
    /// So many.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            taken: Arc::default(),
            max,
        }
    }

    /// Takes so many, if there are.
    #[must_use]
    pub fn take(&self, count: usize) -> Option<Permit> {
        // Who finds them full for a moment by somebody else who does is none the worse for it.
        let taken = self.taken.fetch_add(count, Ordering::Relaxed);
        let permit = Permit {
            permits: self.clone(),
            count,
        };
        (taken + count <= self.max).then_some(permit)
    }
}

/// What is taken until it is dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Permits,
    count: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// What spools share.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Memory for large texts.
    pub rooms: Permits,
    /// Files for those that have none.
    pub files: Permits,
}

impl Shares {
    /// Rooms, and so many files.
    #[must_use]
    pub fn new(files: usize) -> Self {
        Self {
            rooms: Permits::new(ROOMS),
            files: Permits::new(files),
        }
    }
}

impl Default for Shares {
    /// Any number of files.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// Octets in memory. Many of them have a room.
#[derive(Debug, Default)]
pub struct Memory {
    octets: Vec<u8>,
    room: Option<Permit>,
}

impl Memory {
    /// How many there may be.
    fn octets_max(&self) -> usize {
        match self.room {
            Some(_) => ROOM_OCTETS,
            None => SPOOL_MEMORY_OCTETS,
        }
    }
}

impl From<Vec<u8>> for Memory {
    fn from(octets: Vec<u8>) -> Self {
        Self { octets, room: None }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets
    }
}

/// Collects text and keeps it as records hold it: dot-stuffed, LF line ends.
#[derive(Debug)]
pub struct Spool {
    disk: Arc<dyn Disk>,
    shares: Shares,
    encoder: Encoder,
    /// The beginning, or all of it.
    memory: Memory,
    /// All of it, once it is large.
    file: Option<(Arc<SpoolFile>, u64)>,
}

/// A file that has no name any more.
#[derive(Debug)]
pub struct SpoolFile {
    file: Box<dyn File>,
    _permit: Permit,
}

impl Deref for SpoolFile {
    type Target = dyn File;

    fn deref(&self) -> &Self::Target {
        &*self.file
    }
}

/// Text that is complete, with the line that ends a record.
#[derive(Debug)]
pub enum Text {
    /// In memory.
    Memory(Memory),
    /// In a file.
    File {
        /// The file.
        file: Arc<SpoolFile>,
        /// How much of it.
        octets: u64,
    },
}

impl Spool {
    /// An empty one. Nothing is written to `disk` before the text is large and there is no room.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, shares: Shares) -> Self {
        Self {
            disk,
            shares,
            encoder: Encoder::file(),
            memory: Memory::default(),
            file: None,
        }
    }

    /// Takes text with LF line ends.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn push(&mut self, text: &[u8]) -> io::Result<()> {
        if let Some((file, octets)) = &mut self.file {
            let mut encoded = Vec::with_capacity(text.len() + text.len() / 64);
            self.encoder.encode(text, &mut encoded);
            file.write_at(&encoded, *octets)?;
            *octets += encoded.len() as u64;
            return Ok(());
        }
        self.take_room(text.len());
        // With what is added to most texts at their end.
        self.memory.octets.reserve(text.len() + END_OCTETS);
        self.encoder.encode(text, &mut self.memory.octets);
        if self.memory.len() > self.memory.octets_max() {
            self.move_to_file()?;
        }
        Ok(())
    }

    /// The same with text that may be kept where it is.
    ///
    /// # Errors
    ///
    /// As for [`Spool::push`].
    pub fn push_owned(&mut self, text: Vec<u8>) -> io::Result<()> {
        // What came with many others in one piece may have the room of all of them.
        let is_of_size = text.capacity() <= text.len() + text.len() / 4 + END_OCTETS;
        let may_stay = is_of_size && self.memory.is_empty() && self.file.is_none();
        if !may_stay || text.len() > SPOOL_MEMORY_OCTETS || !self.encoder.passes(&text) {
            return self.push(&text);
        }
        self.memory.octets = text;
        Ok(())
    }

    /// Moves what is in memory to a file, which copies share.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn move_to_file(&mut self) -> io::Result<()> {
        let file = self.unnamed_file()?;
        file.write_at(&self.memory, 0)?;
        self.file = Some((file, self.memory.len() as u64));
        let beginning = &self.memory[..self.memory.len().min(SPOOL_MEMORY_OCTETS)];
        self.memory = Memory::from(beginning.to_vec());
        Ok(())
    }

    /// Whether [`Spool::push`] will use the disk for this much more text.
    #[must_use]
    pub fn will_write(&mut self, octets: usize) -> bool {
        if self.file.is_some() {
            return true;
        }
        self.take_room(octets);
        self.memory.len() + octets > self.memory.octets_max()
    }

    /// Takes a room in memory, if there is one, where this much more text needs it.
    fn take_room(&mut self, octets: usize) {
        if self.memory.room.is_none() && self.memory.len() + octets > SPOOL_MEMORY_OCTETS {
            self.memory.room = self.shares.rooms.take(1);
        }
    }

    /// The beginning of the text, dot-stuffed: enough for any sane header section.
    #[must_use]
    pub fn beginning(&self) -> &[u8] {
        &self.memory
    }

    /// Whether [`Spool::beginning`] is all of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.file.is_none()
    }

    /// Whether [`Spool::move_to_file`] is to come before [`Spool::copy`]: there is much in memory.
    #[must_use]
    pub fn is_too_large_to_copy(&self) -> bool {
        self.memory.room.is_some()
    }

    /// The same text once more, for a message that is stored several times. Neither takes more
    /// text from now on.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            disk: Arc::clone(&self.disk),
            shares: self.shares.clone(),
            encoder: self.encoder.clone(),
            memory: Memory::from(self.memory.to_vec()),
            file: self
                .file
                .as_ref()
                .map(|(file, octets)| (Arc::clone(file), *octets)),
        }
    }

    /// Ends the text.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn finish(mut self) -> io::Result<Text> {
        match self.file {
            None => {
                self.encoder.end_line(&mut self.memory.octets);
                self.memory.octets.extend_from_slice(RECORD_END);
                Ok(Text::Memory(self.memory))
            }
            Some((file, octets)) => {
                let mut end = Vec::new();
                self.encoder.end_line(&mut end);
                end.extend_from_slice(RECORD_END);
                file.write_at(&end, octets)?;
                Ok(Text::File {
                    file,
                    octets: octets + end.len() as u64,
                })
            }
        }
    }

    /// A file that goes when its handle goes, however the process ends.
    fn unnamed_file(&self) -> io::Result<Arc<SpoolFile>> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let permit = self.shares.files.take(1);
        let permit = permit.ok_or_else(|| io::Error::other("too many large messages at once"))?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("{SPOOL_PREFIX}{}.{number}", process::id()));
        let file = self.disk.open(&path, Open::New)?;
        self.disk.remove(&path)?;
        Ok(Arc::new(SpoolFile {
            file,
            _permit: permit,
        }))
    }
}

impl From<Vec<u8>> for Text {
    fn from(octets: Vec<u8>) -> Self {
        Self::Memory(octets.into())
    }
}

impl Text {
    /// Its size.
    #[must_use]
    pub fn octets(&self) -> u64 {
        match self {
            Self::Memory(octets) => octets.len() as u64,
            Self::File { octets, .. } => *octets,
        }
    }

    /// Hands the octets from `start` on to `take`, in pieces.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or as `take` does.
    pub fn pieces(
        &self,
        start: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Memory(octets) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                take(octets.get(start..).unwrap_or_default())
            }
            Self::File { file, octets } => {
                let span = Span {
                    offset: start,
                    octets: octets.saturating_sub(start),
                };
                copy_span(&***file, span, take)
            }
        }
    }
}
