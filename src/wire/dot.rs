//! Text that ends with a lone full stop: the DATA of SMTP (RFC 5321 §4.5.2), the multi-line
//! answers of POP3 (RFC 1939 §3) and the records of a mailbox file are all framed so.
//!
//! Inside the program text has LF line ends; the wire has CRLF. A line that begins with a full
//! stop gets one more in front on the way out and loses it on the way in.

use memchr::{memchr, memchr2, memmem};

use super::line::LineEnd;

/// Takes dot-stuffed text in, up to its end.
///
/// Only `CRLF . CRLF` ends it on a [`LineEnd::Crlf`] connection. A bare CR or LF is noted, never
/// taken for the end of a line: servers that did so let a stranger smuggle mail past a relay
/// (CVE-2023-51764, -51765, -51766).
#[derive(Debug)]
pub struct Decoder {
    line_end: LineEnd,
    /// Full stops are text: the length says where the text ends.
    is_counted: bool,
    state: State,
    octets: u64,
    bare: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    Middle,
    /// After a CR that may end the line.
    Cr,
    /// After a full stop at the start of a line.
    Dot,
    DotCr,
    End,
}

impl Decoder {
    /// Starts at the beginning of a line.
    #[must_use]
    pub fn new(line_end: LineEnd) -> Self {
        Self {
            line_end,
            is_counted: false,
            state: State::LineStart,
            octets: 0,
            bare: false,
        }
    }

    /// For text whose length was told (BDAT, RFC 3030): no full stop is stuffed, none ends it.
    /// [`Decoder::finish`] does.
    #[must_use]
    pub fn counted(line_end: LineEnd) -> Self {
        Self {
            is_counted: true,
            ..Self::new(line_end)
        }
    }

    /// Ends text whose length was told; a last line that is open gets its end.
    pub fn finish(&mut self, text: &mut Vec<u8>) {
        match self.state {
            State::Middle => self.end_line(text),
            State::Cr => {
                self.bare_cr(text);
                self.end_line(text);
            }
            State::LineStart | State::Dot | State::DotCr | State::End => {}
        }
        self.state = State::End;
    }

    /// Takes octets and appends the text they hold, LF line ends, to `text`. Gives how many
    /// octets were used: all, unless the end is among them.
    pub fn decode(&mut self, octets: &[u8], text: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < octets.len() && self.state != State::End {
            at += match self.state {
                State::LineStart => match self.whole_lines(&octets[at..], text) {
                    0 => self.run(&octets[at..], text),
                    used => used,
                },
                State::Middle => self.run(&octets[at..], text),
                _ => self.single(octets[at], text),
            };
        }
        at
    }

