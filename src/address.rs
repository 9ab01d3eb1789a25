//! Addresses: `local-part@domain` and the paths of an SMTP envelope (RFC 5321 §4.1.2, §4.1.3).
//!
//! Non-ASCII local parts and domains are parsed too (RFC 6531 §3.3); whether they are allowed is
//! the session's to say ([`Address::is_ascii`]).

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// The longest local part, in octets (RFC 5321 §4.5.3.1.1).
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// The longest domain, in octets (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// The longest path, in octets, with its angle brackets and source route (RFC 5321 §4.5.3.1.3).
pub const PATH_OCTETS_MAX: usize = 256;

/// A mailbox address, `Mailbox` in RFC 5321's grammar.
///
/// The local part is held without quotes and backslashes, so that `"joe"@d` and `joe@d` are
/// equal; it is written with the fewest quotes that will do. Its case is kept. The domain is held and
/// compared as it is written: `[127.0.0.1]` and `[127.0.0.01]` are two. A clone shares the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The local part, `@`, the domain.
    text: Arc<str>,
    /// Where that `@` is.
    at: usize,
    /// It is written without quotes.
    is_plain: bool,
}

impl Address {
    /// Takes one address and nothing else: no display name, no angle brackets.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (address, rest) = mailbox(text)?;
        match rest.chars().next() {
            None => Ok(address),
            Some(other) => Err(AddressError::Trailing(other)),
        }
    }

    /// The part before the `@`, unquoted.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// The part after the `@`; an address literal has its brackets.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// Whether it can be sent without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// Whether both name one mailbox of ours: case does not count, in the domain by RFC 5321
    /// §2.4, in the local part because user names have none.
    #[must_use]
    pub fn is_same_mailbox(&self, other: &Self) -> bool {
        let is_same = |a: &str, b: &str| {
            // Letters beyond ASCII may have a small form within it.
            a.eq_ignore_ascii_case(b)
                || !(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase()
        };
        is_same(self.local_part(), other.local_part()) && is_same(self.domain(), other.domain())
    }

    fn fmt_in_brackets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<")?;
        fmt::Display::fmt(self, f)?;
        f.write_str(">")
    }

    /// Whether `text` is an address, of this mailbox of ours.
    #[must_use]
    pub fn is_written(&self, text: &str) -> bool {
        // As it mostly is written, it need not be parsed.
        (self.is_plain && *self.text == *text)
            || Self::parse(text).is_ok_and(|other| self.is_same_mailbox(&other))
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain {
            return f.write_str(&self.text);
        }
        f.write_str("\"")?;
        for c in self.local_part().chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            f.write_char(c)?;
        }
        f.write_str("\"@")?;
        f.write_str(self.domain())
    }
}

/// The address as it is written.
impl From<&Address> for Arc<str> {
    fn from(address: &Address) -> Self {
        if address.is_plain {
            Self::clone(&address.text)
        } else {
            address.to_string().into()
        }
    }
}

/// Where failures are reported to: the argument of MAIL FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: nobody; a notification that must not be answered (RFC 5321 §4.5.5).
    Null,
    /// An address.
    Address(Address),
}

impl ReversePath {
    /// Takes a path at the start of `text`; also gives what follows it. A source route is
    /// dropped (RFC 5321 appendix C).
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<(Self, &str), AddressError> {
        if let Some(rest) = text.strip_prefix("<>") {
            return Ok((Self::Null, rest));
        }
        let (address, rest) = path(text)?;
        Ok((Self::Address(address), rest))
    }

    /// The address; `None` for the null path.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl fmt::Display for ReversePath {
    /// Writes the path with its angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Address(address) => address.fmt_in_brackets(f),
        }
    }
}

/// Where a message goes: the argument of RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    /// `<postmaster>` without a domain, in any case (RFC 5321 §4.1.1.3).
    Postmaster,
    /// An address.
    Address(Address),
}

