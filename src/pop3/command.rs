//! Commands: POP3's (RFC 1939, 2449, 5034, 6856) and the lab's.

use std::fmt;

use crate::secret::Secret;
use crate::user::UserName;

use super::reply::Reply;

/// A command with its arguments. Its `Display` is for logs: it hides passwords and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// ADDU: adds a user.
    Addu(UserName),
    /// AUTH with the mechanism's name and the initial response, still in base64 (RFC 5034).
    Auth(String, Option<Secret>),
    /// CAPA: what is offered here (RFC 2449 §5).
    Capa,
    /// DELE: marks a message as deleted.
    Dele(usize),
    /// DELM: removes the message that READM showed last.
    Delm,
    /// DONEU: closes the mailbox.
    Doneu,
    /// LIST: the size of one message, or of all.
    List(Option<usize>),
    /// LSTU: the users. An argument, as Teena's client gives it, means nothing.
    Lstu,
    /// NOOP.
    Noop,
    /// PASS: all that follows the first space, spaces too.
    Pass(Secret),
    /// QUIT.
    Quit,
    /// READM: the next message.
    Readm,
    /// RETR: a message.
    Retr(usize),
    /// RSET: unmarks all.
    Rset,
    /// SEND with the receiver, and text where it begins on the same line.
    Send(String, Option<Text>),
    /// STAT.
    Stat,
    /// STLS (RFC 2595 §4).
    Stls,
    /// TOP: the header section and as many lines of the body.
    Top(usize, u64),
    /// UIDL: the unique-id of one message, or of all.
    Uidl(Option<usize>),
    /// USER.
    User(String),
    /// UTF8 (RFC 6856 §2.1).
    Utf8,
}

/// Message text; no log shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} octets)", self.0.len())
    }
}

impl Command {
    /// Takes a line without its end.
    ///
    /// # Errors
    ///
    /// The reply that the line deserves.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        // What is a line end to somebody else must not pass here unseen.
        if line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return Err(Reply::BAD_CHARACTER);
        }
        let space = line.iter().position(|&octet| octet == b' ');
        let (verb, argument) = match space {
            None => (line, None),
            Some(at) => (&line[..at], Some(&line[at + 1..])),
        };
        match (verb.to_ascii_uppercase().as_slice(), argument) {
            (b"PASS", Some(password)) if !password.is_empty() => {
                Ok(Self::Pass(Secret::new(password)))
            }
            (b"PASS", _) => Err(Reply::PASS_SYNTAX),
            (b"SEND", argument) => send(argument.unwrap_or_default()),
            (verb, argument) => words(verb, argument.unwrap_or_default()),
        }
    }

    /// Appends the command as it goes over the wire, secrets and text included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Auth(mechanism, Some(initial)) => {
                out.extend_from_slice(format!("AUTH {mechanism} ").as_bytes());
                out.extend_from_slice(initial.expose());
            }
            Self::Pass(password) => {
                out.extend_from_slice(b"PASS ");
                out.extend_from_slice(password.expose());
            }
            Self::Send(receiver, Some(text)) => {
                out.extend_from_slice(format!("SEND {receiver} ").as_bytes());
                out.extend_from_slice(&text.0);
            }
            _ => out.extend_from_slice(self.to_string().as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addu(name) => write!(f, "ADDU {name}"),
            Self::Auth(mechanism, None) => write!(f, "AUTH {mechanism}"),
            Self::Auth(mechanism, Some(initial)) => write!(f, "AUTH {mechanism} {initial}"),
            Self::Capa => f.write_str("CAPA"),
            Self::Dele(number) => write!(f, "DELE {number}"),
            Self::Delm => f.write_str("DELM"),
            Self::Doneu => f.write_str("DONEU"),
            Self::List(None) => f.write_str("LIST"),
            Self::List(Some(number)) => write!(f, "LIST {number}"),
            Self::Lstu => f.write_str("LSTU"),
            Self::Noop => f.write_str("NOOP"),
            Self::Pass(password) => write!(f, "PASS {password}"),
            Self::Quit => f.write_str("QUIT"),
            Self::Readm => f.write_str("READM"),
            Self::Retr(number) => write!(f, "RETR {number}"),
            Self::Rset => f.write_str("RSET"),
            Self::Send(receiver, None) => write!(f, "SEND {receiver}"),
            Self::Send(receiver, Some(text)) => write!(f, "SEND {receiver} {text:?}"),
            Self::Stat => f.write_str("STAT"),
            Self::Stls => f.write_str("STLS"),
            Self::Top(number, lines) => write!(f, "TOP {number} {lines}"),
            Self::Uidl(None) => f.write_str("UIDL"),
            Self::Uidl(Some(number)) => write!(f, "UIDL {number}"),
            Self::User(name) => write!(f, "USER {name}"),
            Self::Utf8 => f.write_str("UTF8"),
        }
    }
}