    /// Whether the end has come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state == State::End
    }

    /// The size of the text so far, in octets with CRLF line ends, as SIZE counts it
    /// (RFC 1870 §5).
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether there was a bare CR or LF. The text is then not what was sent.
    #[must_use]
    pub fn has_bare_line_end(&self) -> bool {
        self.bare
    }

    /// Takes lines that are here in full and end in CRLF, which is nearly all there is. What
    /// follows them, be it the end, a piece of a line or a bare CR or LF, is for the others.
    fn whole_lines(&mut self, octets: &[u8], text: &mut Vec<u8>) -> usize {
        let (mut at, mut lines) = (0, 0);
        let before = text.len();
        loop {
            let rest = &octets[at..];
            let stuffed = usize::from(!self.is_counted && rest.starts_with(b"."));
            match memchr2(b'\r', b'\n', rest) {
                Some(end) if rest[end..].starts_with(b"\r\n") && (stuffed, end) != (1, 1) => {
                    put_line(&rest[stuffed..], end - stuffed, text);
                    at += end + 2;
                    lines += 1;
                }
                _ => break,
            }
        }
        self.octets += (text.len() - before) as u64 + lines;
        at
    }

    /// Takes text up to the next CR or LF at once.
    fn run(&mut self, octets: &[u8], text: &mut Vec<u8>) -> usize {
        if self.state == State::LineStart && octets[0] == b'.' && !self.is_counted {
            self.state = State::Dot;
            return 1;
        }
        let end = memchr2(b'\r', b'\n', octets).unwrap_or(octets.len());
        self.put(&octets[..end], text);
        if end > 0 {
            self.state = State::Middle;
        }
        match octets.get(end) {
            Some(b'\r') => self.state = State::Cr,
            Some(_) => self.line_feed(text),
            None => return end,
        }
        end + 1
    }

    fn single(&mut self, octet: u8, text: &mut Vec<u8>) -> usize {
        match (self.state, octet) {
            (State::Cr, b'\n') => self.end_line(text),
            (State::Cr, _) => return self.bare_cr(text),
            (State::Dot, b'\r') => self.state = State::DotCr,
            (State::Dot, b'\n') if self.line_end == LineEnd::Any => self.state = State::End,
            (State::Dot, _) => {
                // The stuffed full stop is gone; what follows it is text, full stop included.
                self.state = State::Middle;
                if octet == b'.' {
                    self.put(b".", text);
                    return 1;
                }
                return 0;
            }
            (State::DotCr, b'\n') => self.state = State::End,
            (State::DotCr, _) => return self.bare_cr(text),
            (State::LineStart | State::Middle | State::End, _) => {}
        }
        1
    }

    /// A LF that no CR precedes.
    fn line_feed(&mut self, text: &mut Vec<u8>) {
        match self.line_end {
            LineEnd::Any => self.end_line(text),
            LineEnd::Crlf => {
                self.bare = true;
                self.put(b"\n", text);
                self.state = State::Middle;
            }
        }
    }

    /// A CR that no LF follows: it is text, and the octet after it is looked at again.
    fn bare_cr(&mut self, text: &mut Vec<u8>) -> usize {
        self.bare = true;
        self.put(b"\r", text);
        self.state = State::Middle;
        0
    }

    fn end_line(&mut self, text: &mut Vec<u8>) {
        text.push(b'\n');
        self.octets += 2;
        self.state = State::LineStart;
    }

    fn put(&mut self, octets: &[u8], text: &mut Vec<u8>) {
        text.extend_from_slice(octets);
        self.octets += octets.len() as u64;
    }
}

/// Appends the first `end` octets and a LF. There are more octets than that.
fn put_line(octets: &[u8], end: usize, text: &mut Vec<u8>) {
    // Copying more than there is to be, and cutting it off again, takes less than a call of
    // `memcpy` for each line.
    const PIECE_OCTETS: usize = 64;
    let last = text.len() + end;
    match octets.first_chunk::<PIECE_OCTETS>() {
        Some(piece) if end < PIECE_OCTETS => {
            text.extend_from_slice(piece);
            text.truncate(last + 1);
        }
        _ => text.extend_from_slice(&octets[..=end]),
    }
    text[last] = b'\n';
}

/// Gives text out, dot-stuffed.
#[derive(Clone, Debug)]
pub struct Encoder {
    line_end: &'static [u8],
    at_line_start: bool,
}

impl Encoder {
    /// For the wire: lines end with CRLF.
    #[must_use]
    pub fn wire() -> Self {
        Self {
            line_end: b"\r\n",
            at_line_start: true,
        }
    }

    /// For a mailbox file: lines end with LF.
    #[must_use]
    pub fn file() -> Self {
        Self {
            line_end: b"\n",
            at_line_start: true,
        }
    }

    /// Appends `text`, whose lines end with LF, to `out`.
    pub fn encode(&mut self, text: &[u8], out: &mut Vec<u8>) {
        out.reserve(text.len());
        if self.line_end == b"\n" {
            return self.double_dots(text, out);
        }
        let mut rest = text;
        while !rest.is_empty() {
            if self.at_line_start && rest[0] == b'.' {
                out.push(b'.');
            }
            let Some(end) = memchr(b'\n', rest) else {
                out.extend_from_slice(rest);
                self.at_line_start = false;
                return;
            };
            out.extend_from_slice(&rest[..end]);
            out.extend_from_slice(self.line_end);
            self.at_line_start = true;
            rest = &rest[end + 1..];
        }
    }