impl ForwardPath {
    /// Takes a path at the start of `text`; also gives what follows it. A source route is
    /// dropped (RFC 5321 appendix C).
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<(Self, &str), AddressError> {
        const POSTMASTER: &str = "<postmaster>";
        if let Some((head, rest)) = text.split_at_checked(POSTMASTER.len())
            && head.eq_ignore_ascii_case(POSTMASTER)
        {
            return Ok((Self::Postmaster, rest));
        }
        let (address, rest) = path(text)?;
        Ok((Self::Address(address), rest))
    }

    /// The address; `None` for `<postmaster>`.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Postmaster => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl fmt::Display for ForwardPath {
    /// Writes the path with its angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("<postmaster>"),
            Self::Address(address) => address.fmt_in_brackets(f),
        }
    }
}

/// Why a text is no address or path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The path does not begin with `<`.
    #[error("`<` is missing")]
    NoOpeningBracket,
    /// The path does not end with `>`.
    #[error("`>` is missing or something stands before it")]
    NoClosingBracket,
    /// A source route `@a,@b:` that is not well-formed.
    #[error("the source route is malformed")]
    SourceRoute,
    /// No local part, or one with a dot at either end, two dots in a row, a character that must
    /// be quoted, or an open quote.
    #[error("the part before `@` is malformed")]
    LocalPart,
    /// Longer than [`LOCAL_PART_OCTETS_MAX`].
    #[error("the part before `@` has more than {LOCAL_PART_OCTETS_MAX} octets")]
    LocalPartTooLong,
    /// There is no `@`.
    #[error("`@` is missing")]
    NoAt,
    /// Before the `@` stands something that has to be quoted there.
    #[error("{0:?} cannot stand before `@`")]
    BeforeAt(char),
    /// No domain name and no address literal.
    #[error("the part after `@` is malformed")]
    Domain,
    /// Longer than [`DOMAIN_OCTETS_MAX`].
    #[error("the part after `@` has more than {DOMAIN_OCTETS_MAX} octets")]
    DomainTooLong,
    /// The path is longer than [`PATH_OCTETS_MAX`].
    #[error("the path has more than {PATH_OCTETS_MAX} octets")]
    PathTooLong,
    /// Something follows the address.
    #[error("{0:?} cannot stand after `@`, nor behind the address")]
    Trailing(char),
}

/// Whether `text` is a domain name or an address literal, as EHLO takes it.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    matches!(domain(text), Ok((found, "")) if found.len() <= DOMAIN_OCTETS_MAX)
}

// Path = "<" [ A-d-l ":" ] Mailbox ">" ; A-d-l = At-domain *( "," At-domain )
fn path(text: &str) -> Result<(Address, &str), AddressError> {
    let inside = text
        .strip_prefix('<')
        .ok_or(AddressError::NoOpeningBracket)?;
    let (address, rest) = mailbox(source_route(inside)?)?;
    let rest = rest
        .strip_prefix('>')
        .ok_or(AddressError::NoClosingBracket)?;
    if text.len() - rest.len() > PATH_OCTETS_MAX {
        return Err(AddressError::PathTooLong);
    }
    Ok((address, rest))
}

fn source_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let mut rest = text;
    loop {
        rest = rest.strip_prefix('@').ok_or(AddressError::SourceRoute)?;
        rest = domain(rest).map_err(|_| AddressError::SourceRoute)?.1;
        match rest.as_bytes().first() {
            Some(b',') => rest = &rest[1..],
            Some(b':') => return Ok(&rest[1..]),
            _ => return Err(AddressError::SourceRoute),
        }
    }
}

