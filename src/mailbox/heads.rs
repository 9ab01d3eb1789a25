//! The first lines of one record after another, for lists.

use std::io;

use crate::disk::File;

use super::format::{Span, read_full};

/// The start of a record that mostly holds its four lines, and one that surely does.
const HEAD_OCTETS: [usize; 2] = [512, 4096];
/// Records that are shorter than this are read many at once: a call for each would cost more than
/// the octets between their lines do.
const NEAR_OCTETS: u64 = 4096;
/// How much is read at once then.
const WINDOW_OCTETS: usize = 64 * 1024;

/// Reads from a mailbox file, with what was read last.
pub(super) struct Heads<'a> {
    file: &'a dyn File,
    offset: u64,
    octets: Vec<u8>,
}

impl<'a> Heads<'a> {
    pub(super) fn new(file: &'a dyn File) -> Self {
        Self {
            file,
            offset: 0,
            octets: Vec::new(),
        }
    }

    /// The four lines of the record at `span`, or the first lines of one that has others.
    pub(super) fn read(&mut self, span: Span) -> io::Result<&[u8]> {
        let whole = usize::try_from(span.octets).unwrap_or(usize::MAX);
        let mut range = 0..0;
        for octets in HEAD_OCTETS.map(|octets| octets.min(whole)) {
            let start = self.place(span, octets)?;
            let found = &self.octets[start..];
            let found = &found[..found.len().min(octets)];
            let fourth = memchr::memchr_iter(b'\n', found).nth(3);
            range = start..start + fourth.map_or(found.len(), |at| at + 1);
            if fourth.is_some() || octets == whole {
                break;
            }
        }
        Ok(&self.octets[range])
    }

    /// Where in what was read the first octets of a record are.
    fn place(&mut self, span: Span, octets: usize) -> io::Result<usize> {
        let held = self.offset..self.offset + self.octets.len() as u64;
        let is_held = held.contains(&span.offset) && span.offset + octets as u64 <= held.end;
        if !is_held {
            let wanted = if span.octets < NEAR_OCTETS {
                WINDOW_OCTETS
            } else {
                octets
            };
            self.octets.resize(wanted, 0);
            let filled = read_full(self.file, &mut self.octets, span.offset)?;
            self.octets.truncate(filled);
            self.offset = span.offset;
        }
        Ok(usize::try_from(span.offset - self.offset).unwrap_or(0))
    }
}
