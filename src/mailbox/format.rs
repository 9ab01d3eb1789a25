//! The mailbox file: text that anyone can read.
//!
//! A file holds zero or more records, each ended by a line with only a full stop:
//!
//! ```text
//! From: <address>
//! To: <address>
//! Subject: <at most 100 characters>
//! Received: <YYYY-MM-DD : HH : MM, local time of arrival>
//! <content, zero or more lines>
//! .
//! ```
//!
//! Lines end with LF. A content line that begins with a full stop has one more in front, so that
//! no body can end its record or forge another. In a *plain* record, which is what NITC
//! prescribes, the content is the message body; it is written when those four lines say all that
//! the message's header says. In every other record, a *full* one, the content is `Return-Path`,
//! `Received` and then the message as it came. The first content line tells the two apart: a body
//! that begins with `Return-Path: ` makes a full record.
//!
//! Readers also take CRLF, since people edit these files.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::io;
use std::sync::Arc;

use memchr::memmem;

use crate::address::{Address, ReversePath};
use crate::disk::File;
use crate::message::header::Section;

/// The longest subject of a record, in characters (NITC).
pub const SUBJECT_CHARACTERS_MAX: usize = 100;
/// What the content of a full record begins with.
pub const FULL_RECORD_MARK: &[u8] = b"Return-Path: ";
/// What ends a record.
pub const RECORD_END: &[u8] = b".\n";

/// How much is read at once.
const BLOCK_OCTETS: usize = 256 * 1024;
/// The longest mark between records, `LF . CR LF`.
const MARK_OCTETS_MAX: usize = 4;

/// The four lines of one recipient's record, and where in the message its content begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The four lines.
    pub lines: String,
    /// Where the body begins in the message, for a plain record; a full record holds the
    /// trace fields and all of the message.
    pub plain_body: Option<usize>,
}

/// Makes the records' heads of one message for its recipients.
#[derive(Debug)]
pub struct Summary<'a> {
    section: Section<'a>,
    reverse_path: &'a ReversePath,
    /// `From`, `To`, `Subject` where they are all that there is and a plain record may do.
    plain: Option<[Cow<'a, str>; 3]>,
    /// The subject of full records, once there is one.
    subject: OnceCell<String>,
    received: &'a str,
}

impl<'a> Summary<'a> {
    /// Reads the message, or the start of a long one: then it is not the whole. Text may be
    /// dot-stuffed or not: no field that counts here begins with a full stop.
    #[must_use]
    pub fn new(
        text: &'a [u8],
        is_whole: bool,
        reverse_path: &'a ReversePath,
        received: &'a str,
    ) -> Self {
        let section = Section::parse(text);
        let body_is_marked = text[section.body..].starts_with(FULL_RECORD_MARK);
        // Of a header section that goes on who knows what is yet to come.
        let is_complete = is_whole || section.body < text.len();
        let plain = if is_complete && !body_is_marked {
            plain_fields(&section)
        } else {
            None
        };
        Self {
            plain: plain.filter(|[from, ..]| {
                let sender = reverse_path.address();
                sender.is_some_and(|sender| sender.is_written(from.trim_end()))
            }),
            subject: OnceCell::new(),
            section,
            reverse_path,
            received,
        }
    }

    /// How many `Received` fields there are.
    #[must_use]
    pub fn hops(&self) -> usize {
        self.section.named("Received").count()
    }

    /// The head of the record for this recipient.
    #[must_use]
    pub fn head(&self, recipient: &str) -> Head {
        if let Some([from, to, subject]) = &self.plain
            && is_mailbox(recipient, to.trim_end())
        {
            return Head {
                lines: self.lines(from.trim_end(), to.trim_end(), subject),
                plain_body: Some(self.section.body),
            };
        }
        let from: Arc<str> = match self.reverse_path.address() {
            None => "<>".into(),
            Some(address) => address.into(),
        };
        let subject = self.subject.get_or_init(|| {
            let subject = self.section.named("Subject").next();
            let subject = subject.map(|field| field.readable(SUBJECT_CHARACTERS_MAX));
            subject.unwrap_or_default()
        });
        Head {
            lines: self.lines(&from, recipient, subject),
            plain_body: None,
        }
    }

    fn lines(&self, from: &str, to: &str, subject: &str) -> String {
        [
            "From: ",
            from,
            "\nTo: ",
            to,
            "\nSubject: ",
            subject,
            "\nReceived: ",
            self.received,
            "\n",
        ]
        .concat()
    }
}

/// Whether a field names a recipient.
fn is_mailbox(recipient: &str, field: &str) -> bool {
    // As it mostly is written, it need not be parsed.
    (recipient == field && !field.starts_with('"'))
        || Address::parse(recipient).is_ok_and(|recipient| recipient.is_written(field))
}

