//! What a person types, checked and made into a message.
//!
//! The form is that of the lab this program comes from: `From:`, `To:` and `Subject:` on a line
//! each, in this order, then the body, then a line with only a full stop (or the end of input).
//! There is no dot-stuffing in it: a typed `..` is a body line of two full stops. Lines are
//! taken one by one, so that a person at a terminal and a pipe meet the same rules.

use mail_builder::headers::{Header, text::Text};
use memchr::memchr2;

use crate::address::{Address, AddressError, ForwardPath, ReversePath};

use super::envelope::Envelope;
use super::outgoing::Outgoing;

/// The longest subject that is taken, in characters.
pub const SUBJECT_CHARACTERS_MAX: usize = 50;
/// The longest line that SMTP can carry, in octets without CRLF (RFC 5321 §4.5.3.1.6).
pub const LINE_OCTETS_MAX: usize = 998;
/// The largest body, in octets: what is typed or piped is held in memory.
pub const BODY_OCTETS_MAX: usize = 1 << 30;

/// A mail as it was typed, found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The sender.
    pub from: Address,
    /// The recipient.
    pub to: Address,
    /// The subject; it may be empty.
    pub subject: String,
    /// The body, without the final full stop. Each line ends with LF.
    pub body: Vec<u8>,
}

impl Draft {
    /// Writes the mail as a message.
    ///
    /// A plain ASCII mail is its three lines, an empty line and the body; nothing is added. A
    /// non-ASCII subject becomes encoded words (RFC 2047), a non-ASCII body is declared as what
    /// it is (RFC 2045), and non-ASCII addresses stand as they are (RFC 6532).
    #[must_use]
    pub fn into_message(self) -> Outgoing {
        let charset = (!self.body.is_ascii()).then(|| charset(&self.body));
        let mut text = fields(&self.from, &self.to, &self.subject, charset);
        text.push(b'\n');
        text.extend_from_slice(&self.body);
        Outgoing {
            has_utf8_header: !self.from.is_ascii() || !self.to.is_ascii(),
            envelope: Envelope {
                reverse_path: ReversePath::Address(self.from),
                forward_paths: vec![ForwardPath::Address(self.to)],
            },
            text,
        }
    }
}

/// Writes the header fields of a typed mail, as [`Draft::into_message`] has them, without the
/// empty line; a body that is more than ASCII has a character set.
#[must_use]
pub fn fields(from: &Address, to: &Address, subject: &str, charset: Option<&str>) -> Vec<u8> {
    let mut text = format!("From: {from}\nTo: {to}\n").into_bytes();
    write_subject(subject, &mut text);
    if let Some(charset) = charset {
        let mime = format!(
            "MIME-Version: 1.0\n\
             Content-Type: text/plain; charset={charset}\n\
             Content-Transfer-Encoding: 8bit\n"
        );
        text.extend_from_slice(mime.as_bytes());
    }
    text
}

/// The character set that a body seems to have, by its beginning, which may end in the middle of
/// a character.
#[must_use]
pub fn charset(beginning: &[u8]) -> &'static str {
    match std::str::from_utf8(beginning) {
        Err(error) if error.error_len().is_some() => "unknown-8bit", // RFC 1428 §3
        _ => "utf-8",
    }
}

/// The rule that a mail breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub struct DraftError {
    /// The number of the line, from 1. It is one more than there are where a line is missing.
    pub line: usize,
    /// What is wrong with it.
    pub rule: Rule,
}

/// A rule of the form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The mail ended before this field, or another line stands in its place.
    #[error("`{0}: {example}` must stand here, got {1}", example = .0.example())]
    Missing(Field, Got),
    /// From or To is no address, or more than one.
    #[error("{0} must be one address, X@Y: {1}")]
    Address(Field, AddressError),
    /// From or To has a name beside the address, or angle brackets around it.
    #[error("{0} must be one address, X@Y: without a name and without `<` and `>`")]
    NotBare(Field),
    /// From or To has no value.
    #[error("{0} must be one address, X@Y: it is empty")]
    NoAddress(Field),
    /// [`SUBJECT_CHARACTERS_MAX`].
    #[error("Subject has {0} characters, takes at most {SUBJECT_CHARACTERS_MAX}")]
    SubjectTooLong(usize),
    /// A control character, or octets that are not UTF-8.
    #[error("{0} must be UTF-8 text without control characters")]
    Character(Field),
    /// A CR that ends no line.
    #[error("a carriage return within the line cannot be sent")]
    BareCr,
    /// An octet 0.
    #[error("an octet 0 cannot be sent")]
    Nul,
    /// [`LINE_OCTETS_MAX`].
    #[error("the line has more than {LINE_OCTETS_MAX} octets, which mail cannot carry")]
    LineTooLong,
    /// [`BODY_OCTETS_MAX`].
    #[error("the body has more than {BODY_OCTETS_MAX} octets")]
    BodyTooLong,
    /// More text, where the mail has ended.
    #[error(
        "something follows the full stop that ends the mail: it is one mail at a time, and no line \
         of its text can be a full stop alone"
    )]
    AfterFullStop,
}

