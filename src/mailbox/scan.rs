//! The pass over a mailbox file that finds its records, and what is to be known of each.
//!
//! It should take no longer than reading the file does: a record that lies in the buffer is looked
//! at where it is, by functions that take many octets at once, and nothing is allocated for it.

use std::io;
use std::num::NonZero;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memmem};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use crate::disk::File;

use super::format::{Block, Lines, Span, read_full};
use super::index::{Entry, HEAD_OCTETS, date};

/// How much is looked at at once: what a core's own cache holds.
const BUFFER_OCTETS: usize = 256 * 1024;
/// A part of this size, in octets, is worth a thread of its own.
const PART_OCTETS_MIN: u64 = 16 * 1024 * 1024;
/// How many threads share a file at most.
const PARTS_MAX: usize = 4;

/// Finds the whole records of a file between two offsets, of which the first is where a record
/// begins, with all cores. What follows the last one is left out. Copies are not numbered.
///
/// # Errors
///
/// As the file reports them.
pub fn scan(file: &dyn File, start: u64, end: u64) -> io::Result<Vec<Entry>> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let parts = end.saturating_sub(start) / PART_OCTETS_MIN;
    scan_in_parts(
        file,
        start..end,
        parts.clamp(1, cores.min(PARTS_MAX) as u64),
    )
}

fn scan_in_parts(file: &dyn File, whole: Range<u64>, parts: u64) -> io::Result<Vec<Entry>> {
    let edges = edges(file, &whole, parts)?;
    std::thread::scope(|scope| {
        let mut parts = edges.windows(2).map(|edge| edge[0]..edge[1]);
        let first = parts.next().unwrap_or(whole);
        let others: Vec<_> = parts
            .map(|part| {
                let own = part.clone();
                let thread = std::thread::Builder::new();
                (part, thread.spawn_scoped(scope, || scan_part(file, own)))
            })
            .collect();
        let mut entries = scan_part(file, first)?;
        for (part, thread) in others {
            let found = match thread {
                Ok(thread) => thread.join(),
                // A system without a thread to give has it done here.
                Err(_) => Ok(scan_part(file, part)),
            };
            entries.append(&mut found.map_err(|_| io::Error::other("a thread broke down"))??);
        }
        Ok(entries)
    })
}

/// Where to cut a piece of a file into so many parts, or fewer, at ends of records; its own start
/// and end included.
fn edges(file: &dyn File, whole: &Range<u64>, parts: u64) -> io::Result<Vec<u64>> {
    let octets = whole.end.saturating_sub(whole.start);
    let mut edges = vec![whole.start];
    for number in 1..parts {
        let at = whole.start + octets / parts * number;
        let end = record_end_after(file, at)?.filter(|&end| end < whole.end);
        // Records that are as large as a part have no end in it.
        edges.extend(end.filter(|end| edges.last().is_some_and(|last| last < end)));
    }
    edges.push(whole.end);
    Ok(edges)
}