/// The values of From, To and Subject, if there is exactly one of each and nothing else, and
/// the four lines can say the same.
fn plain_fields<'a>(section: &Section<'a>) -> Option<[Cow<'a, str>; 3]> {
    if section.fields.len() != 3 {
        return None;
    }
    let value = |name| {
        let text = match section.named(name).next()?.unfolded() {
            Cow::Borrowed(octets) => Cow::from(std::str::from_utf8(octets).ok()?),
            Cow::Owned(octets) => Cow::from(String::from_utf8(octets).ok()?),
        };
        (!text.contains(|c: char| c.is_control() && c != '\t')).then_some(text)
    };
    let (from, to, subject) = (value("From")?, value("To")?, value("Subject")?);
    // An encoded word is readable only when it is decoded, and then not what was sent.
    let is_encoded = subject.contains("=?");
    let fits = subject.chars().count() <= SUBJECT_CHARACTERS_MAX;
    (fits && !is_encoded).then_some([from, to, subject])
}

/// Where a record lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first octet.
    pub offset: u64,
    /// Its length, with the line that ends it.
    pub octets: u64,
}

impl Span {
    /// The octet after it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.octets
    }
}

/// Where the last whole record ends: 0 where there is none.
///
/// # Errors
///
/// As the file reports them.
pub fn last_record_end(file: &dyn File, octets: u64) -> io::Result<u64> {
    // Mostly nothing is torn.
    if is_record_boundary(file, octets)? {
        return Ok(octets);
    }
    let mut block = Block::default();
    let mut end = octets;
    loop {
        let start = end.saturating_sub(BLOCK_OCTETS as u64);
        block.read(file, start)?;
        if let Some(found) = block.record_ends().filter(|&found| found <= octets).last() {
            return Ok(found);
        }
        if start == 0 {
            return Ok(0);
        }
        end = start + MARK_OCTETS_MAX as u64;
    }
}

/// Whether a record ends at `offset`, or the file begins there.
///
/// # Errors
///
/// As the file reports them.
pub fn is_record_boundary(file: &dyn File, offset: u64) -> io::Result<bool> {
    if offset == 0 {
        return Ok(true);
    }
    let start = offset.saturating_sub(MARK_OCTETS_MAX as u64);
    let mut octets = vec![0; MARK_OCTETS_MAX];
    let filled = read_full(file, &mut octets, start)?;
    octets.truncate(filled);
    let block = Block {
        offset: start,
        octets,
    };
    Ok(block.record_ends().any(|end| end == offset))
}

/// A piece of a file.
#[derive(Default)]
pub(super) struct Block {
    offset: u64,
    octets: Vec<u8>,
}

impl Block {
    /// Reads from `offset`; whether there is anything.
    pub(super) fn read(&mut self, file: &dyn File, offset: u64) -> io::Result<bool> {
        self.offset = offset;
        if self.octets.len() < BLOCK_OCTETS {
            self.octets = vec![0; BLOCK_OCTETS];
        }
        let filled = read_full(file, &mut self.octets, offset)?;
        self.octets.truncate(filled);
        Ok(filled > 0)
    }

    /// Where to read on: a mark across the edge is then seen whole.
    pub(super) fn next_offset(&self) -> u64 {
        if self.is_last() {
            self.end()
        } else {
            self.end() - MARK_OCTETS_MAX as u64
        }
    }

    /// Where records end: after a full stop that is alone on its line.
    pub(super) fn record_ends(&self) -> impl Iterator<Item = u64> {
        let first = (self.offset == 0 && self.octets.starts_with(b".")).then_some(0);
        let others = memmem::find_iter(&self.octets, b"\n.").map(|at| at + 1);
        first.into_iter().chain(others).filter_map(|full_stop| {
            let end = match &self.octets[full_stop + 1..] {
                [b'\n', ..] => full_stop + 2,
                [b'\r', b'\n', ..] => full_stop + 3,
                _ => return None,
            };
            Some(self.offset + end as u64)
        })
    }

    fn is_last(&self) -> bool {
        self.octets.len() < BLOCK_OCTETS
    }

    fn end(&self) -> u64 {
        self.offset + self.octets.len() as u64
    }
}

/// Reads until the buffer is full or the file ends; gives how much.
///
/// # Errors
///
/// As the file reports them.
pub(super) fn read_full(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            got => filled += got,
        }
    }
    Ok(filled)
}

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The `From` line's value.
    pub from: String,
    /// The `To` line's value.
    pub to: String,
    /// The `Subject` line's value.
    pub subject: String,
    /// The `Received` line's value.
    pub received: String,
    /// Whether the content is trace fields and a message, not a body.
    pub is_full: bool,
    /// How many octets the lines before the content are in the file.
    pub head_octets: usize,
    /// The content without the full stops that were put in front, LF line ends.
    pub content: Vec<u8>,
}

