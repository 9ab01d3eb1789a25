//! SMTP (RFC 5321) without I/O: a server's side and a client's side over one vocabulary of
//! commands, replies, extensions and limits.
//!
//! The server's states, and what moves it between them:
//!
//! ```text
//! Greeted --EHLO/HELO--> Ready --MAIL--> Mail --RCPT--> Mail (with recipients)
//!                        | ^                              | DATA, 354
//!                   AUTH | | 235, 535, 501                v
//!                        v |                             Data --full stop--> Ready
//!                     Login         (EHLO, HELO, RSET lead back to Ready from everywhere)
//!
//! Mail (with recipients) --BDAT--> Chunk --250--> between chunks --BDAT--> Chunk
//!                                    |  LAST, all octets are here --> Ready
//!                                    +--refused--> Failed (until RSET)
//! ```
//!
//! STARTTLS leads from Ready to Greeted, and all that was said before is forgotten.
//!
//! Supported: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP AUTH STARTTLS, and the extensions SIZE
//! (RFC 1870), PIPELINING (2920), CHUNKING (3030), 8BITMIME (6152), SMTPUTF8 (6531),
//! ENHANCEDSTATUSCODES (2034), STARTTLS (3207) and AUTH (4954) with SCRAM-SHA-256, PLAIN and LOGIN. LMTP (2033) is the same with
//! LHLO, and a reply for each recipient.
//!
//! The parameters of DSN (3461) are taken, and change nothing: mail is stored or refused while the
//! client waits, so there is no failure to report later. The keyword is not offered, because the
//! report of success that NOTIFY=SUCCESS asks for would have to be sent, and this server sends no
//! mail; a relay that does not see the keyword makes that report itself (§5.2.2).

pub mod client;
pub mod command;
pub mod extension;
pub mod limits;
pub mod reply;
pub mod server;

use command::Command;
use reply::Reply;

/// What happened in a session, on either side: commands go from client to server, replies back.
/// Secrets are redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A command, understood.
    Command(Command),
    /// A line that is no command, made safe to print; empty where it might be a password.
    Malformed(String),
    /// An answer to a challenge of AUTH; what it was is nobody's business.
    AuthResponse,
    /// A piece of message text that a server took, as many octets.
    Content(u64),
    /// A piece of message text that a client sent, LF line ends, not dot-stuffed. The final full
    /// stop goes without saying.
    Text(Vec<u8>),
    /// A reply.
    Reply(Reply),
    /// TLS is there, of this version.
    Secured(&'static str),
    /// To a client, a server has said nothing for so long that whoever waits may want to know. It is
    /// waited for all the same.
    Silence,
}
