//! Commands: parsed by the server, written by the client (RFC 5321 §4.1).

use std::fmt;

use crate::address::{AddressError, ForwardPath, ReversePath};
use crate::sasl::Mechanism;
use crate::secret::Secret;

use super::limits::{ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX};
use super::reply::Reply;

/// The longest verb, which is `STARTTLS`.
const VERB_OCTETS_MAX: usize = 8;

/// A command with its arguments. Its `Display` is for logs: it hides what AUTH carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO with the client's name.
    Ehlo(String),
    /// HELO with the client's name.
    Helo(String),
    /// LHLO with the client's name: the EHLO of LMTP (RFC 2033 §4.1).
    Lhlo(String),
    /// MAIL FROM.
    Mail(ReversePath, MailParameters),
    /// RCPT TO.
    Rcpt(ForwardPath, RcptParameters),
    /// DATA.
    Data,
    /// BDAT (RFC 3030).
    Bdat(Chunk),
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
    /// STARTTLS (RFC 3207).
    StartTls,
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
    /// RET: how much of the message a failure report gives back (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// ENVID: what the sender calls this message, still as xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
}

/// The parameters of RCPT TO (RFC 3461).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// NOTIFY: when the sender wants a report; `None` where nothing was said (§4.1).
    pub notify: Option<Notify>,
    /// ORCPT: the address that the sender gave first, still as `type;xtext` (§4.2).
    pub orcpt: Option<String>,
}

/// How much of a message a failure report gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// The header section.
    Headers,
}

/// When a sender wants a report. None of the three is NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// Once the message is delivered.
    pub success: bool,
    /// When it cannot be.
    pub failure: bool,
    /// When it takes long.
    pub delay: bool,
}

/// What BDAT says about the octets behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many they are. A number that is too large for the type is its largest.
    pub octets: u64,
    /// Whether they are the message's last.
    pub is_last: bool,
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

impl RcptParameters {
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
        if text.bytes().any(|octet| octet.is_ascii_control())
            || !text.is_ascii() && text.chars().any(char::is_control)
        {
            return Err(Reply::BAD_CHARACTER);
        }
        let verb_octets = text.bytes().position(|octet| octet == b' ');
        let (verb, argument) = text.split_at(verb_octets.unwrap_or(text.len()));
        let argument = argument.trim_start_matches(' ');
        let mut upper = [0; VERB_OCTETS_MAX];
        let Some(upper) = upper.get_mut(..verb.len()) else {
            return Err(Reply::UNRECOGNISED);
        };
        upper.copy_from_slice(verb.as_bytes());
        upper.make_ascii_uppercase();
        match &*upper {
            b"EHLO" => hello(argument).map(Self::Ehlo).ok_or(Reply::EHLO_SYNTAX),
            b"HELO" => hello(argument).map(Self::Helo).ok_or(Reply::HELO_SYNTAX),
            b"LHLO" => hello(argument).map(Self::Lhlo).ok_or(Reply::LHLO_SYNTAX),
            b"MAIL" => mail(argument),
            b"RCPT" => rcpt(argument),
            b"DATA" => alone(Self::Data, argument),
            b"BDAT" => bdat(argument).map(Self::Bdat).ok_or(Reply::BDAT_SYNTAX),
            b"RSET" => alone(Self::Rset, argument),
            b"NOOP" => Ok(Self::Noop),
            b"QUIT" => alone(Self::Quit, argument),
            b"VRFY" if argument.is_empty() => Err(Reply::VRFY_SYNTAX),
            b"VRFY" => Ok(Self::Vrfy(argument.to_owned())),
            b"HELP" => Ok(Self::Help),
            b"STARTTLS" => alone(Self::StartTls, argument),
            b"AUTH" => auth(argument),
            b"ETRN" | b"EXPN" | b"SAML" | b"SEND" | b"SOML" | b"TURN" => {
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
            Self::Lhlo(name) => write!(f, "LHLO {name}"),
            Self::Mail(path, parameters) => write!(f, "MAIL FROM:{path}{parameters}"),
            Self::Rcpt(path, parameters) => write!(f, "RCPT TO:{path}{parameters}"),
            Self::Data => f.write_str("DATA"),
            Self::Bdat(chunk) => {
                let last = if chunk.is_last { " LAST" } else { "" };
                write!(f, "BDAT {}{last}", chunk.octets)
            }
            Self::Rset => f.write_str("RSET"),
            Self::Noop => f.write_str("NOOP"),
            Self::Quit => f.write_str("QUIT"),
            Self::Vrfy(argument) => write!(f, "VRFY {argument}"),
            Self::Help => f.write_str("HELP"),
            Self::StartTls => f.write_str("STARTTLS"),
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
        match self.ret {
            None => {}
            Some(Ret::Full) => f.write_str(" RET=FULL")?,
            Some(Ret::Headers) => f.write_str(" RET=HDRS")?,
        }
        match &self.envid {
            None => Ok(()),
            Some(envid) => write!(f, " ENVID={envid}"),
        }
    }
}

impl fmt::Display for RcptParameters {
    /// Writes each with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(notify) = self.notify {
            write!(f, " NOTIFY={notify}")?;
        }
        match &self.orcpt {
            None => Ok(()),
            Some(orcpt) => write!(f, " ORCPT={orcpt}"),
        }
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let words: Vec<&str> = asked
            .iter()
            .filter(|(is_asked, _)| *is_asked)
            .map(|(_, word)| *word)
            .collect();
        f.write_str(if words.is_empty() { "NEVER" } else { "" })?;
        f.write_str(&words.join(","))
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
    let parameters = rcpt_parameters(parameters(rest, Reply::BAD_RECIPIENT)?)?;
    Ok(Command::Rcpt(path, parameters))
}

// bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] ; RFC 3030 §2
fn bdat(argument: &str) -> Option<Chunk> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let octets = words
        .next()
        .filter(|word| word.bytes().all(|b| b.is_ascii_digit()))?;
    let is_last = match (words.next(), words.next()) {
        (None, _) => false,
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => true,
        _ => return None,
    };
    // Only digits: it can fail by being too large, and is refused as that.
    let octets = octets.parse().unwrap_or(u64::MAX);
    Some(Chunk { octets, is_last })
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
    if rest.is_empty() {
        return Ok(found);
    }
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
            // Known, and not offered: the store keeps lines (RFC 3030 §3).
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("BINARYMIME") => {
                return Err(Reply::UNKNOWN_PARAMETER);
            }
            ("SMTPUTF8", None) => parameters.smtp_utf8 = true,
            ("AUTH", Some(value))
                if value == "<>" || xtext(value, u8::is_ascii_hexdigit).is_some() =>
            {
                parameters.auth = true;
            }
            ("RET", Some(value)) if value.eq_ignore_ascii_case("FULL") => {
                parameters.ret = Some(Ret::Full);
            }
            ("RET", Some(value)) if value.eq_ignore_ascii_case("HDRS") => {
                parameters.ret = Some(Ret::Headers);
            }
            ("ENVID", Some(value)) if is_envid(value) => parameters.envid = Some(value.to_owned()),
            ("SIZE" | "BODY" | "SMTPUTF8" | "AUTH" | "RET" | "ENVID", _) => {
                return Err(Reply::BAD_PARAMETER);
            }
            _ => return Err(Reply::UNKNOWN_PARAMETER),
        }
    }
    Ok(parameters)
}

