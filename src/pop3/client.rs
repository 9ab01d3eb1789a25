//! The client's side: a request, its whole answer, the next request.
//!
//! A person decides what comes next, so there is no course that this engine could follow by
//! itself. Its owner asks ([`Conversation::ask`]), hands over what arrives and takes the answer in
//! [`Part`]s: a status line and, where the request calls for it, text up to a lone full stop. Text
//! comes in pieces, LF line ends, so that a message of any size needs no room.
//!
//! The verbs are Teena's; only `PASS` is of RFC 1939, `CAPA` of RFC 2449 and `STLS` of RFC 2595.

use std::fmt;

use crate::secret::Secret;
use crate::wire::dot::Decoder;
use crate::wire::line::{Line, LineBuffer, LineEnd, printable};

use super::limits::STATUS_LINE_OCTETS_MAX;

/// How much of a line that is no answer is shown, in characters.
const MALFORMED_CHARACTERS_MAX: usize = 80;

/// What a client may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `LSTU`: who the users are.
    ListUsers,
    /// `ADDU`: a new user.
    AddUser(String),
    /// `USER`: whose mailbox it is to be.
    User(String),
    /// `CAPA`: what the server can do (RFC 2449).
    Capabilities,
    /// `STLS`: TLS begins with what follows the answer (RFC 2595 §4).
    StartTls,
    /// `PASS`: the proof.
    Pass(Secret),
    /// `READM`: the current message, and on to the next.
    Read,
    /// `DELM`: removes the message last read.
    Delete,
    /// `SEND`: a message to this user will follow.
    Send(String),
    /// The message, LF line ends, its last line the one that ends it.
    Message(Vec<u8>),
    /// `DONEU`: closes the mailbox.
    Done,
    /// `QUIT`: ends the session.
    Quit,
}

impl Request {
    /// The verb; for a message, what a person calls it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::ListUsers => "LSTU",
            Self::AddUser(_) => "ADDU",
            Self::User(_) => "USER",
            Self::Capabilities => "CAPA",
            Self::StartTls => "STLS",
            Self::Pass(_) => "PASS",
            Self::Read => "READM",
            Self::Delete => "DELM",
            Self::Send(_) => "SEND",
            Self::Message(_) => "the message",
            Self::Done => "DONEU",
            Self::Quit => "QUIT",
        }
    }

    /// Whether text follows where the answer is good.
    fn has_text(&self) -> bool {
        matches!(self, Self::Read | Self::Capabilities)
    }

    fn encode(&self) -> Vec<u8> {
        let argument = match self {
            Self::AddUser(name) | Self::User(name) | Self::Send(name) => Some(name.as_bytes()),
            Self::Pass(password) => Some(password.expose()),
            Self::Message(text) => return with_crlf(text),
            _ => None,
        };
        let mut octets = self.verb().as_bytes().to_vec();
        if let Some(argument) = argument {
            octets.push(b' ');
            octets.extend_from_slice(argument);
        }
        octets.extend_from_slice(b"\r\n");
        octets
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first line.
    Status(Status),
    /// Text that follows it, LF line ends, unstuffed. Where a piece ends means nothing.
    Text(Vec<u8>),
}

/// The first line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `+OK` or `-ERR`.
    pub is_ok: bool,
    /// The line without its end.
    pub line: String,
}

impl Status {
    /// What stands behind `+OK` or `-ERR`.
    #[must_use]
    pub fn text(&self) -> &str {
        self.line.split_once(' ').map_or("", |(_, text)| text)
    }

    /// Whether this answer to `USER` says that the mailbox is open. Where there are passwords,
    /// the answer is the same for every name and says nothing of messages.
    #[must_use]
    pub fn opens_mailbox(&self) -> bool {
        let mut words = self.text().rsplit(' ');
        self.is_ok
            && matches!(words.next(), Some("messages" | "message"))
            && words
                .next()
                .is_some_and(|count| count.parse::<u64>().is_ok())
            && words.next() == Some("has")
    }

