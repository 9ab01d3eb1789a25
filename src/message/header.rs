//! Header fields: find them, unfold them, read what they say (RFC 5322 §2.2, RFC 2047).
//!
//! Text has LF line ends here. A header section ends at the first empty line, or at the first line
//! that is no header field: a message whose first line is none is all body.

use std::borrow::Cow;

use memchr::memchr;

/// A header field as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, in the spelling of the text.
    pub name: &'a [u8],
    /// What follows the colon, folded lines and all, without the last line end.
    pub value: &'a [u8],
}

/// The header section at the start of a text.
#[derive(Debug)]
pub struct Section<'a> {
    /// The fields, in order.
    pub fields: Vec<Field<'a>>,
    /// Where the body begins; an empty line before it is not part of it.
    pub body: usize,
}

impl<'a> Section<'a> {
    /// Reads the fields at the start of `text`.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Self {
        let mut section = Section {
            fields: Vec::new(),
            body: text.len(),
        };
        let mut at = 0;
        while at < text.len() {
            let end = line_end(text, at);
            let line = &text[at..end];
            if line.is_empty() {
                section.body = end + 1;
                break;
            }
            let Some(colon) = field_name(line) else {
                section.body = at;
                break;
            };
            let mut last = end;
            while matches!(text.get(last + 1), Some(b' ' | b'\t')) {
                last = line_end(text, last + 1);
            }
            section.fields.push(Field {
                name: &line[..colon],
                value: &text[at + colon + 1..last],
            });
            at = last + 1;
        }
        section.body = section.body.min(text.len());
        section
    }

    /// The fields of that name, in any case.
    pub fn named<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Field<'a>> + 's {
        self.fields
            .iter()
            .copied()
            .filter(move |field| field.is(name))
    }
}

impl<'a> Field<'a> {
    /// Whether this is the field's name, in any case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line (RFC 5322 §2.2.3), without white space in front.
    #[must_use]
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        let value = self.value.trim_ascii_start();
        if memchr(b'\n', value).is_none() {
            return value.into();
        }
        let value = value.iter().copied();
        value.filter(|&octet| octet != b'\n').collect()
    }

    /// The value as a person reads it: unfolded, encoded words decoded (RFC 2047), control
    /// characters replaced by spaces, at most `characters_max` characters.
    #[must_use]
    pub fn readable(&self, characters_max: usize) -> String {
        let value = self.unfolded();
        let text = if memchr::memmem::find(&value, b"=?").is_some() {
            decoded(&value).into()
        } else {
            String::from_utf8_lossy(&value)
        };
        let text = text
            .trim_end()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c });
        text.take(characters_max).collect()
    }
}

fn decoded(value: &[u8]) -> String {
    let field = [b"Subject: ", value, b"\n\n"].concat();
    mail_parser::MessageParser::new()
        .header_text("Subject")
        .parse(&field)
        .and_then(|message| message.subject().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(value).into_owned())
}

fn line_end(text: &[u8], at: usize) -> usize {
    memchr(b'\n', &text[at..]).map_or(text.len(), |length| at + length)
}

// field-name = 1*ftext ; ftext = %d33-57 / %d59-126 ; older mail has white space before the colon
fn field_name(line: &[u8]) -> Option<usize> {
    let colon = memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let good = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    good.then_some(colon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Vec<(&str, String)>, &str) {
        let section = Section::parse(text.as_bytes());
        let fields = section
            .fields
            .iter()
            .map(|field| {
                (
                    std::str::from_utf8(field.name).unwrap(),
                    field.readable(100),
                )
            })
            .collect();
        (fields, &text[section.body..])
    }

    #[test]
    fn a_header_section_ends_where_its_fields_end() {
        let from = ("From", "a@b".to_owned());
        let subject = ("Subject", "x y".to_owned());
        for (what, text, fields, body) in [
            (
                "empty line",
                "From: a@b\n\nhi\n",
                vec![from.clone()],
                "hi\n",
            ),
            (
                "two empty lines",
                "From: a@b\n\n\nhi\n",
                vec![from.clone()],
                "\nhi\n",
            ),
            (
                "no empty line",
                "From: a@b\nhi there\n",
                vec![from.clone()],
                "hi there\n",
            ),
            ("no body", "From: a@b\n", vec![from.clone()], ""),
            (
                "no body, empty line",
                "From: a@b\n\n",
                vec![from.clone()],
                "",
            ),
            (
                "folded",
                "From: a@b\nSubject: x\n y\n\nhi\n",
                vec![from, subject],
                "hi\n",
            ),
            ("no header", "hello\n", vec![], "hello\n"),
            ("body at once", "\nFrom: a@b\n", vec![], "From: a@b\n"),
            ("continuation of nothing", " x: y\n", vec![], " x: y\n"),
            ("nothing", "", vec![], ""),
            ("cut off", "From", vec![], "From"),
        ] {
            assert_eq!(parts(text), (fields, body), "{what}");
        }
    }

    #[test]
    fn subjects_are_readable() {
        for (value, read) in [
            ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
            ("=?iso-8859-1?Q?Gr=FC=DFe?= you", "Grüße you"),
            ("=?utf-8?q?a?=\n =?utf-8?q?b?=", "ab"),
            ("plain =? text", "plain =? text"),
            ("a\tb\u{1b}[31m", "a b [31m"),
        ] {
            let text = format!("Subject: {value}\n\n");
            let section = Section::parse(text.as_bytes());
            assert_eq!(section.fields[0].readable(100), read, "{value}");
        }
        let text = format!("Subject: {}\n", "ü".repeat(200));
        assert_eq!(
            Section::parse(text.as_bytes()).fields[0]
                .readable(100)
                .chars()
                .count(),
            100
        );
    }
}
