//! Every short sequence of CR, LF, full stop and a letter, put into the text of a message.
//!
//! What must come of each is computed from the whole stream by [`Reading`], which shares nothing
//! with the server: RFC 5321 §4.1.1.4 (only `CRLF . CRLF` ends the text, and the CRLF of DATA
//! counts), §2.3.8 (nothing else ends a line), §4.5.2 (transparency), and this server's own rule
//! that a text with a bare CR or LF is refused at its true end. A session whose first line ends in
//! LF is a person at netcat: LF and CRLF end its lines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minismtp::smtp::server::{Answer, Question, Session, Settings};
use minismtp::wire::{Channel, Machine as _, Step};

/// What the sequences are made of.
const ALPHABET: &[u8] = b"\r\n.a";
/// What the longest ones are made of.
const SHORT_ALPHABET: &[u8] = b"\r\n.";

/// Where a sequence is put: what stands before it and behind it, after DATA and its line end.
const PLACES: [(&str, &str, &str); 3] = [
    (
        "before the true end",
        "one",
        "\r\n.\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<fourouzan@b>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n",
    ),
    (
        "in the middle",
        "one",
        "MAIL FROM:<evil@b>\r\nRCPT TO:<fourouzan@b>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n",
    ),
    (
        "at the very beginning",
        "",
        "\r\nMAIL FROM:<evil@b>\r\nRCPT TO:<fourouzan@b>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n",
    ),
];

/// What a session came to: what was asked of the owner, in order, and the replies' codes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    asked: Vec<String>,
    codes: Vec<u16>,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Crlf,
    /// LF, or CRLF.
    Lf,
}

/// The reference: reads a stream from the first octet after DATA and its line end.
struct Reading<'a> {
    rest: &'a [u8],
    line_end: LineEnd,
    outcome: Outcome,
}

impl<'a> Reading<'a> {
    fn of(stream: &'a [u8], line_end: LineEnd) -> Outcome {
        let outcome = Outcome::default();
        let mut reading = Self {
            rest: stream,
            line_end,
            outcome,
        };
        reading.text();
        let (mut has_sender, mut has_recipient) = (false, false);
        while let Some(line) = reading.line() {
            let code = match line {
                b"MAIL FROM:<evil@b>" => {
                    reading.ask("sender <evil@b>".to_owned());
                    has_sender = true;
                    250
                }
                b"RCPT TO:<fourouzan@b>" if has_sender => {
                    reading.ask("recipient <fourouzan@b>".to_owned());
                    has_recipient = true;
                    250
                }
                b"DATA" if has_recipient => {
                    reading.outcome.codes.push(354);
                    reading.text();
                    (has_sender, has_recipient) = (false, false);
                    continue;
                }
                b"RCPT TO:<fourouzan@b>" | b"DATA" => 503,
                b"QUIT" => {
                    reading.outcome.codes.push(221);
                    break;
                }
                _ => 500,
            };
            reading.outcome.codes.push(code);
        }
        reading.outcome
    }

    fn ask(&mut self, what: String) {
        self.outcome.asked.push(what);
    }

    /// Up to the next line end, which is taken too.
    fn line(&mut self) -> Option<&'a [u8]> {
        let end: &[u8] = match self.line_end {
            LineEnd::Crlf => b"\r\n",
            LineEnd::Lf => b"\n",
        };
        let at = self
            .rest
            .windows(end.len())
            .position(|octets| octets == end)?;
        let line = &self.rest[..at];
        self.rest = &self.rest[at + end.len()..];
        Some(match self.line_end {
            LineEnd::Crlf => line,
            LineEnd::Lf => line.strip_suffix(b"\r").unwrap_or(line),
        })
    }

    /// Up to the end of the text, which may not be there.
    fn text(&mut self) {
        let (mut text, mut is_good) = (Vec::new(), true);
        while let Some(line) = self.line() {
            if line == b"." {
                if is_good {
                    self.ask(format!("message {}", String::from_utf8(text).unwrap()));
                    self.outcome.codes.push(250);
                } else {
                    self.outcome.codes.push(550);
                }
                return;
            }
            is_good &= !line.iter().any(|octet| b"\r\n".contains(octet));
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            text.push(b'\n');
        }
    }
}

/// A session up to the reply to DATA, with an owner who takes all.
struct Server {
    session: Session,
    now: Instant,
    outcome: Outcome,
    said: Vec<u8>,
    text: Vec<u8>,
}

