//! Commands: parsed by the server, written by the client (RFC 5321 §4.1).

use std::fmt;

use crate::address::{AddressError, ForwardPath, ReversePath};
use crate::sasl::Mechanism;
use crate::secret::Secret;

use super::reply::Reply;

/// A command with its arguments. Its `Display` is for logs: it hides what AUTH carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO with the client's name.
    Ehlo(String),
    /// HELO with the client's name.
    Helo(String),
    /// MAIL FROM.
    Mail(ReversePath, MailParameters),
    /// RCPT TO.
    Rcpt(ForwardPath),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP; its argument means nothing.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY with what was asked.
    Vrfy(String),
    /// HELP; its argument means nothing here.
    Help,
    /// AUTH with the mechanism's name and the initial response, still in base64 (RFC 4954 §4).
    Auth(String, Option<Secret>),
}

/// The parameters of MAIL FROM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE: the sender's estimate, in octets (RFC 1870 §3).
    pub size: Option<u64>,
    /// BODY (RFC 6152 §2).
    pub body: Option<Body>,
    /// SMTPUTF8 (RFC 6531 §3.4).
    pub smtp_utf8: bool,
    /// AUTH was there. Its value is checked and then not believed (RFC 4954 §5).
    pub auth: bool,
}

/// What the octets of a text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// All below 128.
    SevenBit,
    /// Any.
    EightBitMime,
}

impl MailParameters {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Command {
    /// Takes a line without its end.
    ///
    /// # Errors
    ///
    /// The reply that the line deserves.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        let text = std::str::from_utf8(line).map_err(|_| Reply::BAD_CHARACTER)?;
        // White space at the end is tolerated (RFC 5321 §4.1.1). CR is none: what is a line end to
        // somebody else must not pass here unseen.
        let text = text.trim_end_matches([' ', '\t']);
        if text.chars().any(char::is_control) {
            return Err(Reply::BAD_CHARACTER);
        }
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        let argument = argument.trim_start_matches(' ');
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => hello(argument).map(Self::Ehlo).ok_or(Reply::EHLO_SYNTAX),
            "HELO" => hello(argument).map(Self::Helo).ok_or(Reply::HELO_SYNTAX),
            "MAIL" => mail(argument),
            "RCPT" => rcpt(argument),
            "DATA" => alone(Self::Data, argument),
            "RSET" => alone(Self::Rset, argument),
            "NOOP" => Ok(Self::Noop),
            "QUIT" => alone(Self::Quit, argument),
            "VRFY" if argument.is_empty() => Err(Reply::VRFY_SYNTAX),
            "VRFY" => Ok(Self::Vrfy(argument.to_owned())),
            "HELP" => Ok(Self::Help),
            "AUTH" => auth(argument),
            "BDAT" | "ETRN" | "EXPN" | "SAML" | "SEND" | "SOML" | "STARTTLS" | "TURN" => {
                Err(Reply::NOT_IMPLEMENTED)
            }
            _ => Err(Reply::UNRECOGNISED),
        }
    }

    /// Appends the command as it goes over the wire, secrets included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Auth(mechanism, initial) => {
                out.extend_from_slice(format!("AUTH {mechanism}").as_bytes());
                if let Some(initial) = initial {
                    out.push(b' ');
                    out.extend_from_slice(initial.expose());
                }
            }
            _ => out.extend_from_slice(self.to_string().as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) => write!(f, "EHLO {name}"),
            Self::Helo(name) => write!(f, "HELO {name}"),
            Self::Mail(path, parameters) => write!(f, "MAIL FROM:{path}{parameters}"),
            Self::Rcpt(path) => write!(f, "RCPT TO:{path}"),
            Self::Data => f.write_str("DATA"),
            Self::Rset => f.write_str("RSET"),
            Self::Noop => f.write_str("NOOP"),
            Self::Quit => f.write_str("QUIT"),
            Self::Vrfy(argument) => write!(f, "VRFY {argument}"),
            Self::Help => f.write_str("HELP"),
            Self::Auth(mechanism, initial) => {
                // What stands there may be a password, if the mechanism was forgotten.
                let name = Mechanism::parse(mechanism).map_or("?", Mechanism::name);
                write!(f, "AUTH {name}")?;
                initial
                    .as_ref()
                    .map_or(Ok(()), |initial| write!(f, " {initial}"))
            }
        }
    }
}

impl fmt::Display for MailParameters {
    /// Writes each with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.size {
            write!(f, " SIZE={size}")?;
        }
        match self.body {
            None => {}
            Some(Body::SevenBit) => f.write_str(" BODY=7BIT")?,
            Some(Body::EightBitMime) => f.write_str(" BODY=8BITMIME")?,
        }
        if self.smtp_utf8 {
            f.write_str(" SMTPUTF8")?;
        }
        if self.auth {
            f.write_str(" AUTH=<>")?;
        }
        Ok(())
    }
}