fn rcpt_parameters(given: Vec<(String, Option<&str>)>) -> Result<RcptParameters, Reply> {
    let mut parameters = RcptParameters::default();
    for (name, value) in given {
        match (name.as_str(), value) {
            ("NOTIFY", Some(value)) => {
                parameters.notify = Some(notify(value).ok_or(Reply::BAD_PARAMETER)?);
            }
            ("ORCPT", Some(value)) if is_orcpt(value) => parameters.orcpt = Some(value.to_owned()),
            ("NOTIFY" | "ORCPT", _) => return Err(Reply::BAD_PARAMETER),
            _ => return Err(Reply::UNKNOWN_PARAMETER),
        }
    }
    Ok(parameters)
}

// "NEVER" / ( "SUCCESS" / "FAILURE" / "DELAY" ) *( "," ( "SUCCESS" / "FAILURE" / "DELAY" ) )
fn notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(notify);
    }
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}

// envid-parameter = "ENVID=" xtext ; of printable characters
fn is_envid(value: &str) -> bool {
    value.len() <= ENVID_OCTETS_MAX && is_printable_xtext(value)
}

// original-recipient-address = addr-type ";" xtext ; RFC 6533 §3 adds UTF-8 as it is
fn is_orcpt(value: &str) -> bool {
    let Some((kind, address)) = value.split_once(';') else {
        return false;
    };
    let is_kind = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_utf8 = kind.eq_ignore_ascii_case("utf-8");
    let ascii: String = address
        .chars()
        .filter(|c| !is_utf8 || c.is_ascii())
        .collect();
    let is_address = !address.is_empty() && is_printable_xtext(&ascii);
    is_kind && is_address && value.len() <= ORCPT_OCTETS_MAX
}

fn is_printable_xtext(value: &str) -> bool {
    let is_hex = |octet: &u8| matches!(octet, b'0'..=b'9' | b'A'..=b'F');
    let text = xtext(value, is_hex);
    text.is_some_and(|text| text.iter().all(|octet| matches!(octet, b' '..=b'~')))
}

/// 1 to 20 digits. Twenty nines are more than 64 bits hold, and more than any limit.
fn size(value: &str) -> Result<u64, Reply> {
    if value.len() > 20 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Reply::BAD_PARAMETER);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