// Mailbox = Local-part "@" ( Domain / address-literal )
fn mailbox(text: &str) -> Result<(Address, &str), AddressError> {
    let (local_part, rest) = local_part(text)?;
    let rest = rest.strip_prefix('@').ok_or_else(|| {
        let other = rest.chars().next().filter(|_| rest.contains('@'));
        other.map_or(AddressError::NoAt, AddressError::BeforeAt)
    })?;
    let (domain, rest) = domain(rest)?;
    let at = local_part.len();
    if at > LOCAL_PART_OCTETS_MAX {
        return Err(AddressError::LocalPartTooLong);
    }
    if domain.len() > DOMAIN_OCTETS_MAX {
        return Err(AddressError::DomainTooLong);
    }
    let (text, is_plain) = match local_part {
        Cow::Borrowed(_) => (text[..text.len() - rest.len()].into(), true),
        Cow::Owned(unquoted) => {
            let is_plain = is_dot_string(&unquoted);
            (format!("{unquoted}@{domain}").into(), is_plain)
        }
    };
    Ok((Address { text, at, is_plain }, rest))
}

// Local-part = Dot-string / Quoted-string ; Dot-string = Atom *("." Atom)
fn local_part(text: &str) -> Result<(Cow<'_, str>, &str), AddressError> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = quoted_string(quoted)?;
        return Ok((value.into(), rest));
    }
    let (word, rest) = text.split_at(prefix(text, |c| c == '.' || is_atext(c)));
    if are_parts(word, is_in_atom) {
        Ok((word.into(), rest))
    } else {
        Err(AddressError::LocalPart)
    }
}

// Quoted-string = DQUOTE *( %d32-33 / %d35-91 / %d93-126 / "\" %d32-126 ) DQUOTE
fn quoted_string(text: &str) -> Result<(String, &str), AddressError> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, escaped @ ' '..='~')) => value.push(escaped),
                _ => return Err(AddressError::LocalPart),
            },
            ' '..='~' => value.push(c),
            c if !c.is_ascii() && !c.is_control() => value.push(c),
            _ => return Err(AddressError::LocalPart),
        }
    }
    Err(AddressError::LocalPart)
}

fn is_dot_string(text: &str) -> bool {
    prefix(text, |c| c == '.' || is_atext(c)) == text.len() && are_parts(text, is_in_atom)
}

/// Whether each part of a text, between its full stops, begins and ends with such an octet.
fn are_parts(text: &str, may_end: impl Fn(u8) -> bool) -> bool {
    let mut last = b'.';
    for &octet in text.as_bytes() {
        if last == b'.' && !may_end(octet) || octet == b'.' && !may_end(last) {
            return false;
        }
        last = octet;
    }
    may_end(last)
}

/// How many octets at the start of a text are such characters.
fn prefix(text: &str, is_one: impl Fn(char) -> bool) -> usize {
    let mut at = 0;
    while let Some(&octet) = text.as_bytes().get(at) {
        // Nearly all are ASCII, and need not be decoded.
        let c = match octet {
            0..128 => char::from(octet),
            _ => text[at..].chars().next().unwrap_or_default(),
        };
        if !is_one(c) {
            break;
        }
        at += c.len_utf8();
    }
    at
}

/// The ASCII characters in a text, a bit each.
const fn bits(text: &[u8]) -> u128 {
    let mut bits = 0;
    let mut at = 0;
    while at < text.len() {
        bits |= 1 << text[at];
        at += 1;
    }
    bits
}