/// The client's name in EHLO. Anything visible will do: mail must not be refused for it
/// (RFC 5321 §4.1.4), and it is only ever shown.
fn hello(argument: &str) -> Option<String> {
    let name = argument.split(' ').next()?;
    let good = !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| name.to_owned())
}

fn alone(command: Command, argument: &str) -> Result<Command, Reply> {
    if argument.is_empty() {
        Ok(command)
    } else {
        Err(Reply::NO_ARGUMENT)
    }
}

// mail = "MAIL FROM:" Reverse-path [SP Mail-parameters]
fn mail(argument: &str) -> Result<Command, Reply> {
    let rest = keyword(argument, "FROM:").ok_or(Reply::MAIL_SYNTAX)?;
    let (path, rest) = ReversePath::parse(rest).map_err(|error| match error {
        AddressError::NoOpeningBracket => Reply::MAIL_SYNTAX,
        _ => Reply::BAD_SENDER,
    })?;
    let parameters = mail_parameters(parameters(rest, Reply::BAD_SENDER)?)?;
    if !parameters.smtp_utf8 && path.address().is_some_and(|address| !address.is_ascii()) {
        return Err(Reply::SENDER_NEEDS_UTF8);
    }
    Ok(Command::Mail(path, parameters))
}

// rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP parameters]
fn rcpt(argument: &str) -> Result<Command, Reply> {
    let rest = keyword(argument, "TO:").ok_or(Reply::RCPT_SYNTAX)?;
    let (path, rest) = ForwardPath::parse(rest).map_err(|error| match error {
        AddressError::NoOpeningBracket => Reply::RCPT_SYNTAX,
        _ => Reply::BAD_RECIPIENT,
    })?;
    match parameters(rest, Reply::BAD_RECIPIENT)?.first() {
        None => Ok(Command::Rcpt(path)),
        Some(_) => Err(Reply::UNKNOWN_PARAMETER),
    }
}

/// What follows `FROM:` or `TO:`. Spaces after the colon are forbidden (RFC 5321 §3.3), usual
/// among people who type, and harmless.
fn keyword<'a>(argument: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = argument.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word)
        .then(|| rest.trim_start_matches(' '))
}

// esmtp-param = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-") [ "=" 1*( %d33-60 / %d62-126 ) ]
fn parameters(rest: &str, no_space: Reply) -> Result<Vec<(String, Option<&str>)>, Reply> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(no_space);
    }
    let mut found: Vec<(String, Option<&str>)> = Vec::new();
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = match word.split_once('=') {
            None => (word, None),
            Some((name, value)) => (name, Some(value)),
        };
        let name = name.to_ascii_uppercase();
        let good_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let good_value = value.is_none_or(|value| {
            !value.is_empty() && value.bytes().all(|b| b >= 33 && b != b'=' && b != 127)
        });
        if !good_name || !good_value || found.iter().any(|(other, _)| *other == name) {
            return Err(Reply::BAD_PARAMETER);
        }
        found.push((name, value));
    }
    Ok(found)
}

fn mail_parameters(given: Vec<(String, Option<&str>)>) -> Result<MailParameters, Reply> {
    let mut parameters = MailParameters::default();
    for (name, value) in given {
        match (name.as_str(), value) {
            ("SIZE", Some(value)) => parameters.size = Some(size(value)?),
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => {
                parameters.body = Some(Body::SevenBit);
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                parameters.body = Some(Body::EightBitMime);
            }
            ("SMTPUTF8", None) => parameters.smtp_utf8 = true,
            ("AUTH", Some(value)) if value == "<>" || is_xtext(value) => parameters.auth = true,
            ("SIZE" | "BODY" | "SMTPUTF8" | "AUTH", _) => return Err(Reply::BAD_PARAMETER),
            _ => return Err(Reply::UNKNOWN_PARAMETER),
        }
    }
    Ok(parameters)
}

/// 1 to 20 digits. Twenty nines are more than 64 bits hold, and more than any limit.
fn size(value: &str) -> Result<u64, Reply> {
    if value.len() > 20 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Reply::BAD_PARAMETER);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

