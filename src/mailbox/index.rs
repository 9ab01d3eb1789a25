//! What a mail client asks about every message: where it is, how large, and a name that stays; and
//! the message as RFC 5322 text.

use std::io;

use chrono::{Local, NaiveDateTime, TimeZone};
use memchr::memchr_iter;

use crate::disk::File;
use crate::message::trace::internet_date;
use crate::wire::dot::Decoder;
use crate::wire::line::LineEnd;

use super::format::{FULL_RECORD_MARK, Record, Span, read_full};

/// The start of a record that surely holds its four lines and the start of its content.
pub const HEAD_OCTETS: usize = 2048;

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

/// The four lines of a record, as a mail client is to see them.
struct Head {
    /// How many octets they are in the file.
    stored_octets: u64,
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
        Self {
            stored_octets: record.head_octets as u64,
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
pub(super) fn date(received: &str) -> Option<String> {
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