const LET_DIG: u128 = bits(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
const ATEXT: u128 = LET_DIG | bits(b"!#$%&'*+-/=?^_`{|}~");

/// Whether a character is in this set, or is beyond ASCII and visible.
fn is_in(set: u128, c: char) -> bool {
    if c.is_ascii() {
        set >> u32::from(c) & 1 == 1
    } else {
        !c.is_control() && !c.is_whitespace()
    }
}

/// Of what a dot-string may hold.
fn is_in_atom(octet: u8) -> bool {
    octet != b'.'
}

fn is_atext(c: char) -> bool {
    is_in(ATEXT, c)
}

// Domain = sub-domain *("." sub-domain) ; sub-domain = Let-dig [Ldh-str]
fn domain(text: &str) -> Result<(&str, &str), AddressError> {
    if text.starts_with('[') {
        return address_literal(text);
    }
    let (name, rest) = text.split_at(prefix(text, |c| matches!(c, '.' | '-') || is_let_dig(c)));
    if are_parts(name, |octet| !matches!(octet, b'.' | b'-')) {
        Ok((name, rest))
    } else {
        Err(AddressError::Domain)
    }
}

fn is_let_dig(c: char) -> bool {
    is_in(LET_DIG, c)
}

// address-literal = "[" ( IPv4 / "IPv6:" IPv6-addr / Standardized-tag ":" 1*dcontent ) "]"
fn address_literal(text: &str) -> Result<(&str, &str), AddressError> {
    let end = text.find(']').ok_or(AddressError::Domain)?;
    let (literal, rest) = text.split_at(end + 1);
    let inside = &literal[1..end];
    let good = match inside.split_once(':') {
        None => is_ipv4(inside),
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => is_ipv6(address),
        Some((tag, content)) => {
            tag.starts_with(|c: char| c.is_ascii_alphanumeric())
                && tag.ends_with(|c: char| c.is_ascii_alphanumeric())
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !content.is_empty()
                && content.bytes().all(|b| matches!(b, 33..=90 | 94..=126))
        }
    };
    if good {
        Ok((literal, rest))
    } else {
        Err(AddressError::Domain)
    }
}

// IPv4-address-literal = Snum 3("." Snum) ; Snum = 1*3DIGIT, decimal whatever it begins with, to 255
fn is_ipv4(text: &str) -> bool {
    let is_snum = |part: &str| {
        part.len() <= 3
            && part.bytes().all(|octet| octet.is_ascii_digit())
            && part.parse::<u8>().is_ok()
    };
    text.split('.').count() == 4 && text.split('.').all(is_snum)
}

// IPv6-addr = IPv6-full / IPv6-comp / IPv6v4-full / IPv6v4-comp ; the last two end in an IPv4 address
fn is_ipv6(text: &str) -> bool {
    match text.rfind(':').map(|colon| text.split_at(colon + 1)) {
        // The standard library takes an IPv4 address without leading zeros only.
        Some((groups, end)) if is_ipv4(end) => {
            format!("{groups}0.0.0.0").parse::<Ipv6Addr>().is_ok()
        }
        _ => text.parse::<Ipv6Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_accepted() {
        for (path, shown) in [
            ("<a@b>", "<a@b>"),
            ("<\"a b\"@c.d>", "<\"a b\"@c.d>"),
            ("<\"a@b\"@c.d>", "<\"a@b\"@c.d>"),
            ("<\"\\\"\"@c.d>", "<\"\\\"\"@c.d>"),
            ("<\"a>b@c\"@d>", "<\"a>b@c\"@d>"),
            ("<@x,@y:a@b>", "<a@b>"),
            ("<a@[127.0.0.1]>", "<a@[127.0.0.1]>"),
            ("<a@[127.000.000.1]>", "<a@[127.000.000.1]>"),
            // No octal: 08 is eight, and 0377 has too many digits.
            ("<a@[08.09.010.255]>", "<a@[08.09.010.255]>"),
            ("<a@[IPv6:::1]>", "<a@[IPv6:::1]>"),
            (
                "<a@[ipv6:::ffff:127.000.0.01]>",
                "<a@[ipv6:::ffff:127.000.0.01]>",
            ),
            (
                "<a@[IPv6:1:2:3:4:5:6:1.2.3.4]>",
                "<a@[IPv6:1:2:3:4:5:6:1.2.3.4]>",
            ),
            ("<a+b/c=d@e>", "<a+b/c=d@e>"),
            (
                "<!#$%&'*+-/=?^_`{|}~@a--b.c-d>",
                "<!#$%&'*+-/=?^_`{|}~@a--b.c-d>",
            ),
            ("<\"joe\"@d>", "<joe@d>"),
            ("<\"j\\oe\"@d>", "<joe@d>"),
            ("<\"\"@d>", "<\"\"@d>"),
            ("<Grüße@köln.example>", "<Grüße@köln.example>"),
            ("<postmaster>", "<postmaster>"),
            ("<PostMaster>", "<postmaster>"),
        ] {
            let (parsed, rest) = ForwardPath::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!((parsed.to_string().as_str(), rest), (shown, ""), "{path}");
            let again = ForwardPath::parse(shown).unwrap();
            assert_eq!(again, (parsed, ""), "{path}");
        }
        assert_eq!(
            ReversePath::parse("<> SIZE=1").unwrap(),
            (ReversePath::Null, " SIZE=1")
        );
        assert_eq!(ReversePath::parse("<a@b>x").unwrap().1, "x");
    }

    #[test]
    fn paths_that_are_refused() {
        let long = "x".repeat(65);
        for path in [
            "a@b",
            "<a@b",
            "<a b@c>",
            "<.a@b>",
            "<a.@b>",
            "<a..b@c>",
            "<a@>",
            "<@b>",
            "<a@-b>",
            "<a@b_c>",
            "<a@b-.c>",
            "<a@b.-c>",
            "<a@b..c>",
            "<a@.b>",
            "<a@b->",
            "<a\u{85}b@c>",
            "<a@b\u{a0}c>",
            "<a@b.>",
            "<a@[300.1.1.1]>",
            "<a@[256.1.1.1]>",
            "<a@[0377.1.1.1]>",
            "<a@[0001.1.1.1]>",
            "<a@[0x7f.0.0.1]>",
            "<a@[+1.1.1.1]>",
            "<a@[1.1.1]>",
            "<a@[1.1.1.]>",
            "<a@[.1.1.1]>",
            "<a@[1.1.1.1.1]>",
            "<a@[127.1]>",
            "<a@[1.1.1.1 ]>",
            "<a@[]>",
            "<a@[IPv6:1.2.3.4]>",
            "<a@[IPv6:::1.2.3.256]>",
            "<a@[IPv6:::1.2.3.4:1]>",
            "<a@[IPv6:1:2:3:4:5:6:7:1.2.3.4]>",
            "<a@[::1]>",
            "<a>",
            "<>",
            "",
            "<",
            "<a@b c>",
            "<\"a@b>",
            "<\"a\\\u{1}\"@b>",
            "<a@[x]>",
            "<a@[IPv6:zz]>",
            "<@x:@y:a@b>",
            "<a\u{0}@b>",
            "< a@b>",
            "<a@b >",
            &format!("<{long}@b>"),
            &format!("<a@{}>", "x.".repeat(130) + "x"),
        ] {
            assert!(ForwardPath::parse(path).is_err(), "{path}");
        }
        assert!(ReversePath::parse("<postmaster>").is_err());
        assert_eq!(Address::parse("a@b>x"), Err(AddressError::Trailing('>')));
        assert_eq!(Address::parse("a@b_c"), Err(AddressError::Trailing('_')));
        assert_eq!(Address::parse("A <a@b>"), Err(AddressError::BeforeAt(' ')));
        assert_eq!(Address::parse("Andrew b"), Err(AddressError::NoAt));
    }

    #[test]
    fn a_path_counts_its_brackets_and_route() {
        let domain = format!("{}.{}", "a".repeat(60), "b".repeat(60));
        let route = format!("<@{domain},@{domain}:a@b>");
        assert!(route.len() <= PATH_OCTETS_MAX && ForwardPath::parse(&route).is_ok());
        let route = format!("<@{domain},@{domain},@{domain}:a@b>");
        assert_eq!(ForwardPath::parse(&route), Err(AddressError::PathTooLong));
    }

    #[test]
    fn case_does_not_tell_mailboxes_apart() {
        let a = Address::parse("Andrew@LocalHost").unwrap();
        assert!(a.is_same_mailbox(&Address::parse("\"andrew\"@localhost").unwrap()));
        assert!(!a.is_same_mailbox(&Address::parse("andrew@other").unwrap()));
    }
}
