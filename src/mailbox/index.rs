//! What a mail client asks about every message: where it is, how large, and a name that stays.
//!
//! One pass over the file, block by block, with some tens of octets kept for a message.

use std::io;

use chrono::{Local, NaiveDateTime, TimeZone};
use memchr::{memchr, memchr_iter, memmem};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::File;
use crate::message::trace::internet_date;
use crate::wire::dot::Decoder;
use crate::wire::line::LineEnd;

use super::format::{Block, FULL_RECORD_MARK, Mark, Record, Span, read_full};

/// The start of a record that surely holds its four lines and the start of its content.
pub const HEAD_OCTETS: usize = 2048;

/// How many threads read a large mailbox.
const SCAN_THREADS_MAX: usize = 4;
/// What is worth a thread, in octets.
const SCAN_PART_OCTETS_MIN: u64 = 4 * 1024 * 1024;

/// A message of a mailbox file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its record is.
    pub span: Span,
    /// Its size as RFC 5322 text, in octets with CRLF line ends.
    pub octets: u64,
    /// A hash of the record.
    pub hash: u128,
    /// Whether it has trace fields: no other record is like it then, unless a person copied it.
    pub is_full: bool,
    /// Which one it is of records that are alike to the octet, from 1 on, those included that
    /// were removed.
    pub copy: u32,
}

impl Entry {
    /// The message's unique-id (RFC 1939 §7).
    #[must_use]
    pub fn unique_id(&self) -> String {
        format!("{:032x}.{}", self.hash, self.copy)
    }
}

/// Finds the whole records of a file between two offsets, of which the first is where a record
/// begins. What follows the last one is left out. Copies are not numbered.
///
/// # Errors
///
/// As the file reports them.
pub fn scan(file: &dyn File, start: u64, end: u64) -> io::Result<Vec<Entry>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = processors.min(SCAN_THREADS_MAX) as u64;
    if parts < 2 || end.saturating_sub(start) < SCAN_PART_OCTETS_MIN * parts {
        return scan_part(file, start, end);
    }
    let mut edges = vec![start];
    for part in 1..parts {
        let middle = start + (end - start) / parts * part;
        edges.push(next_record(file, middle)?.min(end));
    }
    edges.push(end);
    std::thread::scope(|scope| {
        let threads: Vec<_> = edges
            .windows(2)
            .map(|edges| (edges[0], edges[1]))
            .map(|(from, to)| scope.spawn(move || scan_part(file, from, to)))
            .collect();
        let mut entries = Vec::new();
        for thread in threads {
            let part = thread.join();
            entries.append(&mut part.map_err(|_| io::Error::other("a thread broke down"))??);
        }
        Ok(entries)
    })
}

/// Where the first record after `offset` begins; the file's end where there is none.
fn next_record(file: &dyn File, mut offset: u64) -> io::Result<u64> {
    let mut block = Block::default();
    while block.read(file, offset)? {
        if let Some(end) = block.marks().find_map(|mark| mark.end) {
            return Ok(end);
        }
        offset = block.next_offset();
    }
    Ok(offset)
}

fn scan_part(file: &dyn File, start: u64, end: u64) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut pass = Pass {
        start,
        done: start,
        ..Pass::default()
    };
    let mut block = Block::default();
    // From the end of the line before: a full stop is a mark where a line begins.
    let mut offset = start.saturating_sub(1);
    while pass.start < end && block.read(file, offset)? {
        let limit = block.limit();
        for mark in block.marks().filter(|mark| mark.full_stop < limit) {
            let Mark {
                full_stop,
                end: after,
            } = mark;
            if full_stop < pass.done {
                continue;
            }
            pass.take(block.slice(pass.done, full_stop));
            match after {
                None => pass.full_stops += 1,
                Some(after) if after > end => return Ok(entries),
                Some(after) => entries.push(pass.finish(after, &block, file)?),
            }
        }
        if pass.done < limit {
            pass.take(block.slice(pass.done, limit));
        }
        offset = block.next_offset();
    }
    Ok(entries)
}

/// What is known of the record that is being read.
#[derive(Default)]
struct Pass {
    start: u64,
    /// The file is read up to here.
    done: u64,
    line_feeds: u64,
    /// Line feeds with a CR before them, in files that people edited.
    with_cr: u64,
    /// Lines with a full stop put in front.
    full_stops: u64,
    hasher: Xxh3,
    after_cr: bool,
}

impl Pass {
    fn take(&mut self, octets: &[u8]) {
        self.hasher.update(octets);
        self.line_feeds += memchr_iter(b'\n', octets).count() as u64;
        if self.after_cr && octets.first() == Some(&b'\n') {
            self.with_cr += 1;
        }
        if memchr(b'\r', octets).is_some() {
            self.with_cr += memmem::find_iter(octets, b"\r\n").count() as u64;
        }
        if let Some(last) = octets.last() {
            self.after_cr = *last == b'\r';
        }
        self.done += octets.len() as u64;
    }