impl Record {
    /// Reads a record's octets, or only its first lines: the four fields are then right and the
    /// content is cut short. A field that is missing is empty: people edit these files.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Self {
        let lines = Lines::parse(octets);
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let (from, to) = (text(lines.from), text(lines.to));
        let (subject, received) = (text(lines.subject), text(lines.received));
        let mut rest = &octets[lines.octets..];
        let mut content = Vec::with_capacity(rest.len());
        while !rest.is_empty() {
            let (line, after) = split_line(rest);
            rest = after;
            if line == b"." && rest.is_empty() {
                break;
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            content.push(b'\n');
        }
        Self {
            from,
            to,
            subject,
            received,
            is_full: lines.is_full,
            head_octets: lines.octets,
            content,
        }
    }
}

/// The four lines of a record, as they stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines<'a> {
    /// The `From` line's value; empty where the line is missing, as the others.
    pub from: &'a [u8],
    /// The `To` line's value.
    pub to: &'a [u8],
    /// The `Subject` line's value.
    pub subject: &'a [u8],
    /// The `Received` line's value.
    pub received: &'a [u8],
    /// How many octets the lines are.
    pub octets: usize,
    /// Whether the content is trace fields and a message, not a body.
    pub is_full: bool,
}

impl<'a> Lines<'a> {
    /// Reads them from the start of a record.
    #[must_use]
    pub fn parse(record: &'a [u8]) -> Self {
        let mut rest = record;
        let mut field = |name: &[u8]| {
            let (line, after) = split_line(rest);
            let Some(value) = line.strip_prefix(name) else {
                return &[][..];
            };
            rest = after;
            value.trim_ascii_start()
        };
        let (from, to) = (field(b"From:"), field(b"To:"));
        let (subject, received) = (field(b"Subject:"), field(b"Received:"));
        let content = rest.strip_prefix(b".").unwrap_or(rest);
        Self {
            from,
            to,
            subject,
            received,
            octets: record.len() - rest.len(),
            is_full: content.starts_with(FULL_RECORD_MARK),
        }
    }
}

