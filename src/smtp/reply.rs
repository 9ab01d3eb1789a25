//! Replies: three digits, an enhanced status code, text (RFC 5321 §4.2, RFC 2034, RFC 3463).
//! Every reply that the server sends has its name here.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

use crate::wire::line::printable;

use super::limits::REPLY_LINES_MAX;

/// Stands in logs for a challenge that, with the response, would help to guess a password.
pub(super) const HIDDEN: &str = "<redacted>";

/// A reply, of one line or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    /// `2.1.0`; empty where there is none. Its class is the code's first digit.
    enhanced: Cow<'static, str>,
    /// Lines separated by LF.
    text: Cow<'static, str>,
}

/// What the first digit of a reply says (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 2yz: done.
    Completed,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now; trying again may help.
    Transient,
    /// 5yz: never.
    Permanent,
}

/// The replies that are always the same.
impl Reply {
    /// [`super::limits::BARE_LF_TIMEOUT`].
    pub const LINE_NOT_ENDED: Self = Self::fixed(
        421,
        "4.5.2",
        "Lines end with CRLF here, as the first one did, closing",
    );
    /// The session has been idle too long.
    pub const TIMED_OUT: Self = Self::fixed(421, "4.4.2", "Idle for too long, closing");
    /// [`super::limits::TEXT_OCTETS_PER_SECOND_MIN`].
    pub const TOO_SLOW: Self = Self::fixed(421, "4.4.2", "Message comes too slowly, closing");
    /// [`super::limits::SESSION_TIME_MAX`].
    pub const TOO_LONG_HERE: Self = Self::fixed(421, "4.4.2", "Session lasts too long, closing");
    /// The server stops.
    pub const STOPPING: Self = Self::fixed(421, "4.3.2", "Service is stopping, try again later");
    /// As many connections as there may be.
    pub const TOO_MANY_CONNECTIONS: Self =
        Self::fixed(421, "4.3.2", "Too many connections, try again later");
    /// As many connections from one address as there may be.
    pub const TOO_MANY_FROM_ADDRESS: Self = Self::fixed(
        421,
        "4.7.0",
        "Too many connections from your address, try again later",
    );
    /// [`super::limits::COMMANDS_MAX`].
    pub const TOO_MANY_COMMANDS: Self =
        Self::fixed(421, "4.7.0", "Too many commands and no message, closing");
    /// [`super::limits::REFUSED_RECIPIENTS_MAX`].
    pub const TOO_MANY_REFUSED: Self =
        Self::fixed(421, "4.7.0", "Too many refused recipients, closing");
    /// [`super::limits::ERRORS_MAX`].
    pub const TOO_MANY_ERRORS: Self = Self::fixed(421, "4.7.0", "Too many errors, closing");
    /// [`super::limits::LOGIN_FAILURES_MAX`].
    pub const TOO_MANY_LOGINS: Self = Self::fixed(421, "4.7.0", "Too many failed logins, closing");
    /// A browser or a proxy was talked into connecting here.
    pub const NOT_SMTP: Self = Self::fixed(421, "4.7.0", "This is an SMTP server, closing");
    /// A client begins TLS without being asked, and would wait for an answer that never comes.
    pub const TLS_IN_CLEAR: Self = Self::fixed(
        421,
        "4.7.0",
        "TLS does not come first at this port, closing",
    );
    /// Far over the size limit.
    pub const ENDLESS: Self = Self::fixed(421, "4.7.0", "Message never ends, closing");

    /// RSET, NOOP.
    pub const OK: Self = Self::fixed(250, "2.0.0", "Ok");
    /// STARTTLS. The next octets are the handshake's.
    pub const START_TLS: Self = Self::fixed(220, "2.0.0", "Ready to start TLS");
    /// MAIL.
    pub const SENDER_OK: Self = Self::fixed(250, "2.1.0", "Ok");
    /// RCPT.
    pub const RECIPIENT_OK: Self = Self::fixed(250, "2.1.5", "Ok");
    /// VRFY tells nobody who lives here (RFC 5321 §7.3).
    pub const CANNOT_VERIFY: Self = Self::fixed(
        252,
        "2.5.0",
        "Cannot VRFY user, but will accept message and attempt delivery",
    );
    /// DATA.
    pub const START_DATA: Self = Self::fixed(354, "", "End data with <CR><LF>.<CR><LF>");
    /// A chunk of BDAT is taken, and more will come.
    pub const CHUNK_OK: Self = Self::fixed(250, "2.0.0", "Ok, go on with BDAT");
    /// AUTH succeeded.
    pub const AUTHENTICATED: Self = Self::fixed(235, "2.7.0", "Authentication successful");