    /// The record ends at `end`, after its lone full stop, and the next one begins.
    fn finish(&mut self, end: u64, block: &Block, file: &dyn File) -> io::Result<Entry> {
        let span = Span {
            offset: self.start,
            octets: end - self.start,
        };
        let content = self.done - self.start + self.line_feeds - self.with_cr - self.full_stops;
        let wanted = Head::octets_in(span);
        let head = match block.get(span.offset, wanted) {
            Some(octets) => Head::parse(octets),
            None => Head::read(file, span)?,
        };
        let entry = Entry {
            span,
            octets: content.saturating_sub(head.wire_octets) + with_crlf(&head.fields),
            hash: self.hasher.digest128(),
            is_full: head.is_full,
            copy: 0,
        };
        *self = Self {
            start: end,
            done: end,
            ..Self::default()
        };
        Ok(entry)
    }
}

/// The four lines of a record, as a mail client is to see them.
struct Head {
    /// How many octets they are in the file.
    stored_octets: u64,
    is_full: bool,
    /// How many they would be with CRLF.
    wire_octets: u64,
    /// What takes their place, LF line ends: nothing before a full record's content, the header
    /// section of a plain one.
    fields: Vec<u8>,
}

impl Head {
    /// How much of a record to look at.
    fn octets_in(span: Span) -> usize {
        usize::try_from(span.octets)
            .unwrap_or(HEAD_OCTETS)
            .min(HEAD_OCTETS)
    }

    fn read(file: &dyn File, span: Span) -> io::Result<Self> {
        let mut octets = vec![0; Self::octets_in(span)];
        let filled = read_full(file, &mut octets, span.offset)?;
        Ok(Self::parse(&octets[..filled]))
    }

    fn parse(octets: &[u8]) -> Self {
        let record = Record::parse(beginning(octets));
        let stored_octets = record.head_octets;
        let lines = &octets[..stored_octets.min(octets.len())];
        let line_feeds = memchr_iter(b'\n', lines).count();
        let with_cr = memmem::find_iter(lines, b"\r\n").count();
        Self {
            stored_octets: stored_octets as u64,
            is_full: record.is_full,
            wire_octets: (lines.len() + line_feeds - with_cr) as u64,
            fields: if record.is_full {
                Vec::new()
            } else {
                header_section(&record)
            },
        }
    }
}

/// The four lines of a record and enough of the next one to tell what it is.
fn beginning(octets: &[u8]) -> &[u8] {
    let fourth = memchr_iter(b'\n', octets).nth(3);
    let end = fourth.map_or(octets.len(), |at| at + 1 + FULL_RECORD_MARK.len() + 2);
    &octets[..end.min(octets.len())]
}

/// The header section of a plain record, LF line ends, with the empty line after it.
fn header_section(record: &Record) -> Vec<u8> {
    let mut section = String::new();
    let date = date(&record.received);
    let fields = [
        ("From", &record.from),
        ("To", &record.to),
        ("Subject", &record.subject),
    ];
    for (name, value) in fields
        .into_iter()
        .chain(date.as_ref().map(|date| ("Date", date)))
    {
        section.extend([name, ": ", value, "\n"]);
    }
    section.push('\n');
    section.into_bytes()
}

/// The time of a `Received` line as a header field has it.
fn date(received: &str) -> Option<String> {
    let time = NaiveDateTime::parse_from_str(received, "%Y-%m-%d : %H : %M").ok()?;
    // An hour that a change to summer time left out is as good as the one before.
    let local = Local.from_local_datetime(&time).earliest();
    Some(internet_date(
        &local.unwrap_or_else(|| Local.from_utc_datetime(&time)),
    ))
}

/// A record in memory as RFC 5322 text, LF line ends.
#[must_use]
pub fn message(record: &[u8]) -> Vec<u8> {
    let head = Head::parse(record);
    let mut text = head.fields;
    let content = usize::try_from(head.stored_octets).map_or(&[][..], |start| &record[start..]);
    Decoder::new(LineEnd::Any).decode(content, &mut text);
    text
}

/// The size of text with LF line ends once they are CRLF.
#[must_use]
pub fn with_crlf(text: &[u8]) -> u64 {
    (text.len() + memchr_iter(b'\n', text).count()) as u64
}

/// A message, read from its record piece by piece.
#[derive(Debug)]
pub struct MessageReader {
    /// What comes before the content.
    fields: Vec<u8>,
    decoder: Decoder,
    offset: u64,
    end: u64,
}

impl MessageReader {
    /// Begins with the record at `span`.
    ///
    /// # Errors
    ///
    /// As the file reports them.
    pub fn new(file: &dyn File, span: Span) -> io::Result<Self> {
        let head = Head::read(file, span)?;
        Ok(Self {
            offset: span.offset + head.stored_octets,
            end: span.end(),
            fields: head.fields,
            decoder: Decoder::new(LineEnd::Any),
        })
    }

    /// Appends the next piece, LF line ends; `false` at the end.
    ///
    /// # Errors
    ///
    /// As the file reports them.
    pub fn next(&mut self, file: &dyn File, text: &mut Vec<u8>) -> io::Result<bool> {
        const PIECE_OCTETS: usize = 64 * 1024;
        if !self.fields.is_empty() {
            text.append(&mut self.fields);
            return Ok(true);
        }
        if self.decoder.is_finished() || self.offset >= self.end {
            return Ok(false);
        }
        let left = usize::try_from(self.end - self.offset).unwrap_or(PIECE_OCTETS);
        let mut octets = vec![0; left.min(PIECE_OCTETS)];
        match file.read_at(&mut octets, self.offset)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                self.offset += got as u64;
                self.decoder.decode(&octets[..got], text);
                Ok(true)
            }
        }
    }
}