/// The lines that every mail begins with, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The sender.
    From,
    /// The recipient.
    To,
    /// What it is about.
    Subject,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::From => "From",
            Self::To => "To",
            Self::Subject => "Subject",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::From | Self::To => "X@Y",
            Self::Subject => "text",
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What stood in the place of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Another line.
    AnotherLine,
    /// A line with nothing on it.
    EmptyLine,
    /// The final full stop.
    FullStop,
    /// Nothing: the input ended.
    End,
}

impl std::fmt::Display for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AnotherLine => "something else",
            Self::EmptyLine => "an empty line",
            Self::FullStop => "the final full stop",
            Self::End => "the end of input",
        })
    }
}

/// Whether a mail goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More lines may follow.
    More,
    /// The full stop has come. More than white space may not follow.
    Complete,
}

/// Takes a mail line by line.
#[derive(Debug)]
pub struct DraftReader {
    stage: Stage,
    /// Lines taken so far.
    lines: usize,
    is_complete: bool,
    error: Option<DraftError>,
}

/// What has come; the next line is what follows it.
#[derive(Debug)]
enum Stage {
    Nothing,
    From(Address),
    To(Address, Address),
    Subject(Draft),
}

impl Default for DraftReader {
    fn default() -> Self {
        Self {
            stage: Stage::Nothing,
            lines: 0,
            is_complete: false,
            error: None,
        }
    }
}

impl DraftReader {
    /// Takes the next line, with or without its LF or CRLF.
    ///
    /// After an error the lines are only counted.
    pub fn line(&mut self, line: &[u8]) -> Progress {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.lines += 1;
        // Windows' editors put a mark before the first line; it is not part of it.
        let line = match line.strip_prefix("\u{feff}".as_bytes()) {
            Some(rest) if self.lines == 1 => rest,
            _ => line,
        };
        if self.error.is_none()
            && let Err(rule) = self.take(line)
        {
            let line = self.lines;
            self.error = Some(DraftError { line, rule });
        }
        self.is_complete |= line == b".";
        if self.is_complete {
            Progress::Complete
        } else {
            Progress::More
        }
    }

    /// The first rule that was broken, if one was; a caller need not read on then.
    #[must_use]
    pub fn error(&self) -> Option<&DraftError> {
        self.error.as_ref()
    }

    /// Ends the mail, at its full stop or at the end of input.
    ///
    /// # Errors
    ///
    /// The first rule that was broken.
    pub fn finish(self) -> Result<Draft, DraftError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let field = match self.stage {
            Stage::Subject(draft) => return Ok(draft),
            Stage::Nothing => Field::From,
            Stage::From(_) => Field::To,
            Stage::To(..) => Field::Subject,
        };
        Err(DraftError {
            line: self.lines + 1,
            rule: Rule::Missing(field, Got::End),
        })
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Rule> {
        if self.is_complete {
            let is_blank = line.trim_ascii().is_empty();
            return is_blank.then_some(()).ok_or(Rule::AfterFullStop);
        }
        check_octets(line)?;
        match &mut self.stage {
            Stage::Nothing => {
                self.stage = Stage::From(address(Field::From, line)?);
            }
            Stage::From(from) => {
                let to = address(Field::To, line)?;
                self.stage = Stage::To(from.clone(), to);
            }
            Stage::To(from, to) => {
                self.stage = Stage::Subject(Draft {
                    subject: subject(line)?,
                    from: from.clone(),
                    to: to.clone(),
                    body: Vec::new(),
                });
            }
            Stage::Subject(_) if line == b"." => {}
            Stage::Subject(draft) if draft.body.len() + line.len() >= BODY_OCTETS_MAX => {
                return Err(Rule::BodyTooLong);
            }
            Stage::Subject(draft) => {
                draft.body.extend_from_slice(line);
                draft.body.push(b'\n');
            }
        }
        Ok(())
    }
}