    /// No such verb.
    pub const UNRECOGNISED: Self = Self::fixed(
        500,
        "5.5.2",
        "Command not recognised, HELP lists what there is",
    );
    /// A control character, a bare CR or LF, or octets that are not UTF-8.
    pub const BAD_CHARACTER: Self = Self::fixed(
        500,
        "5.5.2",
        "Syntax error, a character that no command may hold",
    );
    /// [`super::limits::COMMAND_LINE_OCTETS_MAX`].
    pub const LINE_TOO_LONG: Self = Self::fixed(500, "5.5.2", "Line too long");
    /// [`super::limits::AUTH_LINE_OCTETS_MAX`].
    pub const AUTH_LINE_TOO_LONG: Self = Self::fixed(500, "5.5.6", "Authentication line too long");
    /// EHLO without a name; replies to EHLO carry no enhanced code (RFC 2034 §4).
    pub const EHLO_SYNTAX: Self = Self::fixed(501, "", "Syntax: EHLO hostname");
    /// HELO without a name.
    pub const HELO_SYNTAX: Self = Self::fixed(501, "", "Syntax: HELO hostname");
    /// LHLO without a name.
    pub const LHLO_SYNTAX: Self = Self::fixed(501, "", "Syntax: LHLO hostname");
    /// MAIL with a wrong argument.
    pub const MAIL_SYNTAX: Self = Self::fixed(501, "5.5.4", "Syntax: MAIL FROM:<address>");
    /// RCPT with a wrong argument.
    pub const RCPT_SYNTAX: Self = Self::fixed(501, "5.5.4", "Syntax: RCPT TO:<address>");
    /// VRFY without an argument.
    pub const VRFY_SYNTAX: Self = Self::fixed(501, "5.5.4", "Syntax: VRFY address");
    /// BDAT without a number of octets, or with anything but LAST behind it.
    pub const BDAT_SYNTAX: Self = Self::fixed(501, "5.5.4", "Syntax: BDAT octets [LAST]");
    /// After [`Self::BDAT_SYNTAX`]: what follows may be text or commands, and nobody knows which.
    pub const LOST_COUNT: Self =
        Self::fixed(421, "4.7.0", "No telling where that chunk ends, closing");
    /// AUTH without a mechanism, or with more than an initial response.
    pub const AUTH_SYNTAX: Self =
        Self::fixed(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]");
    /// DATA, RSET, QUIT or STARTTLS with an argument.
    pub const NO_ARGUMENT: Self = Self::fixed(501, "5.5.4", "Syntax: no argument allowed");
    /// A parameter of MAIL or RCPT with a bad value, twice, or not of the form `NAME=value`.
    pub const BAD_PARAMETER: Self = Self::fixed(501, "5.5.4", "Bad or repeated parameter");
    /// A parameter that was not offered.
    pub const UNKNOWN_PARAMETER: Self = Self::fixed(555, "5.5.4", "Parameter not recognised");
    /// The client cancelled AUTH.
    pub const AUTH_CANCELLED: Self = Self::fixed(501, "5.7.0", "Authentication cancelled");
    /// What should be base64 is not.
    pub const NOT_BASE64: Self = Self::fixed(501, "5.5.2", "Not base64, authentication ended");
    /// A command of SMTP that this server does not have.
    pub const NOT_IMPLEMENTED: Self = Self::fixed(502, "5.5.1", "Command not implemented");
    /// A mechanism that this server does not have.
    pub const NO_SUCH_MECHANISM: Self = Self::fixed(
        504,
        "5.5.4",
        "Mechanism not supported, EHLO lists those that are",
    );