// xtext = *( xchar / "+" 2HEXDIG ) ; RFC 3461 §4
fn is_xtext(value: &str) -> bool {
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        let mut hex = || octets.next().is_some_and(|b| b.is_ascii_hexdigit());
        if octet == b'+' && !(hex() && hex()) {
            return false;
        }
    }
    value.is_ascii()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_parsed_and_written() {
        for (line, written) in [
            ("EHLO c.example", "EHLO c.example"),
            ("helo [127.0.0.1] ", "HELO [127.0.0.1]"),
            ("MAIL FROM:<a@b>", "MAIL FROM:<a@b>"),
            ("mail from:<>", "MAIL FROM:<>"),
            ("MAIL FROM: <a@b>", "MAIL FROM:<a@b>"),
            (
                "MAIL FROM:<a@b> size=10 BODY=8bitmime",
                "MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME",
            ),
            (
                "MAIL FROM:<a@b> SIZE=99999999999999999999",
                "MAIL FROM:<a@b> SIZE=18446744073709551615",
            ),
            ("MAIL FROM:<ä@b> SMTPUTF8", "MAIL FROM:<ä@b> SMTPUTF8"),
            ("MAIL FROM:<a@b> AUTH=e+3Dmc2@x", "MAIL FROM:<a@b> AUTH=<>"),
            ("RCPT TO:<\"a\"@b>", "RCPT TO:<a@b>"),
            ("RCPT TO:<Postmaster>", "RCPT TO:<postmaster>"),
            ("DATA", "DATA"),
            ("data  ", "DATA"),
            ("RSET", "RSET"),
            ("NOOP whatever", "NOOP"),
            ("QUIT", "QUIT"),
            ("VRFY andrew", "VRFY andrew"),
            ("HELP MAIL", "HELP"),
            ("AUTH plain", "AUTH PLAIN"),
            ("AUTH AEFuZHJldwB4", "AUTH ?"),
            ("AUTH PLAIN AGEAYg==", "AUTH PLAIN <redacted>"),
        ] {
            let command = Command::parse(line.as_bytes()).unwrap_or_else(|r| panic!("{line}: {r}"));
            assert_eq!(command.to_string(), written, "{line}");
            let mut wire = Vec::new();
            command.encode(&mut wire);
            assert_eq!(
                Command::parse(&wire[..wire.len() - 2]).as_ref(),
                Ok(&command),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_no_command_gets_its_reply() {
        for (line, code, enhanced) in [
            ("", 500, "5.5.2"),
            ("FOO", 500, "5.5.2"),
            ("MAILFROM:<a@b>", 500, "5.5.2"),
            ("NOOP\u{7}", 500, "5.5.2"),
            ("NOOP a\nb", 500, "5.5.2"),
            ("NOOP\r", 500, "5.5.2"),
            ("NOOP\n", 500, "5.5.2"),
            ("EHLO", 501, ""),
            ("EHLO ä", 501, ""),
            ("HELO ", 501, ""),
            ("MAIL", 501, "5.5.4"),
            ("MAIL FROM", 501, "5.5.4"),
            ("MAIL TO:<a@b>", 501, "5.5.4"),
            ("MAIL FROM:a@b", 501, "5.5.4"),
            ("MAIL FROM:<a@b", 501, "5.1.7"),
            ("MAIL FROM:<a@b>x", 501, "5.1.7"),
            ("MAIL FROM:<a@b>SIZE=1", 501, "5.1.7"),
            ("MAIL FROM:<a@b> SIZE=x", 501, "5.5.4"),
            ("MAIL FROM:<a@b> SIZE=-1", 501, "5.5.4"),
            ("MAIL FROM:<a@b> SIZE", 501, "5.5.4"),
            ("MAIL FROM:<a@b> SIZE=", 501, "5.5.4"),
            ("MAIL FROM:<a@b> SIZE=1 SIZE=1", 501, "5.5.4"),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", 501, "5.5.4"),
            ("MAIL FROM:<a@b> SMTPUTF8=1", 501, "5.5.4"),
            ("MAIL FROM:<a@b> AUTH=+zz", 501, "5.5.4"),
            ("MAIL FROM:<a@b> FOO=1", 555, "5.5.4"),
            ("MAIL FROM:<ä@b>", 550, "5.6.7"),
            ("RCPT FROM:<a@b>", 501, "5.5.4"),
            ("RCPT TO:a@b", 501, "5.5.4"),
            ("RCPT TO:<>", 501, "5.1.3"),
            ("RCPT TO:<a>", 501, "5.1.3"),
            ("RCPT TO:<a@b> NOTIFY=NEVER", 555, "5.5.4"),
            ("DATA x", 501, "5.5.4"),
            ("RSET x", 501, "5.5.4"),
            ("QUIT x", 501, "5.5.4"),
            ("VRFY", 501, "5.5.4"),
            ("EXPN list", 502, "5.5.1"),
            ("STARTTLS", 502, "5.5.1"),
            ("TURN", 502, "5.5.1"),
            ("AUTH", 501, "5.5.4"),
            ("AUTH PLAIN a b", 501, "5.5.4"),
        ] {
            let reply = Command::parse(line.as_bytes()).expect_err(line);
            assert_eq!(
                (reply.code(), reply.enhanced().unwrap_or("")),
                (code, enhanced),
                "{line}"
            );
        }
        assert_eq!(Command::parse(b"NOOP \xff"), Err(Reply::BAD_CHARACTER));
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            drop(Command::parse(&line));
            drop(Command::parse(&[b"MAIL FROM:<", line.as_slice()].concat()));
            drop(Command::parse(&[b"RCPT TO:<", line.as_slice()].concat()));
        }
    }
}
