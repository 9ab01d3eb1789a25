//! A record read as a message.

use chrono::{Local, NaiveDateTime, TimeZone};

use crate::message::trace::internet_date;

use super::format::Record;
use super::{Reading, StoreError};

/// How much is given at once.
const PIECE_OCTETS: usize = 64 * 1024;

/// A message in memory, read piece by piece.
#[derive(Debug)]
pub(super) struct Text {
    octets: Vec<u8>,
    at: usize,
}

impl Text {
    /// Reads a stored record, with the line that ends it.
    pub(super) fn new(record: &[u8]) -> Self {
        Self {
            octets: message(Record::parse(record)),
            at: 0,
        }
    }

    /// The size with CRLF line ends.
    pub(super) fn octets(&self) -> u64 {
        let line_feeds = memchr::memchr_iter(b'\n', &self.octets).count();
        (self.octets.len() + line_feeds) as u64
    }
}

impl Reading for Text {
    fn next(&mut self, text: &mut Vec<u8>) -> Result<bool, StoreError> {
        let end = (self.at + PIECE_OCTETS).min(self.octets.len());
        text.extend_from_slice(&self.octets[self.at..end]);
        let is_more = end > self.at;
        self.at = end;
        Ok(is_more)
    }
}

/// A unique-id made from what is stored; `twins` equal records stand before this one.
pub(super) fn unique_id(record: &[u8], twins: usize) -> String {
    format!("{:08x}{:x}.{twins}", crc32fast::hash(record), record.len())
}

fn message(record: Record) -> Vec<u8> {
    if record.is_full {
        return record.content;
    }
    let Record {
        from, to, subject, ..
    } = &record;
    let mut text = format!("From: {from}\nTo: {to}\nSubject: {subject}\n").into_bytes();
    if let Ok(time) = NaiveDateTime::parse_from_str(&record.received, "%Y-%m-%d : %H : %M")
        && let Some(time) = Local.from_local_datetime(&time).earliest()
    {
        text.extend_from_slice(format!("Date: {}\n", internet_date(&time)).as_bytes());
    }
    text.push(b'\n');
    text.extend_from_slice(&record.content);
    text
}