    /// Before EHLO.
    pub const HELLO_FIRST: Self = Self::fixed(503, "5.5.1", "Send EHLO or HELO first");
    /// The same over LMTP (RFC 2033 §4.1).
    pub const LHLO_FIRST: Self = Self::fixed(503, "5.5.1", "Send LHLO first");
    /// MAIL within a transaction.
    pub const NESTED_MAIL: Self =
        Self::fixed(503, "5.5.1", "MAIL was given already, RSET begins anew");
    /// RCPT or DATA before MAIL.
    pub const MAIL_FIRST: Self = Self::fixed(503, "5.5.1", "Send MAIL first");
    /// DATA before RCPT.
    pub const RCPT_FIRST: Self = Self::fixed(503, "5.5.1", "Send RCPT first");
    /// DATA when every RCPT was refused.
    pub const NO_VALID_RECIPIENTS: Self = Self::fixed(554, "5.5.1", "No valid recipients");
    /// DATA when every RCPT was refused, and one not for good.
    pub const NO_RECIPIENTS_NOW: Self =
        Self::fixed(451, "4.5.1", "No recipients for now, try again later");
    /// MAIL, RCPT, DATA or AUTH among the chunks of a message.
    pub const BDAT_GOES_ON: Self = Self::fixed(
        503,
        "5.5.1",
        "Send the rest of the message with BDAT, or RSET",
    );
    /// After a chunk that was refused (RFC 3030 §2).
    pub const RSET_FIRST: Self = Self::fixed(503, "5.5.1", "The message was refused, send RSET");
    /// AUTH after success.
    pub const ALREADY_AUTHENTICATED: Self = Self::fixed(503, "5.5.1", "Already authenticated");
    /// AUTH within a transaction (RFC 4954 §4).
    pub const AUTH_IN_TRANSACTION: Self = Self::fixed(
        503,
        "5.5.1",
        "AUTH is not allowed within a mail transaction",
    );

    /// STARTTLS without a certificate.
    pub const NO_TLS: Self = Self::fixed(502, "5.5.1", "TLS is not available");
    /// STARTTLS under TLS.
    pub const ALREADY_SECURE: Self = Self::fixed(503, "5.5.1", "TLS is active already");
    /// STARTTLS within a transaction.
    pub const TLS_IN_TRANSACTION: Self = Self::fixed(
        503,
        "5.5.1",
        "STARTTLS is not allowed within a mail transaction",
    );
    /// Something came right behind STARTTLS. It would be taken for said under TLS, whoever said it.
    pub const PIPELINED_TLS: Self = Self::fixed(
        503,
        "5.5.1",
        "Nothing may follow STARTTLS before its reply, closing",
    );
    /// AUTH on a connection that others may read.
    pub const NEEDS_TLS: Self = Self::fixed(
        538,
        "5.7.11",
        "Encryption required to log in, STARTTLS first",
    );
    /// The same where TLS cannot begin.
    pub const NO_LOGIN_WITHOUT_TLS: Self = Self::fixed(
        538,
        "5.7.11",
        "Logins from other machines need TLS, and there is none here",
    );

    /// Unknown user and wrong password alike.
    pub const BAD_CREDENTIALS: Self =
        Self::fixed(535, "5.7.8", "Authentication credentials invalid");
    /// Too many logins wait, from one address or in all.
    pub const LOGINS_WAIT: Self = Self::fixed(
        454,
        "4.7.0",
        "Too many logins at the moment, try again later",
    );
    /// The credential store cannot be read.
    pub const LOGIN_UNAVAILABLE: Self = Self::fixed(
        454,
        "4.7.0",
        "Temporary authentication failure, try again later",
    );
    /// A login is demanded of everybody.
    pub const LOGIN_REQUIRED: Self = Self::fixed(530, "5.7.0", "Authentication required");
    /// A stranger uses a local address as sender.
    pub const SENDER_NEEDS_LOGIN: Self =
        Self::fixed(530, "5.7.0", "Log in to send as a local user");
    /// The sender is not the one who logged in.
    pub const NOT_YOUR_ADDRESS: Self = Self::fixed(
        553,
        "5.7.1",
        "Sender is not the address of the user who logged in",
    );
    /// A sender that cannot be parsed (RFC 5248).
    pub const BAD_SENDER: Self = Self::fixed(501, "5.1.7", "Bad sender address syntax");
    /// A recipient that cannot be parsed.
    pub const BAD_RECIPIENT: Self = Self::fixed(501, "5.1.3", "Bad recipient address syntax");
    /// A non-ASCII sender without SMTPUTF8 (RFC 6531 §3.5).
    pub const SENDER_NEEDS_UTF8: Self =
        Self::fixed(550, "5.6.7", "Non-ASCII address needs SMTPUTF8");
    /// A non-ASCII recipient without SMTPUTF8 (RFC 6531 §3.5).
    pub const RECIPIENT_NEEDS_UTF8: Self =
        Self::fixed(553, "5.6.7", "Non-ASCII address needs SMTPUTF8");
    /// No user of that name.
    pub const NO_SUCH_USER: Self = Self::fixed(550, "5.1.1", "No such user here");
    /// Not one of our domains.
    pub const RELAYING_DENIED: Self = Self::fixed(550, "5.7.1", "Relaying denied");
    /// More recipients than allowed (RFC 5321 §4.5.3.1.10).
    pub const TOO_MANY_RECIPIENTS: Self = Self::fixed(452, "4.5.3", "Too many recipients");
    /// More octets than allowed.
    pub const TOO_BIG: Self = Self::fixed(552, "5.3.4", "Message too big");
    /// A bare CR or LF in the text.
    pub const BARE_LINE_END: Self = Self::fixed(
        550,
        "5.6.0",
        "Bare CR or LF in message, lines end with CRLF",
    );
    /// So many Received fields that it must run in a circle (RFC 5321 §6.3).
    pub const LOOP: Self = Self::fixed(554, "5.4.6", "Too many hops, this mail runs in a circle");
    /// The disk is full.
    pub const NO_SPACE: Self = Self::fixed(452, "4.3.1", "Out of storage, try again later");
    /// Something failed here that is not the client's fault.
    pub const TRY_LATER: Self = Self::fixed(451, "4.3.0", "Local error, try again later");
}

