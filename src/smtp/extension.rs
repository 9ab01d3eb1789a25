//! EHLO keywords: what a server offers and what a client makes of the answer (RFC 5321 §4.1.1.1).

use crate::sasl::Mechanism;

use super::reply::Reply;

/// More than the keywords mostly take.
const KEYWORDS_OCTETS: usize = 160;

/// The extensions of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Commands may be sent without waiting for replies (RFC 2920).
    pub pipelining: bool,
    /// The largest message: `Some(0)` where there is no fixed limit (RFC 1870).
    pub size: Option<u64>,
    /// Text may come in counted chunks, by BDAT (RFC 3030).
    pub chunking: bool,
    /// Text may have octets above 127 (RFC 6152).
    pub eight_bit_mime: bool,
    /// Addresses may be non-ASCII (RFC 6531).
    pub smtp_utf8: bool,
    /// Replies carry codes like `5.1.1` (RFC 2034).
    pub enhanced_status_codes: bool,
    /// TLS may begin (RFC 3207).
    pub start_tls: bool,
    /// Ways to log in (RFC 4954).
    pub auth: Vec<Mechanism>,
    /// The server has AUTH, perhaps with no mechanism that we know.
    pub has_auth: bool,
}

impl Extensions {
    /// The keywords of the EHLO answer, a line each.
    #[must_use]
    pub fn keywords(&self) -> String {
        let mut lines = String::with_capacity(KEYWORDS_OCTETS);
        let mut offer = |is_offered: bool, words: &[&str]| {
            if is_offered {
                lines.extend(words.iter().copied());
                lines.push('\n');
            }
        };
        offer(self.pipelining, &["PIPELINING"]);
        if let Some(size) = self.size {
            offer(true, &["SIZE ", &size.to_string()]);
        }
        offer(self.chunking, &["CHUNKING"]);
        offer(self.eight_bit_mime, &["8BITMIME"]);
        offer(self.smtp_utf8, &["SMTPUTF8"]);
        offer(self.enhanced_status_codes, &["ENHANCEDSTATUSCODES"]);
        offer(self.start_tls, &["STARTTLS"]);
        if !self.auth.is_empty() {
            lines.push_str("AUTH");
            for mechanism in &self.auth {
                lines.extend([" ", mechanism.name()]);
            }
            lines.push('\n');
        }
        lines.push_str("HELP");
        lines
    }

    /// Reads the answer to EHLO. Unknown keywords are ignored.
    #[must_use]
    pub fn parse(ehlo: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in ehlo.lines().skip(1) {
            // `AUTH=PLAIN` is how servers of the last century wrote it.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            let Some(keyword) = words.next() else {
                continue;
            };
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => extensions.pipelining = true,
                "SIZE" => {
                    extensions.size = words.next().and_then(|n| n.parse().ok()).or(Some(0));
                }
                "CHUNKING" => extensions.chunking = true,
                "8BITMIME" => extensions.eight_bit_mime = true,
                "SMTPUTF8" => extensions.smtp_utf8 = true,
                "STARTTLS" => extensions.start_tls = true,
                "ENHANCEDSTATUSCODES" => extensions.enhanced_status_codes = true,
                "AUTH" => {
                    extensions.has_auth = true;
                    for mechanism in words.filter_map(Mechanism::parse) {
                        if !extensions.auth.contains(&mechanism) {
                            extensions.auth.push(mechanism);
                        }
                    }
                }
                _ => {}
            }
        }
        extensions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_understood() {
        let offered = Extensions {
            pipelining: true,
            size: Some(26_214_400),
            chunking: true,
            eight_bit_mime: true,
            smtp_utf8: true,
            enhanced_status_codes: true,
            start_tls: true,
            auth: Mechanism::ALL.to_vec(),
            has_auth: true,
        };
        let reply = Reply::ehlo("mx.example", "c.example", &offered.keywords());
        assert_eq!(Extensions::parse(&reply), offered);
    }

    #[test]
    fn keywords_of_others() {
        let parse = |keywords: &str| Extensions::parse(&Reply::ehlo("a", "b", keywords));
        assert_eq!(parse("size").size, Some(0));
        assert_eq!(parse("SIZE 99999999999999999999999").size, Some(0));
        assert_eq!(parse("AUTH=LOGIN CRAM-MD5").auth, [Mechanism::Login]);
        assert!(parse("AUTH GSSAPI").has_auth && parse("AUTH GSSAPI").auth.is_empty());
        assert_eq!(parse("XYZZY\n\nETRN"), Extensions::default());
        assert!(parse("starttls").start_tls);
        // The first line is a name, not a keyword.
        assert!(!Extensions::parse(&Reply::helo("PIPELINING", "x")).pipelining);
    }
}