fn check_octets(line: &[u8]) -> Result<(), Rule> {
    if line.len() > LINE_OCTETS_MAX {
        return Err(Rule::LineTooLong);
    }
    match memchr2(b'\r', 0, line) {
        None => Ok(()),
        Some(at) if line[at] == 0 => Err(Rule::Nul),
        Some(_) => Err(Rule::BareCr),
    }
}

fn address(field: Field, line: &[u8]) -> Result<Address, Rule> {
    let value = value(field, line)?;
    if value.is_empty() {
        return Err(Rule::NoAddress(field));
    }
    Address::parse(value).map_err(|error| {
        if value.ends_with('>') {
            Rule::NotBare(field)
        } else {
            Rule::Address(field, error)
        }
    })
}

fn subject(line: &[u8]) -> Result<String, Rule> {
    let value = value(Field::Subject, line)?;
    match value.chars().count() {
        ..=SUBJECT_CHARACTERS_MAX => Ok(value.to_owned()),
        count => Err(Rule::SubjectTooLong(count)),
    }
}

/// What follows `Name:`, without white space at either end. A tab within is no control
/// character here; header fields may hold it (RFC 5322 §2.2).
fn value(field: Field, line: &[u8]) -> Result<&str, Rule> {
    match line {
        b"." => return Err(Rule::Missing(field, Got::FullStop)),
        b"" => return Err(Rule::Missing(field, Got::EmptyLine)),
        _ => {}
    }
    let name = field.name();
    let value = line
        .split_at_checked(name.len())
        .filter(|(head, _)| head.eq_ignore_ascii_case(name.as_bytes()))
        .and_then(|(_, rest)| rest.strip_prefix(b":"))
        .ok_or(Rule::Missing(field, Got::AnotherLine))?;
    let value = std::str::from_utf8(value).map_err(|_| Rule::Character(field))?;
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Rule::Character(field));
    }
    Ok(value.trim_matches([' ', '\t']))
}