/// The replies that name something.
impl Reply {
    /// The first words of the server.
    #[must_use]
    pub fn greeting(hostname: &str, protocol: &str) -> Self {
        Self::new(220, "", [hostname, " ", protocol, " minismtp"].concat())
    }

    /// The answer to HELO.
    #[must_use]
    pub fn helo(hostname: &str, client: &str) -> Self {
        Self::new(250, "", [hostname, " greets ", client].concat())
    }

    /// The answer to EHLO, with a keyword a line.
    #[must_use]
    pub fn ehlo(hostname: &str, client: &str, keywords: &str) -> Self {
        Self::new(
            250,
            "",
            [hostname, " greets ", client, "\n", keywords].concat(),
        )
    }

    /// The answer to HELP, with the verb that a session begins with.
    #[must_use]
    pub fn help(hello: &str) -> Self {
        Self::new(
            214,
            "2.0.0",
            format!(
                "Commands, in the order of a mail:\n\
                 {hello} hostname\n\
                 STARTTLS, where {hello} lists it\n\
                 AUTH mechanism [initial-response]\n\
                 MAIL FROM:<address>\n\
                 RCPT TO:<address>, for each recipient\n\
                 DATA, then the message and a line with only a full stop\n\
                 or BDAT octets [LAST], then so many octets of the message\n\
                 RSET, NOOP, VRFY, HELP at any time\n\
                 QUIT"
            ),
        )
    }

    /// A challenge of AUTH. An empty one still has its space (RFC 4954 §4).
    #[must_use]
    pub fn challenge(base64: String) -> Self {
        Self::new(334, "", base64)
    }

    /// The message is stored for every recipient.
    #[must_use]
    pub fn queued(id: &str) -> Self {
        Self::new(250, "2.0.0", ["Ok: queued as ", id].concat())
    }

    /// The answer to QUIT.
    #[must_use]
    pub fn goodbye(hostname: &str) -> Self {
        Self::new(221, "2.0.0", [hostname, " closing connection"].concat())
    }
}

impl Reply {
    const fn fixed(code: u16, enhanced: &'static str, text: &'static str) -> Self {
        Self {
            code,
            enhanced: Cow::Borrowed(enhanced),
            text: Cow::Borrowed(text),
        }
    }

    fn new(code: u16, enhanced: &'static str, text: String) -> Self {
        Self {
            code,
            enhanced: Cow::Borrowed(enhanced),
            text: Cow::Owned(text),
        }
    }

    /// The three digits.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, `2.1.0`; `None` where there is none.
    #[must_use]
    pub fn enhanced(&self) -> Option<&str> {
        (!self.enhanced.is_empty()).then_some(self.enhanced.as_ref())
    }

    /// The lines of the text, without codes.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// What the first digit says.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.code / 100 {
            2 => Severity::Completed,
            3 => Severity::Intermediate,
            4 => Severity::Transient,
            _ => Severity::Permanent,
        }
    }

    /// Appends the reply as it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let [hundreds, tens, ones] = [100, 10, 1].map(|unit| digit(self.code / unit));
        let mut rest = self.text.as_bytes();
        loop {
            let end = memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            let mark = if end.is_some() { b'-' } else { b' ' };
            out.extend_from_slice(&[hundreds, tens, ones, mark]);
            if !self.enhanced.is_empty() {
                out.extend_from_slice(self.enhanced.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => return,
            }
        }
    }
}

/// The last digit of a number.
fn digit(number: u16) -> u8 {
    b"0123456789"[usize::from(number % 10)]
}

impl fmt::Display for Reply {
    /// Writes the lines as on the wire, separated by LF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wire = Vec::new();
        self.encode(&mut wire);
        let text = String::from_utf8_lossy(&wire);
        f.write_str(&text.trim_end_matches("\r\n").replace("\r\n", "\n"))
    }
}