/// Every command but those whose argument is free text.
fn words(verb: &[u8], argument: &[u8]) -> Result<Command, Reply> {
    let verb = std::str::from_utf8(verb).map_err(|_| Reply::BAD_CHARACTER)?;
    let argument = std::str::from_utf8(argument).map_err(|_| Reply::BAD_CHARACTER)?;
    // White space at the end is what people type and programs leave.
    let argument = argument.trim_matches([' ', '\t']);
    if verb.chars().chain(argument.chars()).any(char::is_control) {
        return Err(Reply::BAD_CHARACTER);
    }
    match verb {
        "ADDU" if argument.is_empty() => Err(Reply::ADDU_SYNTAX),
        "ADDU" => match UserName::new(argument) {
            Ok(name) => Ok(Command::Addu(name)),
            Err(error) => Err(Reply::bad_user_name(&error)),
        },
        "AUTH" => auth(argument),
        "CAPA" => alone(Command::Capa, argument),
        "DELE" => Ok(Command::Dele(number(argument, Reply::DELE_SYNTAX)?)),
        "DELM" => alone(Command::Delm, argument),
        "DONEU" => alone(Command::Doneu, argument),
        "LIST" => Ok(Command::List(optional_number(
            argument,
            Reply::LIST_SYNTAX,
        )?)),
        "LSTU" => Ok(Command::Lstu),
        "NOOP" => alone(Command::Noop, argument),
        "QUIT" => alone(Command::Quit, argument),
        "READM" => alone(Command::Readm, argument),
        "RETR" => Ok(Command::Retr(number(argument, Reply::RETR_SYNTAX)?)),
        "RSET" => alone(Command::Rset, argument),
        "STAT" => alone(Command::Stat, argument),
        "STLS" => alone(Command::Stls, argument),
        "TOP" => top(argument),
        "UIDL" => Ok(Command::Uidl(optional_number(
            argument,
            Reply::UIDL_SYNTAX,
        )?)),
        "USER" if argument.is_empty() => Err(Reply::USER_SYNTAX),
        "USER" => Ok(Command::User(argument.to_owned())),
        "UTF8" => alone(Command::Utf8, argument),
        "APOP" => Err(Reply::NO_APOP),
        _ => Err(Reply::UNRECOGNISED),
    }
}

fn alone(command: Command, argument: &str) -> Result<Command, Reply> {
    if argument.is_empty() {
        Ok(command)
    } else {
        Err(Reply::NO_ARGUMENT)
    }
}

/// Digits and nothing else. Too many of them are a number that no message has.
fn digits(word: &str) -> Option<u64> {
    let is_number = !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| word.parse().unwrap_or(u64::MAX))
}

fn number(word: &str, syntax: Reply) -> Result<usize, Reply> {
    let number = digits(word).ok_or(syntax)?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

fn optional_number(argument: &str, syntax: Reply) -> Result<Option<usize>, Reply> {
    if argument.is_empty() {
        return Ok(None);
    }
    number(argument, syntax).map(Some)
}

// "TOP" SP msg SP n; both are required
fn top(argument: &str) -> Result<Command, Reply> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(message), Some(lines), None) => Ok(Command::Top(
            number(message, Reply::TOP_SYNTAX)?,
            digits(lines).ok_or(Reply::TOP_SYNTAX)?,
        )),
        _ => Err(Reply::TOP_SYNTAX),
    }
}

// "AUTH" SP sasl-mech [SP initial-response]
fn auth(argument: &str) -> Result<Command, Reply> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth(
            mechanism.to_owned(),
            initial.map(Secret::new),
        )),
        _ => Err(Reply::AUTH_SYNTAX),
    }
}