fn write_subject(subject: &str, text: &mut Vec<u8>) {
    const NAME: &str = "Subject: ";
    text.extend_from_slice(NAME.as_bytes());
    if subject.is_ascii() {
        text.extend_from_slice(subject.as_bytes());
        text.push(b'\n');
        return;
    }
    let mut folded = Vec::new();
    Text::new(subject).write_header(&mut folded, NAME.len());
    text.extend(folded.into_iter().filter(|&octet| octet != b'\r'));
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "From: stallings@localhost\n\
                           To: andrew@localhost\n\
                           Subject: SMTP Experiment\n\
                           Next evaluation will be on 22 March 2021.\n\
                           Please be ready.\n\
                           .\n";

    /// Reads as the commands do; also gives the number of the line that ended the mail.
    fn read(text: &[u8]) -> (Result<Draft, DraftError>, Option<usize>) {
        let mut reader = DraftReader::default();
        let lines = text.split_inclusive(|&octet| octet == b'\n');
        let progress: Vec<Progress> = lines.map(|line| reader.line(line)).collect();
        let end = progress.iter().position(|&come| come == Progress::Complete);
        (reader.finish(), end.map(|end| end + 1))
    }

    fn draft(text: &str) -> Draft {
        read(text.as_bytes())
            .0
            .unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn with_subject(subject: &str) -> String {
        format!("From: a@b\nTo: c@d\nSubject: {subject}\n")
    }

    #[test]
    fn the_example_of_the_lab() {
        let draft = draft(EXAMPLE);
        assert_eq!(draft.from.to_string(), "stallings@localhost");
        assert_eq!(draft.to.to_string(), "andrew@localhost");
        assert_eq!(draft.subject, "SMTP Experiment");
        let message = draft.into_message();
        assert_eq!(
            String::from_utf8(message.text.clone()).unwrap(),
            "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\n\
             Next evaluation will be on 22 March 2021.\nPlease be ready.\n"
        );
        assert!(!message.needs_eight_bit_mime() && !message.needs_smtp_utf8());
    }

    #[test]
    fn mails_that_are_taken() {
        let cases: [(&str, &str, &str, &str); 13] = [
            ("no body", "From: a@b\nTo: c@d\nSubject: x\n.\n", "x", ""),
            (
                "no full stop",
                "From: a@b\nTo: c@d\nSubject: x\nbody",
                "x",
                "body\n",
            ),
            (
                "nothing after the subject",
                "From: a@b\nTo: c@d\nSubject: x",
                "x",
                "",
            ),
            (
                "names in any case",
                "FROM: a@b\nto: c@d\nsUBJECT: x\n.\n",
                "x",
                "",
            ),
            (
                "no space after the colon",
                "From:a@b\nTo:c@d\nSubject:x\n.\n",
                "x",
                "",
            ),
            (
                "white space around",
                "From: \ta@b \nTo: c@d\t\nSubject:  x \n.\n",
                "x",
                "",
            ),
            (
                "empty subject",
                "From: a@b\nTo: c@d\nSubject:\nx\n.\n",
                "",
                "x\n",
            ),
            (
                "CRLF",
                "From: a@b\r\nTo: c@d\r\nSubject: x\r\ny\r\n.\r\n\r\n",
                "x",
                "y\n",
            ),
            (
                "blank line after the subject",
                "From: a@b\nTo: c@d\nSubject: x\n\ny\n.\n",
                "x",
                "\ny\n",
            ),
            (
                "full stops that end nothing",
                "From: a@b\nTo: c@d\nSubject: x\n..\n. \n.y\n.",
                "x",
                "..\n. \n.y\n",
            ),
            (
                "a body like a header",
                "From: a@b\nTo: c@d\nSubject: x\nFrom: q@r\n.\n",
                "x",
                "From: q@r\n",
            ),
            (
                "a byte order mark",
                "\u{feff}From: a@b\nTo: c@d\nSubject: x\n.\n",
                "x",
                "",
            ),
            (
                "a tab in the subject",
                "From: a@b\nTo: c@d\nSubject: x\ty\n.\n",
                "x\ty",
                "",
            ),
        ];
        for (what, text, subject, body) in cases {
            let draft = draft(text);
            assert_eq!(draft.from.to_string(), "a@b", "{what}");
            assert_eq!(draft.to.to_string(), "c@d", "{what}");
            assert_eq!(draft.subject, subject, "{what}");
            assert_eq!(String::from_utf8(draft.body).unwrap(), body, "{what}");
        }
    }

    #[test]
    fn the_broken_rule_is_named_with_its_line() {
        let long = "x".repeat(999);
        let at_line_4 = with_subject("x");
        let cases: Vec<(&str, String, &str)> = vec![
            (
                "nothing",
                String::new(),
                "line 1: `From: X@Y` must stand here, got the end of input",
            ),
            (
                "only the full stop",
                ".\n".into(),
                "line 1: `From: X@Y` must stand here, got the final full stop",
            ),
            (
                "an empty line first",
                format!("\n{EXAMPLE}"),
                "line 1: `From: X@Y` must stand here, got an empty line",
            ),
            (
                "wrong order",
                "To: a@b\nFrom: c@d\nSubject: x\n.\n".into(),
                "line 1: `From: X@Y` must stand here, got something else",
            ),
            (
                "no To",
                "From: a@b\nSubject: x\n.\n".into(),
                "line 2: `To: X@Y` must stand here, got something else",
            ),
            (
                "no Subject",
                "From: a@b\nTo: c@d\n".into(),
                "line 3: `Subject: text` must stand here, got the end of input",
            ),
            (
                "a space before the colon",
                "From : a@b\n".into(),
                "line 1: `From: X@Y` must stand here, got something else",
            ),
            (
                "no @",
                "From: a@b\nTo: andrew\nSubject: x\n.\n".into(),
                "line 2: To must be one address, X@Y: `@` is missing",
            ),
            (
                "no address",
                "From: \n".into(),
                "line 1: From must be one address, X@Y: it is empty",
            ),
            (
                "two addresses",
                "From: a@b\nTo: c@d, e@f\n".into(),
                "line 2: To must be one address, X@Y: ',' cannot stand after `@`, nor behind the address",
            ),
            (
                "a space",
                "From: a b@c\n".into(),
                "line 1: From must be one address, X@Y: ' ' cannot stand before `@`",
            ),
            (
                "a display name",
                "From: A B <a@b>\n".into(),
                "line 1: From must be one address, X@Y: without a name and without `<` and `>`",
            ),
            (
                "angle brackets",
                "From: <a@b>\n".into(),
                "line 1: From must be one address, X@Y: without a name and without `<` and `>`",
            ),
            (
                "a long subject",
                with_subject(&"ä".repeat(51)),
                "line 3: Subject has 51 characters, takes at most 50",
            ),
            (
                "a control character",
                with_subject("a\u{1b}b"),
                "line 3: Subject must be UTF-8 text without control characters",
            ),
            (
                "a bare CR",
                format!("{at_line_4}a\rb\n"),
                "line 4: a carriage return within the line cannot be sent",
            ),
            (
                "an octet 0",
                format!("{at_line_4}ok\na\0b\n"),
                "line 5: an octet 0 cannot be sent",
            ),
            (
                "a long line",
                format!("{at_line_4}{long}\n.\n"),
                "line 4: the line has more than 998 octets, which mail cannot carry",
            ),
        ];
        for (what, text, expected) in cases {
            let error = read(text.as_bytes()).0.expect_err(what);
            assert_eq!(error.to_string(), expected, "{what}");
        }
        let not_utf8 = b"From: a@b\nTo: c@d\nSubject: \xff\n";
        assert_eq!(
            read(not_utf8).0.unwrap_err().rule,
            Rule::Character(Field::Subject)
        );
    }

    #[test]
    fn limits_are_reached_but_not_passed() {
        for subject in ["x".repeat(50), "ä".repeat(50)] {
            assert_eq!(draft(&with_subject(&subject)).subject, subject);
        }
        let line = "x".repeat(998);
        let text = format!("{}{line}\r\n.\r\n", with_subject("x"));
        assert_eq!(draft(&text).body.len(), 999);
    }

    #[test]
    fn nothing_may_follow_the_full_stop() {
        for blank in ["", "\n", " \r\n\n"] {
            let (draft, end) = read(format!("{EXAMPLE}{blank}").as_bytes());
            assert!(draft.is_ok(), "{blank:?}");
            assert_eq!(end, Some(6));
        }
        for (more, line) in [("more\n", 7), ("\n\nFrom: a@b\n", 9), (".\n", 7)] {
            let (error, end) = read(format!("{EXAMPLE}{more}").as_bytes());
            let rule = Rule::AfterFullStop;
            assert_eq!(error, Err(DraftError { line, rule }), "{more:?}");
            assert_eq!(end, Some(6));
        }
        let (error, end) = read(b"From: a\nx\ny\n.\nz\n");
        assert_eq!(
            (error.unwrap_err().line, end),
            (1, Some(4)),
            "a bad mail has its end too"
        );
    }

    #[test]
    fn what_is_not_ascii_is_declared() {
        let body = |body: &[u8]| {
            let mut draft = draft(&with_subject("x"));
            draft.body = body.to_vec();
            draft.into_message()
        };
        let message = body("Grüße\n".as_bytes());
        assert_eq!(
            String::from_utf8_lossy(&message.text),
            "From: a@b\nTo: c@d\nSubject: x\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n"
        );
        assert!(message.needs_eight_bit_mime() && !message.needs_smtp_utf8());
        let text = body(b"Gr\xfc\xdfe\n").text;
        assert!(String::from_utf8_lossy(&text).contains("charset=unknown-8bit\n"));

        let message = draft("From: jürgen@b\nTo: c@d\nSubject: x\n.\n").into_message();
        assert!(message.text.starts_with("From: jürgen@b\n".as_bytes()));
        assert!(message.needs_smtp_utf8());
    }

    #[test]
    fn subjects_are_encoded_and_read_back() {
        for subject in [
            "Grüße",
            &"ä".repeat(50),
            &"日本語".repeat(16),
            "🙂 x\ty  z 🙂",
            "ä =?utf-8?Q?x?= _",
            "a plain beginning that is rather long, then é",
        ] {
            let message = draft(&with_subject(subject)).into_message();
            assert!(message.text.is_ascii(), "{subject}");
            assert!(!message.needs_eight_bit_mime(), "{subject}");
            let text = String::from_utf8(message.text).unwrap();
            for line in text.lines() {
                assert!(line.len() <= 78, "{line}");
                for word in line.split_whitespace() {
                    assert!(word.len() <= 75, "{word} (RFC 2047 §2)");
                }
            }
            let parsed = mail_parser::MessageParser::new().parse(&text).unwrap();
            assert_eq!(parsed.subject(), Some(subject));
        }
        // What is ASCII stands as it was typed, whatever it looks like.
        let message = draft(&with_subject("=?utf-8?Q?x?=")).into_message();
        assert!(
            String::from_utf8(message.text)
                .unwrap()
                .contains("Subject: =?utf-8?Q?x?=\n")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(read(&text));
            let prefixed = [with_subject("x").as_bytes(), &text].concat();
            if let Ok(draft) = read(&prefixed).0 {
                drop(draft.into_message());
            }
        }
    }
}