    /// The names in an answer to `LSTU`.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        let names = self.text().split_once(':').map(|(_, names)| names);
        names.unwrap_or_default().split_whitespace()
    }
}

/// What the server said is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedAnswer {
    /// The line, safe to print, cut short.
    pub line: String,
}

impl fmt::Display for MalformedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` begins with neither `+OK` nor `-ERR`", self.line)
    }
}

/// The engine.
#[derive(Debug)]
pub struct Conversation {
    input: LineBuffer,
    state: State,
}

/// What is being waited for.
#[derive(Debug)]
enum State {
    Status { has_text: bool },
    Text(Decoder),
    Answered,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Begins with a connection that was just made; the first answer is the server's greeting.
    #[must_use]
    pub fn new() -> Self {
        Self {
            input: LineBuffer::any_line_end(),
            state: State::Status { has_text: false },
        }
    }

    /// Gives the octets to send. The answer to the last request must be whole.
    pub fn ask(&mut self, request: &Request) -> Vec<u8> {
        debug_assert!(self.is_answered(), "one request at a time");
        self.state = State::Status {
            has_text: request.has_text(),
        };
        request.encode()
    }

    /// Takes octets that arrived.
    pub fn receive(&mut self, octets: &[u8]) {
        self.input.push(octets);
    }

    /// Whether more came than was asked for.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.is_answered() && !self.input.is_empty()
    }

    /// Whether the answer is whole.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered)
    }

    /// The next part of the answer; `None` until more has arrived, or if it is whole.
    ///
    /// # Errors
    ///
    /// What came is no answer; nothing that follows can be understood.
    pub fn part(&mut self) -> Result<Option<Part>, MalformedAnswer> {
        match &mut self.state {
            State::Status { has_text } => {
                let has_text = *has_text;
                let Some(line) = self.input.next_line(STATUS_LINE_OCTETS_MAX) else {
                    return Ok(None);
                };
                let status = status(line)?;
                self.state = if status.is_ok && has_text {
                    State::Text(Decoder::new(LineEnd::Any))
                } else {
                    State::Answered
                };
                Ok(Some(Part::Status(status)))
            }
            State::Text(decoder) => {
                let mut text = Vec::new();
                let used = decoder.decode(self.input.rest(), &mut text);
                let is_finished = decoder.is_finished();
                self.input.consume(used);
                if is_finished {
                    self.state = State::Answered;
                }
                Ok((!text.is_empty()).then_some(Part::Text(text)))
            }
            State::Answered => Ok(None),
        }
    }
}

fn status(line: Line) -> Result<Status, MalformedAnswer> {
    let line = match line {
        Line::Whole(line) => String::from_utf8_lossy(&line).into_owned(),
        Line::TooLong => "a line of megabytes".to_owned(),
    };
    let is_ok = match line.split(' ').next() {
        Some("+OK") => true,
        Some("-ERR") => false,
        _ => {
            let line = printable(line.as_bytes());
            let line = line.chars().take(MALFORMED_CHARACTERS_MAX).collect();
            return Err(MalformedAnswer { line });
        }
    };
    Ok(Status { is_ok, line })
}

/// Text with LF line ends as it goes over the wire. It is not dot-stuffed: `###` ends it.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        octets.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        octets.extend_from_slice(b"\r\n");
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays an answer whole and octet by octet; both must give the same. Gives the lines and
    /// what is left over.
    fn answer(request: &Request, octets: &str) -> Result<(String, String), MalformedAnswer> {
        let play = |size: usize| {
            let mut conversation = Conversation {
                state: State::Answered,
                ..Conversation::new()
            };
            conversation.ask(request);
            let mut heard = String::new();
            for chunk in octets.as_bytes().chunks(size) {
                conversation.receive(chunk);
                while let Some(part) = conversation.part()? {
                    match part {
                        Part::Status(status) => heard += &format!("{}\n", status.line),
                        Part::Text(text) => heard += &String::from_utf8(text).unwrap(),
                    }
                }
            }
            assert!(conversation.is_answered(), "{octets:?}");
            let rest = String::from_utf8(conversation.input.rest().to_vec()).unwrap();
            Ok((heard, rest))
        };
        let whole = play(octets.len());
        assert_eq!(whole, play(1), "{octets:?}");
        whole
    }

    #[test]
    fn answers_are_whole_and_no_more() {
        for (request, octets, heard, rest) in [
            (Request::Quit, "+OK bye\r\n", "+OK bye\n", ""),
            (Request::Quit, "+OK\r\n", "+OK\n", ""),
            (Request::Quit, "+OK bye\n", "+OK bye\n", ""),
            (Request::ListUsers, "-ERR no\r\n+OK", "-ERR no\n", "+OK"),
            (
                Request::Read,
                "-ERR No More Mail\r\n",
                "-ERR No More Mail\n",
                "",
            ),
            (
                Request::Read,
                "+OK 12 octets\r\nSubject: x\r\n\r\n..\r\n..a\r\n.\r\n-ERR",
                "+OK 12 octets\nSubject: x\n\n.\n.a\n",
                "-ERR",
            ),
            (Request::Read, "+OK\r\n.\r\n", "+OK\n", ""),
        ] {
            let expected = Ok((heard.to_owned(), rest.to_owned()));
            assert_eq!(answer(&request, octets), expected, "{octets:?}");
        }
    }

    #[test]
    fn other_protocols_are_recognised() {
        for line in ["220 mx ESMTP", "+ok", "OK", "", "* OK IMAP4rev1", "+OKAY"] {
            let error = answer(&Request::Quit, &format!("{line}\r\n")).unwrap_err();
            assert_eq!(error.line, line);
        }
        let error = answer(&Request::Quit, "\x1b[2J\r\n").unwrap_err();
        assert_eq!(error.line, "?[2J");
    }

    #[test]
    fn requests_are_lines() {
        for (request, expected) in [
            (Request::ListUsers, "LSTU\r\n"),
            (Request::AddUser("a".into()), "ADDU a\r\n"),
            (Request::User("a".into()), "USER a\r\n"),
            (Request::Pass(Secret::new(" p w ")), "PASS  p w \r\n"),
            (Request::Send("b".into()), "SEND b\r\n"),
            (
                Request::Message(b".\n..a\n###\n".to_vec()),
                ".\r\n..a\r\n###\r\n",
            ),
            (Request::Done, "DONEU\r\n"),
        ] {
            let mut conversation = Conversation::new();
            conversation.state = State::Answered;
            let octets = conversation.ask(&request);
            assert_eq!(String::from_utf8(octets).unwrap(), expected);
        }
    }

    #[test]
    fn a_mailbox_is_open_when_its_messages_are_counted() {
        for (line, expected) in [
            ("+OK Andrew has 0 messages", true),
            ("+OK Andrew has 1 message", true),
            ("+OK Andrew has 12 messages", true),
            ("+OK", false),
            ("+OK send PASS", false),
            ("+OK Andrew has many messages", false),
            ("-ERR Andrew has 2 messages", false),
        ] {
            let status = status(Line::Whole(line.into())).unwrap();
            assert_eq!(status.opens_mailbox(), expected, "{line}");
        }
    }

    #[test]
    fn users_are_named_behind_their_number() {
        for (line, expected) in [
            (
                "+OK 2 users: Andrew Stallings",
                &["Andrew", "Stallings"][..],
            ),
            ("+OK 0 users:", &[]),
            ("-ERR log in first", &[]),
        ] {
            let status = status(Line::Whole(line.into())).unwrap();
            assert_eq!(status.users().collect::<Vec<_>>(), expected, "{line}");
        }
    }
}
