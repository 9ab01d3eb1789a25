//! A message's text while it arrives: in memory while it is small, in a file once it is large.

use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk, File, Open};
use crate::wire::dot::Encoder;

use super::format::RECORD_END;

/// What is held in memory, in octets. A larger message is in a file beyond this.
pub const SPOOL_MEMORY_OCTETS: usize = 64 * 1024;
/// What the names of spool files begin with.
pub const SPOOL_PREFIX: &str = ".minismtp.spool.";

/// Collects text and keeps it as records hold it: dot-stuffed, LF line ends.
#[derive(Debug)]
pub struct Spool {
    disk: Arc<dyn Disk>,
    encoder: Encoder,
    /// The beginning, or all of it.
    memory: Vec<u8>,
    /// All of it, once it is large.
    file: Option<(Arc<dyn File>, u64)>,
}

/// Text that is complete, with the line that ends a record.
#[derive(Debug)]
pub enum Text {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file that has no name any more.
    File {
        /// The file.
        file: Arc<dyn File>,
        /// How much of it.
        octets: u64,
    },
}

impl Spool {
    /// An empty one. Nothing is written to `disk` before the text is large.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            encoder: Encoder::file(),
            memory: Vec::new(),
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
        self.encoder.encode(text, &mut self.memory);
        if self.memory.len() > SPOOL_MEMORY_OCTETS {
            let file = self.unnamed_file()?;
            file.write_at(&self.memory, 0)?;
            self.file = Some((file, self.memory.len() as u64));
            self.memory.truncate(SPOOL_MEMORY_OCTETS);
            self.memory.shrink_to_fit();
        }
        Ok(())
    }

    /// Whether [`Spool::push`] will use the disk for this much more text.
    #[must_use]
    pub fn will_write(&self, octets: usize) -> bool {
        self.file.is_some() || self.memory.len() + octets > SPOOL_MEMORY_OCTETS
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

    /// The same text once more, for a message that is stored several times. Neither takes more
    /// text from now on: what is large is in a file that they share.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            disk: Arc::clone(&self.disk),
            encoder: self.encoder.clone(),
            memory: self.memory.clone(),
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
        let mut end = Vec::new();
        self.encoder.end_line(&mut end);
        end.extend_from_slice(RECORD_END);
        match self.file {
            None => {
                self.memory.extend_from_slice(&end);
                Ok(Text::Memory(self.memory))
            }
            Some((file, octets)) => {
                file.write_at(&end, octets)?;
                Ok(Text::File {
                    file,
                    octets: octets + end.len() as u64,
                })
            }
        }
    }

    /// A file that goes when its handle goes, however the process ends.
    fn unnamed_file(&self) -> io::Result<Arc<dyn File>> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("{SPOOL_PREFIX}{}.{number}", process::id()));
        let file = self.disk.open(&path, Open::New)?;
        self.disk.remove(&path)?;
        Ok(Arc::from(file))
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

    /// Reads up to `buffer.len()` octets from `offset`; 0 at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Memory(octets) => {
                let start = usize::try_from(offset).map_or(octets.len(), |at| at.min(octets.len()));
                let count = buffer.len().min(octets.len() - start);
                buffer[..count].copy_from_slice(&octets[start..start + count]);
                Ok(count)
            }
            Self::File { file, octets } => {
                let left = usize::try_from(octets.saturating_sub(offset)).unwrap_or(usize::MAX);
                let count = buffer.len().min(left);
                file.read_at(&mut buffer[..count], offset)
            }
        }
    }
}
