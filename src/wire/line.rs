//! Octets to lines: bounded, and strict about what ends one.
//!
//! The first line that arrives decides for good. If it ends in CRLF, only CRLF ends a line from
//! then on, and a bare CR or LF stays inside the line for the engine to refuse: what relays take
//! for text must never be taken for a command (SMTP smuggling). If it ends in a bare LF, a person
//! is typing into netcat, and LF or CRLF ends a line; no mail server relays that way.

use memchr::memchr;

/// What ends a line on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// CRLF and nothing else (RFC 5321 §2.3.8).
    Crlf,
    /// LF or CRLF: a person at netcat.
    Any,
}

/// A line or the lack of one.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its end. It may hold bare CR or LF where [`LineEnd::Crlf`] is in force.
    Whole(Vec<u8>),
    /// A line longer than allowed; it was read to its end and dropped.
    TooLong,
}

impl Line {
    /// Whether a browser or a proxy is speaking: somebody makes it carry commands for them.
    #[must_use]
    pub fn is_of_another_protocol(&self) -> bool {
        let Self::Whole(line) = self else {
            return false;
        };
        let word = line
            .split(|&octet| octet == b' ')
            .next()
            .unwrap_or_default();
        let is_method = [
            &b"GET"[..],
            b"POST",
            b"PUT",
            b"HEAD",
            b"OPTIONS",
            b"CONNECT",
            b"DELETE",
        ]
        .contains(&word);
        let is_header = word.len() > 1 && word.ends_with(b":");
        is_method || is_header
    }
}

/// Stands in logs for a handshake of TLS in place of a line, which nobody can read.
pub const TLS_HANDSHAKE: &str = "(TLS handshake)";

/// The most room that is kept for the next line.
const SPARE_OCTETS_MAX: usize = 128;

/// Octets that arrived and are not yet consumed.
#[derive(Debug, Default)]
pub struct LineBuffer {
    octets: Vec<u8>,
    /// Room for the next line.
    spare: Vec<u8>,
    /// Octets before this one are consumed.
    start: usize,
    /// No line ends before this one, so that a long line is not scanned again for each read.
    scanned: usize,
    /// In the middle of a line that was too long.
    discarding: bool,
    line_end: Option<LineEnd>,
}

impl LineBuffer {
    /// Takes LF or CRLF from the first line on. For a client: a server's replies are numbered by
    /// its commands, so there is nothing to smuggle, and home-made servers mix the two.
    #[must_use]
    pub fn any_line_end() -> Self {
        Self {
            line_end: Some(LineEnd::Any),
            ..Self::default()
        }
    }

    /// Takes octets that arrived.
    pub fn push(&mut self, octets: &[u8]) {
        if self.start == self.octets.len() {
            self.clear();
        }
        self.octets.extend_from_slice(octets);
    }

    /// What ends a line here; `None` before the first line has come.
    #[must_use]
    pub fn line_end(&self) -> Option<LineEnd> {
        self.line_end
    }

    /// The octets that are not lines yet, for an engine in a phase that is not line by line.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.octets[self.start..]
    }

    /// Whether a TLS handshake stands where a line should begin (RFC 8446 §5.1: a record of type 22,
    /// version 3.x). It has no line end to wait for.
    #[must_use]
    pub fn is_at_handshake(&self) -> bool {
        !self.discarding && self.rest().starts_with(&[22, 3])
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.octets.len()
    }

    /// Drops the first `count` octets of [`LineBuffer::rest`].
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        self.scanned = self.start;
        if self.start >= self.octets.len() {
            self.clear();
        }
    }

    /// The next line; `None` until its end has come. A line of more than `octets_max` octets,
    /// its end not counted, is dropped without being held.
    pub fn next_line(&mut self, octets_max: usize) -> Option<Line> {
        let Some(end) = self.find_end() else {
            // One more than allowed may be the CR of an end that is on its way.
            if self.rest().len() > octets_max + 1 {
                self.discard_partial();
            }
            return None;
        };
        let line = &self.octets[self.start..end.text];
        let line = if self.discarding || line.len() > octets_max {
            Line::TooLong
        } else {
            let mut whole = std::mem::take(&mut self.spare);
            whole.extend_from_slice(line);
            Line::Whole(whole)
        };
        self.discarding = false;
        self.consume(end.next - self.start);
        Some(line)
    }

    /// Takes back a line that is done with.
    pub fn recycle(&mut self, line: Line) {
        if let Line::Whole(mut line) = line
            && line.capacity() <= SPARE_OCTETS_MAX
        {
            line.clear();
            self.spare = line;
        }
    }

    fn find_end(&mut self) -> Option<End> {
        loop {
            let at = self.scanned + memchr(b'\n', &self.octets[self.scanned..])?;
            let after_cr = at > self.start && self.octets[at - 1] == b'\r';
            let line_end = *self.line_end.get_or_insert(if after_cr {
                LineEnd::Crlf
            } else {
                LineEnd::Any
            });
            match line_end {
                _ if after_cr => {
                    return Some(End {
                        text: at - 1,
                        next: at + 1,
                    });
                }
                LineEnd::Any => {
                    return Some(End {
                        text: at,
                        next: at + 1,
                    });
                }
                LineEnd::Crlf => self.scanned = at + 1,
            }
        }
    }

    /// Forgets a line that is too long as far as it has come, but for a CR that may end it.
    fn discard_partial(&mut self) {
        self.discarding = true;
        let keep = usize::from(self.octets.last() == Some(&b'\r'));
        self.consume(self.rest().len() - keep);
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.start = 0;
        self.scanned = 0;
        // A connection that once sent much and then idles gives the memory back.
        if self.octets.capacity() > 4096 {
            self.octets = Vec::new();
        }
    }
}