/// Decodes xtext.
// xtext = *( xchar / hexchar ) ; RFC 3461 §4, RFC 4954 §8
// xchar = %d33-42 / %d44-60 / %d62-126
// hexchar = "+" 2HEXDIG ; of RFC 3461 in upper case only
fn xtext(value: &str, is_hex: fn(&u8) -> bool) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(value.len());
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        let mut hex = || {
            let digit = octets.next().filter(is_hex)?;
            char::from(digit).to_digit(16)
        };
        text.push(match octet {
            b'+' => u8::try_from(16 * hex()? + hex()?).ok()?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        });
    }
    Some(text)
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
            (
                "MAIL FROM:<a@b> ret=hdrs ENVID=QQ314159",
                "MAIL FROM:<a@b> RET=HDRS ENVID=QQ314159",
            ),
            (
                "MAIL FROM:<a@b> ENVID=a+20b+2Bc RET=FULL",
                "MAIL FROM:<a@b> RET=FULL ENVID=a+20b+2Bc",
            ),
            (
                "RCPT TO:<a@b> orcpt=rfc822;Bob+40B NOTIFY=delay,SUCCESS",
                "RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+40B",
            ),
            ("RCPT TO:<a@b> NOTIFY=never", "RCPT TO:<a@b> NOTIFY=NEVER"),
            (
                "RCPT TO:<a@b> ORCPT=utf-8;ä\\x{E4}@b",
                "RCPT TO:<a@b> ORCPT=utf-8;ä\\x{E4}@b",
            ),
            ("BDAT 0", "BDAT 0"),
            ("bdat 00086  last ", "BDAT 86 LAST"),
            (
                "BDAT 18446744073709551616 LAST",
                "BDAT 18446744073709551615 LAST",
            ),
            ("LHLO c", "LHLO c"),
            ("RCPT TO:<\"a\"@b>", "RCPT TO:<a@b>"),
            ("RCPT TO:<Postmaster>", "RCPT TO:<postmaster>"),
            ("DATA", "DATA"),
            ("data  ", "DATA"),
            ("RSET", "RSET"),
            ("NOOP whatever", "NOOP"),
            ("QUIT", "QUIT"),
            ("VRFY andrew", "VRFY andrew"),
            ("HELP MAIL", "HELP"),
            ("starttls ", "STARTTLS"),
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
            ("MAIL FROM:<a@b> BODY=BINARYMIME", 555, "5.5.4"),
            ("MAIL FROM:<a@b> BODY=16BIT", 501, "5.5.4"),
            ("MAIL FROM:<a@b> RET", 501, "5.5.4"),
            ("MAIL FROM:<a@b> RET=ALL", 501, "5.5.4"),
            ("MAIL FROM:<a@b> RET=FULL RET=FULL", 501, "5.5.4"),
            ("MAIL FROM:<a@b> ENVID=", 501, "5.5.4"),
            ("MAIL FROM:<a@b> ENVID=+2b", 501, "5.5.4"),
            ("MAIL FROM:<a@b> ENVID=+0D+0A", 501, "5.5.4"),
            ("MAIL FROM:<a@b> ENVID=ä", 501, "5.5.4"),
            ("MAIL FROM:<a@b> NOTIFY=NEVER", 555, "5.5.4"),
            ("MAIL FROM:<a@b> SMTPUTF8=1", 501, "5.5.4"),
            ("MAIL FROM:<a@b> AUTH=+zz", 501, "5.5.4"),
            ("MAIL FROM:<a@b> FOO=1", 555, "5.5.4"),
            ("MAIL FROM:<ä@b>", 550, "5.6.7"),
            ("RCPT FROM:<a@b>", 501, "5.5.4"),
            ("RCPT TO:a@b", 501, "5.5.4"),
            ("RCPT TO:<>", 501, "5.1.3"),
            ("RCPT TO:<a>", 501, "5.1.3"),
            ("RCPT TO:<a@b> FOO", 555, "5.5.4"),
            ("RCPT TO:<a@b> RET=FULL", 555, "5.5.4"),
            ("RCPT TO:<a@b> NOTIFY", 501, "5.5.4"),
            ("RCPT TO:<a@b> NOTIFY=", 501, "5.5.4"),
            ("RCPT TO:<a@b> NOTIFY=ALWAYS", 501, "5.5.4"),
            ("RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", 501, "5.5.4"),
            ("RCPT TO:<a@b> NOTIFY=SUCCESS,", 501, "5.5.4"),
            ("RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", 501, "5.5.4"),
            ("RCPT TO:<a@b> ORCPT=a@b", 501, "5.5.4"),
            ("RCPT TO:<a@b> ORCPT=rfc822;", 501, "5.5.4"),
            ("RCPT TO:<a@b> ORCPT=;a@b", 501, "5.5.4"),
            ("RCPT TO:<a@b> ORCPT=rfc822;a+@b", 501, "5.5.4"),
            ("RCPT TO:<a@b> ORCPT=rfc822;ä@b", 501, "5.5.4"),
            ("RCPT TO:<a@b> ORCPT=rfc822;a+00", 501, "5.5.4"),
            ("BDAT", 501, "5.5.4"),
            ("BDAT x", 501, "5.5.4"),
            ("BDAT -1", 501, "5.5.4"),
            ("BDAT +1", 501, "5.5.4"),
            ("BDAT 1x", 501, "5.5.4"),
            ("BDAT 1 FIRST", 501, "5.5.4"),
            ("BDAT 1 LAST LAST", 501, "5.5.4"),
            ("LHLO", 501, ""),
            ("DATA x", 501, "5.5.4"),
            ("RSET x", 501, "5.5.4"),
            ("QUIT x", 501, "5.5.4"),
            ("VRFY", 501, "5.5.4"),
            ("EXPN list", 502, "5.5.1"),
            ("STARTTLS x", 501, "5.5.4"),
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