    /// Takes text that may go out as it is, as if it were encoded; whether it may, where lines end with
    /// LF.
    pub fn passes(&mut self, text: &[u8]) -> bool {
        let begins_with_dot = self.at_line_start && text.starts_with(b".");
        let passes = !begins_with_dot && memmem::find(text, b"\n.").is_none();
        if passes && let Some(last) = text.last() {
            self.at_line_start = *last == b'\n';
        }
        passes
    }

    /// Encodes where lines stay as they are.
    fn double_dots(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let Some(last) = text.last() else {
            return;
        };
        if self.at_line_start && text[0] == b'.' {
            out.push(b'.');
        }
        let mut done = 0;
        for at in memmem::find_iter(text, b"\n.") {
            out.extend_from_slice(&text[done..=at]);
            out.push(b'.');
            done = at + 1;
        }
        out.extend_from_slice(&text[done..]);
        self.at_line_start = *last == b'\n';
    }

    /// Ends the last line if it is open, and the text.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.end_line(out);
        out.push(b'.');
        out.extend_from_slice(self.line_end);
    }

    /// Ends the last line if it is open.
    pub fn end_line(&mut self, out: &mut Vec<u8>) {
        if !self.at_line_start {
            out.extend_from_slice(self.line_end);
            self.at_line_start = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Decoded {
        text: String,
        rest: String,
        bare: bool,
        octets: u64,
    }

    /// Decodes whole and one octet at a time; both must agree.
    fn decode(line_end: LineEnd, octets: &[u8]) -> Option<Decoded> {
        let play = |size: usize| {
            let mut decoder = Decoder::new(line_end);
            let (mut text, mut used) = (Vec::new(), 0);
            for chunk in octets.chunks(size) {
                used += decoder.decode(chunk, &mut text);
                if decoder.is_finished() {
                    return Some((text, used, decoder.has_bare_line_end(), decoder.octets()));
                }
            }
            None
        };
        let whole = play(octets.len().max(1));
        assert_eq!(whole, play(1), "{octets:?}");
        whole.map(|(text, used, bare, octets_counted)| Decoded {
            text: String::from_utf8(text).unwrap(),
            rest: String::from_utf8(octets[used..].to_vec()).unwrap(),
            bare,
            octets: octets_counted,
        })
    }

    #[test]
    fn stuffed_lines_lose_one_full_stop() {
        let cases: [(&str, &[u8], &str); 7] = [
            ("empty", b".\r\n", ""),
            ("one line", b"a\r\n.\r\n", "a\n"),
            ("lone full stop", b"..\r\n.\r\n", ".\n"),
            ("more full stops", b"...a\r\n.\r\n", "..a\n"),
            ("unstuffed full stop", b".b\r\n.\r\n", "b\n"),
            (
                "only full stops",
                b"..\r\n...\r\n....\r\n.\r\n",
                ".\n..\n...\n",
            ),
            ("empty lines", b"\r\n\r\n.\r\n", "\n\n"),
        ];
        for (what, octets, text) in cases {
            let decoded = decode(LineEnd::Crlf, octets).expect(what);
            assert_eq!(
                (decoded.text.as_str(), decoded.bare),
                (text, false),
                "{what}"
            );
            assert_eq!(
                decoded.octets,
                text.replace('\n', "\r\n").len() as u64,
                "{what}"
            );
        }
        assert_eq!(
            decode(LineEnd::Crlf, b"a\r\n.\r\nQUIT\r\n").unwrap().rest,
            "QUIT\r\n"
        );
    }

    /// PROTOCOL: the sequences that some server somewhere took for the end.
    #[test]
    fn nothing_but_crlf_full_stop_crlf_ends_strict_text() {
        for sequence in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\r\n.\r\r\n",
            "\r\n\0.\r\n",
            "\n\n.\r\n",
            "\r\n.\r.\r\n",
        ] {
            let smuggled = format!("text{sequence}MAIL FROM:<a@b>\r\n.\r\n");
            let decoded = decode(LineEnd::Crlf, smuggled.as_bytes()).expect(sequence);
            assert_eq!(decoded.rest, "", "{sequence:?}");
            assert!(decoded.text.contains("MAIL FROM"), "{sequence:?}");
            assert_eq!(decoded.bare, !sequence.contains('\0'), "{sequence:?}");
        }
    }

    #[test]
    fn a_person_at_netcat_may_end_lines_either_way() {
        for octets in ["a\n..\n.\n", "a\r\n..\n.\r\n", "a\n..\r\n.\n"] {
            let decoded = decode(LineEnd::Any, octets.as_bytes()).expect(octets);
            assert_eq!(
                (decoded.text.as_str(), decoded.bare),
                ("a\n.\n", false),
                "{octets:?}"
            );
        }
        assert!(decode(LineEnd::Any, b"a\rb\n.\n").unwrap().bare);
    }

    #[test]
    fn counted_text_has_no_full_stops_to_undo_and_ends_when_told() {
        let cases: [(&str, LineEnd, &[u8], &str, bool); 9] = [
            ("empty", LineEnd::Crlf, b"", "", false),
            ("lines", LineEnd::Crlf, b"a\r\n\r\n", "a\n\n", false),
            (
                "full stops",
                LineEnd::Crlf,
                b".\r\n..\r\n.a\r\n",
                ".\n..\n.a\n",
                false,
            ),
            ("open line", LineEnd::Crlf, b"a\r\nb", "a\nb\n", false),
            ("CR at the end", LineEnd::Crlf, b"a\r", "a\r\n", true),
            ("bare LF", LineEnd::Crlf, b"a\nb\r\n", "a\nb\n", true),
            ("bare CR", LineEnd::Crlf, b"a\rb\r\n", "a\rb\n", true),
            (
                "at netcat",
                LineEnd::Any,
                b"a\n.\nb\r\n",
                "a\n.\nb\n",
                false,
            ),
            ("bare CR at netcat", LineEnd::Any, b"a\r", "a\r\n", true),
        ];
        for (what, line_end, octets, expected, bare) in cases {
            for size in [octets.len().max(1), 1] {
                let mut decoder = Decoder::counted(line_end);
                let mut text = Vec::new();
                for chunk in octets.chunks(size) {
                    assert_eq!(decoder.decode(chunk, &mut text), chunk.len(), "{what}");
                    assert!(!decoder.is_finished(), "{what}");
                }
                decoder.finish(&mut text);
                assert_eq!(
                    (
                        String::from_utf8(text).unwrap().as_str(),
                        decoder.has_bare_line_end()
                    ),
                    (expected, bare),
                    "{what}"
                );
                assert!(decoder.is_finished(), "{what}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            lines in proptest::collection::vec("[.a\u{e9} ]{0,4}", 0..8),
            cut in 0_usize..20,
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            for (mut encoder, line_end) in
                [(Encoder::wire(), LineEnd::Crlf), (Encoder::file(), LineEnd::Any)]
            {
                let (head, tail) = text.as_bytes().split_at(cut.min(text.len()));
                let mut out = Vec::new();
                encoder.encode(head, &mut out);
                encoder.encode(tail, &mut out);
                encoder.finish(&mut out);
                let mut decoder = Decoder::new(line_end);
                let mut back = Vec::new();
                assert_eq!(decoder.decode(&out, &mut back), out.len());
                assert!(decoder.is_finished() && !decoder.has_bare_line_end());
                assert_eq!(String::from_utf8(back).unwrap(), text);
            }
        }
    }
}