/// The first line, without its LF or CRLF, and what follows.
fn split_line(octets: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', octets).unwrap_or(octets.len());
    let line = &octets[..end];
    (
        line.strip_suffix(b"\r").unwrap_or(line),
        octets.get(end + 1..).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;
    use crate::disk::{Disk, Open, SimulatedDisk};
    use std::path::Path;

    fn head(text: &str, from: &str, to: &str) -> (String, Option<String>) {
        let reverse_path = ReversePath::parse(from).unwrap().0;
        let head = Summary::new(text.as_bytes(), true, &reverse_path, "T").head(to);
        (head.lines, head.plain_body.map(|at| text[at..].to_owned()))
    }

    #[test]
    fn a_record_is_plain_when_the_four_lines_say_it_all() {
        let lines = "From: s@h\nTo: a@h\nSubject: x\nReceived: T\n".to_owned();
        for (what, text, body) in [
            ("NITC's", "From: s@h\nTo: a@h\nSubject: x\n\nhi\n", "hi\n"),
            (
                "no empty line",
                "From: s@h\nTo: a@h\nSubject: x\nhi there\n",
                "hi there\n",
            ),
            ("empty body", "From: s@h\nTo: a@h\nSubject: x\n\n", ""),
            (
                "any order",
                "Subject: x\nTo: a@h\nFrom: s@h\n\n\nhi\n",
                "\nhi\n",
            ),
            (
                "any case",
                "FROM:s@h\nto:  a@h \nsubject: x\n\nhi\n",
                "hi\n",
            ),
            (
                "body like a header",
                "From: s@h\nTo: a@h\nSubject: x\n\nFrom: z\n",
                "From: z\n",
            ),
        ] {
            let got = head(text, "<s@h>", "a@h");
            assert_eq!(got, (lines.clone(), Some(body.to_owned())), "{what}");
        }
        let (lines, body) = head("From: S@h\nTo: a@H\nSubject:\n\n", "<s@h>", "A@h");
        assert_eq!(lines, "From: S@h\nTo: a@H\nSubject: \nReceived: T\n");
        assert!(body.is_some());
        let hundred = format!("From: s@h\nTo: a@h\nSubject: {}\n\n", "ü".repeat(100));
        assert!(head(&hundred, "<s@h>", "a@h").1.is_some());
    }

    #[test]
    fn every_other_record_is_full() {
        let long = format!("From: s@h\nTo: a@h\nSubject: {}\n\n", "x".repeat(101));
        for (what, text) in [
            (
                "another field",
                "From: s@h\nTo: a@h\nSubject: x\nDate: y\n\n",
            ),
            ("no subject", "From: s@h\nTo: a@h\n\n"),
            (
                "two subjects",
                "From: s@h\nTo: a@h\nSubject: x\nSubject: x\n\n",
            ),
            ("display name", "From: S <s@h>\nTo: a@h\nSubject: x\n\n"),
            ("another sender", "From: z@h\nTo: a@h\nSubject: x\n\n"),
            ("Bcc", "From: s@h\nTo: z@h\nSubject: x\n\n"),
            ("two recipients", "From: s@h\nTo: a@h, z@h\nSubject: x\n\n"),
            (
                "encoded word",
                "From: s@h\nTo: a@h\nSubject: =?utf-8?q?x?=\n\n",
            ),
            (
                "marked body",
                "From: s@h\nTo: a@h\nSubject: x\n\nReturn-Path: y\n",
            ),
            ("long subject", &long),
            ("no header", "hello\n"),
            ("nothing", ""),
        ] {
            let (lines, body) = head(text, "<s@h>", "a@h");
            assert!(
                lines.starts_with("From: s@h\nTo: a@h\nSubject: "),
                "{what}: {lines}"
            );
            assert_eq!(body, None, "{what}");
        }
        let text = "From: s@h\nTo: a@h\nSubject: x\n\n";
        assert_eq!(
            head(text, "<>", "a@h").0,
            "From: <>\nTo: a@h\nSubject: x\nReceived: T\n"
        );
        let (lines, _) = head(&long, "<s@h>", "a@h");
        assert!(lines.contains(&format!("Subject: {}\n", "x".repeat(100))));
    }

    #[test]
    fn records_end_with_a_lone_full_stop() {
        let disk = SimulatedDisk::default();
        let big = format!("{}\n..\n", "x".repeat(BLOCK_OCTETS - 3));
        for (what, text, ends) in [
            ("nothing", "", vec![]),
            ("one", "a\n.\n", vec![4]),
            ("two", "a\n.\nb\n.\n", vec![4, 8]),
            ("CRLF", "a\r\n.\r\nb\r\n.\r\n", vec![6, 12]),
            ("torn", "a\n.\nb", vec![4]),
            ("torn full stop", "a\n.\nb\n.", vec![4]),
            ("stuffed", "a\n..\n.\n", vec![7]),
            ("stray", ".\n.\n", vec![2, 4]),
            ("full stop within a line", "a.\nb .\n", vec![]),
            (
                "across a block",
                &format!("{big}.\ny\n.\n"),
                vec![big.len() + 2, big.len() + 6],
            ),
        ] {
            let file = disk.open(Path::new("x"), Open::Write).unwrap();
            file.truncate(0).unwrap();
            file.write_at(text.as_bytes(), 0).unwrap();
            let found: Vec<u64> = scan(&*file, 0, u64::MAX)
                .unwrap()
                .iter()
                .map(|entry| entry.span.end())
                .collect();
            let ends: Vec<u64> = ends.into_iter().map(|end| end as u64).collect();
            assert_eq!(found, ends, "{what}");
            let last = ends.last().copied().unwrap_or(0);
            assert_eq!(
                last_record_end(&*file, text.len() as u64).unwrap(),
                last,
                "{what}"
            );
            for at in 0..=text.len().min(20) as u64 {
                let is_end = at == 0 || ends.contains(&at);
                assert_eq!(
                    is_record_boundary(&*file, at).unwrap(),
                    is_end,
                    "{what} at {at}"
                );
            }
        }
    }

    #[test]
    fn records_are_read_back() {
        let text = "From: s@h\nTo: a@h\nSubject: \nReceived: T\n..\n\n..b\n.\n";
        let record = Record::parse(text.as_bytes());
        assert_eq!((record.from.as_str(), record.subject.as_str()), ("s@h", ""));
        assert_eq!(record.content, b".\n\n.b\n");
        assert!(!record.is_full);
        let edited = text.replace('\n', "\r\n");
        let edited = Record::parse(edited.as_bytes());
        assert_eq!(
            Record {
                head_octets: record.head_octets,
                ..edited
            },
            record
        );
        let broken = Record::parse(b"To: a@h\njust text\n.\n");
        assert_eq!(
            (broken.to.as_str(), broken.content.as_slice()),
            ("a@h", &b"just text\n"[..])
        );
        assert!(Record::parse(b"From: s\nReturn-Path: <s@h>\n.\n").is_full);
    }
}