struct End {
    text: usize,
    next: usize,
}

/// What a peer said, safe to print: no control characters, no more than a line.
#[must_use]
pub fn printable(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(&octets[..octets.len().min(512)]);
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the octets whole and one by one; both must give the same lines.
    fn lines(octets: &[u8], octets_max: usize) -> Vec<String> {
        let play = |chunks: &mut dyn Iterator<Item = &[u8]>| {
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for chunk in chunks {
                buffer.push(chunk);
                while let Some(line) = buffer.next_line(octets_max) {
                    lines.push(match line {
                        Line::Whole(line) => String::from_utf8(line).unwrap(),
                        Line::TooLong => "<too long>".to_owned(),
                    });
                }
            }
            lines
        };
        let whole = play(&mut std::iter::once(octets));
        assert_eq!(whole, play(&mut octets.chunks(1)), "{octets:?}");
        whole
    }

    #[test]
    fn the_first_line_decides_what_ends_a_line() {
        let cases: [(&str, &[u8], &[&str]); 7] = [
            ("CRLF", b"a\r\nb\r\n", &["a", "b"]),
            (
                "bare LF stays in a CRLF session",
                b"a\r\nb\nc\r\n",
                &["a", "b\nc"],
            ),
            (
                "bare CR stays in a CRLF session",
                b"a\r\nb\rc\r\n",
                &["a", "b\rc"],
            ),
            ("LF", b"a\nb\n", &["a", "b"]),
            (
                "CRLF is fine in an LF session",
                b"a\nb\r\nc\n",
                &["a", "b", "c"],
            ),
            ("empty lines", b"\r\n\r\n", &["", ""]),
            ("no end, no line", b"a\r\nb", &["a"]),
        ];
        for (what, octets, expected) in cases {
            assert_eq!(lines(octets, 10), expected, "{what}");
        }
    }

    #[test]
    fn any_line_end_is_taken_from_the_start() {
        let mut buffer = LineBuffer::any_line_end();
        buffer.push(b"a\r\nb\nc\r\n");
        let lines = std::iter::from_fn(|| buffer.next_line(10)).collect::<Vec<_>>();
        let whole = |text: &str| Line::Whole(text.into());
        assert_eq!(lines, [whole("a"), whole("b"), whole("c")]);
    }

    #[test]
    fn a_long_line_is_dropped_and_the_next_one_is_in_step() {
        let cases: [(&str, &[u8], &[&str]); 4] = [
            ("at the limit", b"abcd\r\nx\r\n", &["abcd", "x"]),
            ("one over", b"abcde\r\nx\r\n", &["<too long>", "x"]),
            (
                "far over",
                b"abcdefghijklmnop\r\nx\r\n",
                &["<too long>", "x"],
            ),
            (
                "far over, LF",
                b"a\nabcdefghijklmnop\nx\n",
                &["a", "<too long>", "x"],
            ),
        ];
        for (what, octets, expected) in cases {
            assert_eq!(lines(octets, 4), expected, "{what}");
        }
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut buffer = LineBuffer::default();
        for _ in 0..1000 {
            buffer.push(&[b'x'; 4096]);
            assert_eq!(buffer.next_line(100), None);
            assert!(buffer.rest().len() <= 102);
        }
    }

    #[test]
    fn a_handshake_stands_where_a_line_begins() {
        let mut input = LineBuffer::default();
        input.push(&[22]);
        assert!(!input.is_at_handshake());
        input.push(&[3, 1]);
        assert!(input.is_at_handshake());
        let mut input = LineBuffer::default();
        input.push(b"longer than this");
        assert_eq!(input.next_line(8), None);
        input.push(&[22, 3, 1]);
        assert!(!input.is_at_handshake(), "in the middle of a line");
    }
}
