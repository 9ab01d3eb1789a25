//! A message on its way out: the text, the envelope, and what both ask of a server.

use memchr::memchr_iter;

use crate::address::ForwardPath;

use super::envelope::Envelope;

/// A message ready to be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Who it is from and whom it is for.
    pub envelope: Envelope,
    /// Header section, empty line and body. Lines end with LF; there is no CR and no NUL.
    pub text: Vec<u8>,
    /// The header section holds raw UTF-8 (RFC 6532).
    pub has_utf8_header: bool,
}

impl Outgoing {
    /// Whether only a server with 8BITMIME may be given it (RFC 6152).
    #[must_use]
    pub fn needs_eight_bit_mime(&self) -> bool {
        !self.text.is_ascii()
    }

    /// Whether only a server with SMTPUTF8 may be given it (RFC 6531).
    #[must_use]
    pub fn needs_smtp_utf8(&self) -> bool {
        let sender = self.envelope.reverse_path.address();
        let recipients = self.envelope.forward_paths.iter();
        let mut addresses = sender
            .into_iter()
            .chain(recipients.filter_map(ForwardPath::address));
        self.has_utf8_header || addresses.any(|address| !address.is_ascii())
    }

    /// The size as SIZE counts it: with CRLF line ends, without dot-stuffing (RFC 1870 §5).
    #[must_use]
    pub fn octets(&self) -> u64 {
        let line_feeds = memchr_iter(b'\n', &self.text).count();
        let open_line = usize::from(!self.text.is_empty() && !self.text.ends_with(b"\n"));
        (self.text.len() + line_feeds + 2 * open_line) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, ReversePath};

    fn outgoing(to: &str, text: &str) -> Outgoing {
        let address = |text| Address::parse(text).unwrap();
        Outgoing {
            envelope: Envelope {
                reverse_path: ReversePath::Address(address("a@b")),
                forward_paths: vec![ForwardPath::Address(address(to))],
            },
            text: text.into(),
            has_utf8_header: false,
        }
    }

    #[test]
    fn a_message_says_what_it_needs() {
        for (to, text, eight_bit, utf8, octets) in [
            ("c@d", "", false, false, 0),
            ("c@d", "Subject: x\n\nline\n", false, false, 20),
            ("c@d", "Subject: x\n\nline", false, false, 20),
            ("c@d", "Subject: x\n\nä\n", true, false, 18),
            ("ä@d", "Subject: x\n\n", false, true, 14),
        ] {
            let message = outgoing(to, text);
            assert_eq!(message.needs_eight_bit_mime(), eight_bit, "{text:?}");
            assert_eq!(message.needs_smtp_utf8(), utf8, "{text:?}");
            assert_eq!(message.octets(), octets, "{text:?}");
        }
    }
}