// "SEND" SP receiver [SP text]
fn send(argument: &[u8]) -> Result<Command, Reply> {
    let argument = argument.trim_ascii_start();
    let end = argument.iter().position(|&octet| octet == b' ');
    let (receiver, text) = argument.split_at(end.unwrap_or(argument.len()));
    let receiver = std::str::from_utf8(receiver).map_err(|_| Reply::BAD_CHARACTER)?;
    let receiver = receiver.trim_end();
    if receiver.is_empty() {
        return Err(Reply::SEND_SYNTAX);
    }
    if receiver.chars().any(char::is_control) {
        return Err(Reply::BAD_CHARACTER);
    }
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let is_text = !text.trim_ascii().is_empty();
    let text = is_text.then(|| Text(text.to_vec()));
    Ok(Command::Send(receiver.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_parsed_and_written() {
        for (line, written) in [
            ("ADDU Andrew", "ADDU Andrew"),
            ("AUTH plain", "AUTH plain"),
            ("AUTH PLAIN AGEAYg==", "AUTH PLAIN <redacted>"),
            ("capa", "CAPA"),
            ("DELE 1", "DELE 1"),
            ("DELM", "DELM"),
            ("DONEU ", "DONEU"),
            ("LIST", "LIST"),
            ("List  2", "LIST 2"),
            ("LIST 0", "LIST 0"),
            ("LIST 99999999999999999999999", "LIST 18446744073709551615"),
            ("LSTU", "LSTU"),
            ("LSTU Andrew", "LSTU"),
            ("NOOP", "NOOP"),
            ("PASS network$ecurity", "PASS <redacted>"),
            ("PASS  two  words ", "PASS <redacted>"),
            ("quit", "QUIT"),
            ("READM", "READM"),
            ("RETR 1", "RETR 1"),
            ("RSET", "RSET"),
            ("SEND bob", "SEND bob"),
            ("SEND bob ", "SEND bob"),
            ("SEND bob Hello there ###", "SEND bob (15 octets)"),
            ("STAT", "STAT"),
            ("TOP 1 0", "TOP 1 0"),
            ("top 1  10 ", "TOP 1 10"),
            ("UIDL", "UIDL"),
            ("UIDL 3", "UIDL 3"),
            ("USER Andrew", "USER Andrew"),
            ("USER Jürgen", "USER Jürgen"),
            ("UTF8", "UTF8"),
        ] {
            let command = Command::parse(line.as_bytes()).unwrap_or_else(|r| panic!("{line}: {r}"));
            assert_eq!(command.to_string(), written, "{line}");
            let mut wire = Vec::new();
            command.encode(&mut wire);
            let again = Command::parse(&wire[..wire.len() - 2]);
            assert_eq!(again.as_ref(), Ok(&command), "{line}");
        }
        let password = Command::parse(b"pass  two  words ");
        assert_eq!(password, Ok(Command::Pass(Secret::new(" two  words "))));
    }

    #[test]
    fn what_is_no_command_gets_its_reply() {
        for (line, reply) in [
            ("", Reply::UNRECOGNISED),
            ("FOO", Reply::UNRECOGNISED),
            (" STAT", Reply::UNRECOGNISED),
            ("RETR1", Reply::UNRECOGNISED),
            ("NOOP\u{7}", Reply::BAD_CHARACTER),
            ("NOOP\r", Reply::BAD_CHARACTER),
            ("USER a\nb", Reply::BAD_CHARACTER),
            ("PASS a\nDELE 1", Reply::BAD_CHARACTER),
            ("SEND bob a\rb", Reply::BAD_CHARACTER),
            ("APOP bob c4c9334bac560ecc979e58001b3e22fb", Reply::NO_APOP),
            ("STLS now", Reply::NO_ARGUMENT),
            ("ADDU", Reply::ADDU_SYNTAX),
            ("AUTH", Reply::AUTH_SYNTAX),
            ("AUTH PLAIN a b", Reply::AUTH_SYNTAX),
            ("DELE", Reply::DELE_SYNTAX),
            ("DELE all", Reply::DELE_SYNTAX),
            ("LIST x", Reply::LIST_SYNTAX),
            ("LIST 1 2", Reply::LIST_SYNTAX),
            ("PASS", Reply::PASS_SYNTAX),
            ("PASS ", Reply::PASS_SYNTAX),
            ("RETR", Reply::RETR_SYNTAX),
            ("RETR -1", Reply::RETR_SYNTAX),
            ("RETR +1", Reply::RETR_SYNTAX),
            ("SEND", Reply::SEND_SYNTAX),
            ("SEND  ", Reply::SEND_SYNTAX),
            ("STAT 1", Reply::NO_ARGUMENT),
            ("QUIT now", Reply::NO_ARGUMENT),
            ("TOP 1", Reply::TOP_SYNTAX),
            ("TOP 1 -1", Reply::TOP_SYNTAX),
            ("TOP 1 2 3", Reply::TOP_SYNTAX),
            ("UIDL 1.", Reply::UIDL_SYNTAX),
            ("USER", Reply::USER_SYNTAX),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Err(reply), "{line:?}");
        }
        assert_eq!(Command::parse(b"USER \xff"), Err(Reply::BAD_CHARACTER));
        for name in ["../bob", "a b", "bob@localhost", &"n".repeat(65)] {
            let reply = Command::parse(format!("ADDU {name}").as_bytes()).unwrap_err();
            assert!(
                !reply.is_ok() && reply.to_string().contains("user name"),
                "{reply}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            drop(Command::parse(&line));
            drop(Command::parse(&[b"SEND ", line.as_slice()].concat()));
            drop(Command::parse(&[b"TOP ", line.as_slice()].concat()));
        }
    }
}