impl Server {
    fn begin(settings: &Arc<Settings>, now: Instant, line_end: &str) -> Self {
        let mut server = Self {
            session: Session::new(Arc::clone(settings), Channel::Private, now),
            now,
            outcome: Outcome::default(),
            said: Vec::new(),
            text: Vec::new(),
        };
        let dialog = ["EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<andrew@b>", "DATA"];
        server.hear((dialog.join(line_end) + line_end).as_bytes());
        let outcome = server.take_outcome();
        assert_eq!(outcome.codes, [220, 250, 250, 250, 354]);
        server
    }

    fn hear(&mut self, octets: &[u8]) {
        self.session.receive(self.now, octets);
        loop {
            match self.session.step(self.now) {
                Step::Send(octets) => self.said.extend_from_slice(&octets),
                Step::Ask(question) => {
                    let answer = self.answer(question);
                    self.session.answer(self.now, answer);
                }
                Step::Wait(_) | Step::Close | Step::StartTls => return,
            }
            while self.session.event().is_some() {}
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        let asked = &mut self.outcome.asked;
        match question {
            Question::Sender(path, _) => asked.push(format!("sender {path}")),
            Question::Recipient(path) => {
                asked.push(format!("recipient {path}"));
                return Answer::Recipient("Andrew".parse().unwrap());
            }
            Question::Text(piece) => self.text.extend_from_slice(&piece),
            Question::Deliver(_) => {
                let text = std::mem::take(&mut self.text);
                asked.push(format!("message {}", String::from_utf8(text).unwrap()));
                return Answer::Delivered("1".to_owned());
            }
            Question::Discard => self.text.clear(),
            other => asked.push(format!("{other:?}")),
        }
        Answer::Accept
    }

    fn take_outcome(&mut self) -> Outcome {
        let said = String::from_utf8(std::mem::take(&mut self.said)).unwrap();
        let last_lines = said.lines().filter(|line| line.as_bytes()[3] == b' ');
        let codes = last_lines.map(|line| line[..3].parse().unwrap()).collect();
        Outcome {
            codes,
            ..std::mem::take(&mut self.outcome)
        }
    }
}

/// Plays sequences, each in each place, whole and octet by octet. Gives how many streams held a
/// message that is refused, else one message, else two: the tests know them.
fn play(sequences: impl Iterator<Item = Vec<u8>>, line_end: LineEnd) -> [usize; 3] {
    let settings = Arc::new(Settings {
        hostname: "mx.example".to_owned(),
        message_octets_max: 1_000_000,
        recipients_max: 100,
        timeout: Duration::from_secs(300),
        login_required: false,
        has_tls: false,
    });
    let first_end = match line_end {
        LineEnd::Crlf => "\r\n",
        LineEnd::Lf => "\n",
    };
    let now = Instant::now();
    let mut counts = [0; 3];
    for sequence in sequences {
        for (place, before, after) in PLACES {
            let stream = [before.as_bytes(), &sequence, after.as_bytes()].concat();
            let expected = Reading::of(&stream, line_end);
            for size in [stream.len(), 1] {
                let mut server = Server::begin(&settings, now, first_end);
                stream.chunks(size).for_each(|octets| server.hear(octets));
                assert_eq!(
                    server.take_outcome(),
                    expected,
                    "{} {place}, {size} octets at a time",
                    sequence.escape_ascii()
                );
            }
            let messages = expected
                .asked
                .iter()
                .filter(|asked| asked.starts_with("message"));
            let is_refused = expected.codes.contains(&550);
            counts[if is_refused { 0 } else { messages.count() }] += 1;
        }
    }
    counts
}

/// All of this length.
fn sequences(alphabet: &'static [u8], length: u32) -> impl Iterator<Item = Vec<u8>> {
    let count = alphabet.len().pow(length);
    (0..count).map(move |number| {
        let mut rest = number;
        let mut digit = || {
            let digit = rest % alphabet.len();
            rest /= alphabet.len();
            alphabet[digit]
        };
        (0..length).map(|_| digit()).collect()
    })
}

#[test]
fn no_sequence_ends_a_message_but_the_one() {
    let short = (0..=6).flat_map(|length| sequences(ALPHABET, length));
    let counts = play(short.chain(sequences(SHORT_ALPHABET, 7)), LineEnd::Crlf);
    assert_eq!(counts, [21845, 568, 531]);
}

#[test]
fn at_netcat_no_sequence_has_two_readings() {
    let short = (0..=5).flat_map(|length| sequences(ALPHABET, length));
    let counts = play(short, LineEnd::Lf);
    assert_eq!(counts, [2467, 860, 768]);
}