/// Puts reply lines together, on the client's side.
#[derive(Debug, Default)]
pub struct ReplyParser {
    code: Option<u16>,
    enhanced: String,
    text: String,
    lines: usize,
}

/// A line that is no reply, or no reply that goes with the lines before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an SMTP reply: `{line}`")]
pub struct MalformedReply {
    /// The line, made safe to print.
    pub line: String,
}

impl ReplyParser {
    /// Takes the next line; gives the reply when it is the last one.
    ///
    /// # Errors
    ///
    /// The line is no reply line, has another code than the lines before it, or is one of far
    /// too many.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, MalformedReply> {
        let malformed = || MalformedReply {
            line: printable(line),
        };
        let (code, is_last, text) = reply_line(line).ok_or_else(malformed)?;
        if self.code.is_some_and(|first| first != code) || self.lines >= REPLY_LINES_MAX {
            return Err(malformed());
        }
        let (enhanced, text) = split_enhanced(code, text);
        if self.lines == 0 {
            enhanced.clone_into(&mut self.enhanced);
        } else {
            self.text.push('\n');
        }
        self.code = Some(code);
        self.lines += 1;
        self.text.push_str(&printable(text));
        if !is_last {
            return Ok(None);
        }
        let whole = std::mem::take(self);
        let (enhanced, text) = (Cow::Owned(whole.enhanced), Cow::Owned(whole.text));
        Ok(Some(Reply {
            code,
            enhanced,
            text,
        }))
    }
}

// Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
// Reply-code = %x32-35 %x30-35 %x30-39
fn reply_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] = digits else {
        return None;
    };
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

/// Splits `5.1.1 text`; the class must be the code's first digit (RFC 2034 §4).
fn split_enhanced(code: u16, text: &[u8]) -> (&str, &[u8]) {
    let end = text
        .iter()
        .position(|&octet| octet == b' ')
        .unwrap_or(text.len());
    let Ok(word) = std::str::from_utf8(&text[..end]) else {
        return ("", text);
    };
    let parts: Vec<&str> = word.split('.').collect();
    let is_number = |part: &&str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit())
    };
    let fits = matches!(code / 100, 2 | 4 | 5) && parts[0] == (code / 100).to_string();
    if parts.len() == 3 && fits && parts.iter().all(is_number) {
        (word, text.get(end + 1..).unwrap_or_default())
    } else {
        ("", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_go_over_the_wire_line_by_line() {
        assert_eq!(
            encoded(&Reply::NO_SUCH_USER),
            "550 5.1.1 No such user here\r\n"
        );
        assert_eq!(encoded(&Reply::challenge(String::new())), "334 \r\n");
        assert_eq!(
            encoded(&Reply::ehlo("mx.example", "c", "SIZE 1\nHELP")),
            "250-mx.example greets c\r\n250-SIZE 1\r\n250 HELP\r\n",
        );
        assert!(
            encoded(&Reply::help("EHLO"))
                .lines()
                .all(|line| line[4..].starts_with("2.0.0 "))
        );
    }

    #[test]
    fn what_is_encoded_is_parsed() {
        for reply in [
            Reply::OK,
            Reply::help("LHLO"),
            Reply::ehlo("a", "b", "X"),
            Reply::queued("1"),
        ] {
            let mut parser = ReplyParser::default();
            let lines = encoded(&reply);
            let parsed = lines
                .lines()
                .find_map(|line| parser.line(line.as_bytes()).unwrap());
            assert_eq!(parsed, Some(reply));
        }
    }

    #[test]
    fn replies_of_others() {
        let one = |line: &str| ReplyParser::default().line(line.as_bytes());
        assert_eq!(one("250").unwrap().unwrap().code(), 250);
        assert_eq!(
            one("550 5.1.1 no").unwrap().unwrap().enhanced(),
            Some("5.1.1")
        );
        assert_eq!(one("550 4.1.1 no").unwrap().unwrap().enhanced(), None);
        assert_eq!(one("250 2.0.0").unwrap().unwrap().lines().next(), Some(""));
        assert_eq!(one("250-more").unwrap(), None);
        for bad in [
            "",
            "25",
            "600 x",
            "150 x",
            "2x0 ok",
            "250x",
            "HTTP/1.1 400 Bad Request",
        ] {
            assert!(one(bad).is_err(), "{bad:?}");
        }
        let mut parser = ReplyParser::default();
        assert_eq!(parser.line(b"250-a"), Ok(None));
        assert!(parser.line(b"251 b").is_err());
        let mut parser = ReplyParser::default();
        assert!((0..1000).any(|_| parser.line(b"250-a").is_err()));
    }
}