/// Where the first record ends that does so after `offset`.
fn record_end_after(file: &dyn File, offset: u64) -> io::Result<Option<u64>> {
    let mut block = Block::default();
    let mut at = offset;
    while block.read(file, at)? {
        if let Some(end) = block.record_ends().next() {
            return Ok(Some(end));
        }
        match block.next_offset() {
            next if next > at => at = next,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Finds the whole records of a part of a file that begins where a record does.
fn scan_part(file: &dyn File, part: Range<u64>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let finder = memmem::Finder::new(b"\n.");
    let mut buffer = vec![0; BUFFER_OCTETS];
    // Where the buffer begins in the file, how full it is, and from where on marks are unseen.
    let (mut offset, mut filled, mut unseen) = (part.start, 0, 0);
    let mut record = Pass::new(part.start);
    loop {
        let left = usize::try_from(part.end.saturating_sub(offset + filled as u64));
        let wanted = left.map_or(BUFFER_OCTETS, |left| left.min(BUFFER_OCTETS - filled));
        let got = read_full(
            file,
            &mut buffer[filled..filled + wanted],
            offset + filled as u64,
        )?;
        filled += got;
        let octets = &buffer[..filled];
        let is_last = got == 0 || got < BUFFER_OCTETS - (filled - got);
        let mut start = 0;
        // A full stop at the very start has its line feed in an earlier buffer.
        let first = (unseen == 0 && !record.has_begun() && octets.starts_with(b".")).then_some(0);
        let others = finder.find_iter(&octets[unseen..]);
        let others = others.map(|at| unseen + at + 1);
        let mut next_unseen = filled.saturating_sub(1).max(unseen);
        for full_stop in first.into_iter().chain(others) {
            let end = match &octets[full_stop + 1..] {
                [b'\n', ..] => full_stop + 2,
                [b'\r', b'\n', ..] => full_stop + 3,
                [] | [b'\r'] if !is_last => {
                    next_unseen = full_stop.saturating_sub(1);
                    break;
                }
                _ => {
                    record.full_stops += 1;
                    continue;
                }
            };
            entries.push(record.finish(&octets[start..full_stop], offset + end as u64));
            start = end;
        }
        if is_last {
            return Ok(entries);
        }
        let kept = if start == 0 && filled == BUFFER_OCTETS {
            // The record is larger than the buffer.
            record.take(&octets[..next_unseen]);
            next_unseen
        } else {
            start
        };
        buffer.copy_within(kept..filled, 0);
        offset += kept as u64;
        filled -= kept;
        unseen = next_unseen.saturating_sub(kept);
    }
}

/// What is known of the record that is being read.
struct Pass {
    start: u64,
    /// Lines with a full stop put in front.
    full_stops: u64,
    /// Of a record that is larger than the buffer, what was in there before.
    long: Option<Box<Long>>,
    dates: Dates,
}

/// The first part of a record, counted.
struct Long {
    head: Measures,
    text: Text,
    after_cr: bool,
    hasher: Xxh3Default,
}

/// What counts in some text.
#[derive(Clone, Copy, Default)]
struct Text {
    octets: u64,
    line_feeds: u64,
    /// Line feeds with a CR before them, in files that people edited.
    with_cr: u64,
}

impl Text {
    fn of(octets: &[u8]) -> Self {
        let with_cr = match memchr(b'\r', octets) {
            None => 0,
            Some(at) => memmem::find_iter(&octets[at..], b"\r\n").count() as u64,
        };
        Self {
            octets: octets.len() as u64,
            line_feeds: memchr_iter(b'\n', octets).count() as u64,
            with_cr,
        }
    }
}

impl Pass {
    fn new(start: u64) -> Self {
        Self {
            start,
            full_stops: 0,
            long: None,
            dates: Dates::default(),
        }
    }

    fn has_begun(&self) -> bool {
        self.long.is_some()
    }

    /// Takes a part of a record that is larger than the buffer: its start, or what goes on.
    fn take(&mut self, octets: &[u8]) {
        let dates = &mut self.dates;
        let long = self.long.get_or_insert_with(|| {
            Box::new(Long {
                head: Measures::of(octets, dates),
                text: Text::default(),
                after_cr: false,
                hasher: Xxh3Default::new(),
            })
        });
        long.take(octets);
    }

    /// The record ends at `end`, with a line of a lone full stop; `octets` are what comes before
    /// that and was not taken yet. The next record begins.
    fn finish(&mut self, octets: &[u8], end: u64) -> Entry {
        let (head, text, hash) = match self.long.take() {
            None => {
                let head = Measures::of(octets, &mut self.dates);
                (head, Text::of(octets), xxh3_128(octets))
            }
            Some(mut long) => {
                long.take(octets);
                (long.head, long.text, long.hasher.digest128())
            }
        };
        let content = text.octets + text.line_feeds - text.with_cr - self.full_stops;
        let entry = Entry {
            span: Span {
                offset: self.start,
                octets: end - self.start,
            },
            octets: content.saturating_sub(head.wire_octets) + head.field_octets,
            hash,
            is_full: head.is_full,
            copy: 0,
        };
        (self.start, self.full_stops) = (end, 0);
        entry
    }
}

impl Long {
    fn take(&mut self, octets: &[u8]) {
        let text = Text::of(octets);
        self.text.octets += text.octets;
        self.text.line_feeds += text.line_feeds;
        self.text.with_cr += text.with_cr;
        if self.after_cr && octets.first() == Some(&b'\n') {
            self.text.with_cr += 1;
        }
        if let Some(last) = octets.last() {
            self.after_cr = *last == b'\r';
        }
        self.hasher.update(octets);
    }
}

/// How large the four lines of a record are to a mail client.
#[derive(Clone, Copy)]
struct Measures {
    is_full: bool,
    /// As they stand there, with CRLF.
    wire_octets: u64,
    /// What takes their place, with CRLF: nothing in a full record, a header section in a plain
    /// one. As [`super::index::MessageReader`] makes it.
    field_octets: u64,
}

impl Measures {
    fn of(record: &[u8], dates: &mut Dates) -> Self {
        let lines = Lines::parse(&record[..record.len().min(HEAD_OCTETS)]);
        let text = Text::of(&record[..lines.octets]);
        let mut field_octets = 0;
        if !lines.is_full {
            let values = [
                ("From", lines.from),
                ("To", lines.to),
                ("Subject", lines.subject),
            ];
            for (name, value) in values {
                let value = String::from_utf8_lossy(value);
                field_octets += name.len() + ": \r\n".len() + value.len();
            }
            if let Some(octets) = dates.octets(lines.received) {
                field_octets += "Date: \r\n".len() + octets;
            }
            field_octets += "\r\n".len();
        }
        Self {
            is_full: lines.is_full,
            wire_octets: text.octets + text.line_feeds - text.with_cr,
            field_octets: field_octets as u64,
        }
    }
}

/// How long dates are. Many messages come in one minute, and a date takes long to read.
#[derive(Default)]
struct Dates {
    last: Option<(Vec<u8>, Option<usize>)>,
}

impl Dates {
    fn octets(&mut self, received: &[u8]) -> Option<usize> {
        if let Some((last, octets)) = &self.last
            && last == received
        {
            return *octets;
        }
        let octets = date(&String::from_utf8_lossy(received)).map(|date| date.len());
        self.last = Some((received.to_vec(), octets));
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::{message, with_crlf};
    use super::*;
    use crate::disk::{Disk, Open, SimulatedDisk};
    use std::path::Path;

    /// The same, a line after the other.
    fn expected(text: &[u8]) -> Vec<Entry> {
        let (mut entries, mut start, mut at) = (Vec::new(), 0, 0);
        for line in text.split_inclusive(|&octet| octet == b'\n') {
            at += line.len();
            if line == b".\n" || line == b".\r\n" {
                let record = &text[start..at];
                let span = Span {
                    offset: start as u64,
                    octets: record.len() as u64,
                };
                entries.push(Entry {
                    span,
                    octets: with_crlf(&message(record)),
                    hash: xxh3_128(&record[..record.len() - line.len()]),
                    is_full: Lines::parse(record).is_full,
                    copy: 0,
                });
                start = at;
            }
        }
        entries
    }

    #[track_caller]
    fn check(text: &[u8], what: &str) {
        let disk = SimulatedDisk::default();
        let file = disk.open(Path::new("x"), Open::Write).unwrap();
        file.write_at(text, 0).unwrap();
        let expected = expected(text);
        for parts in 1..6 {
            let found = scan_in_parts(&*file, 0..text.len() as u64, parts).unwrap();
            assert!(found == expected, "{what}, {parts} parts");
        }
        // And from a record on that is not the first.
        if let [first, others @ ..] = expected.as_slice() {
            let found = scan(&*file, first.span.end(), u64::MAX).unwrap();
            assert!(found == others, "{what}, without the first");
        }
    }

    const PLAIN: &str = "From: s@h\nTo: a@h\nSubject: ü\nReceived: 2021-03-22 : 14 : 05\n";

    #[test]
    fn records_are_measured_as_they_are_read() {
        for (what, text) in [
            ("nothing", String::new()),
            ("plain", format!("{PLAIN}hi\n..\n.\n")),
            ("full", format!("{PLAIN}Return-Path: <>\nX: y\n\n..x\n.\n")),
            ("CRLF", format!("{PLAIN}hi\n.\n").replace('\n', "\r\n")),
            ("mixed", format!("{PLAIN}hi\r\n\rx\n..\r\n.\n{PLAIN}.\r\n")),
            ("no date", PLAIN.replace("2021", "x") + ".\n"),
            ("stray", ".\n.\n..\n.\na\n.\n".to_owned()),
            ("torn", format!("{PLAIN}hi\n.\nFrom: x\n.")),
        ] {
            check(text.as_bytes(), what);
        }
    }

    /// Marks at the buffer's edge, in records that fit in it, that fill it, and that are larger.
    #[test]
    fn edges_make_no_difference() {
        let end = format!("\r\n..\r\n.x\n.\r\n.\n..\n.\n{PLAIN}Return-Path: <>\n.\n");
        for whole in [BUFFER_OCTETS, 3 * BUFFER_OCTETS] {
            for before in whole - 40..whole + 2 {
                let filler = "y".repeat(before - PLAIN.len());
                check(
                    format!("{PLAIN}{filler}{end}").as_bytes(),
                    &format!("{before}"),
                );
                let short = "z".repeat(before / 2);
                let text = format!("{short}\n.\n{}{end}", "z".repeat(before - short.len() - 3));
                check(text.as_bytes(), &format!("{before}, in two"));
            }
        }
    }
}
