//! POP3 (RFC 1939) without I/O, and beside it the eight verbs of Teena's lab, on one listener.
//!
//! The server's states, and what moves it between them:
//!
//! ```text
//! Authorization --USER, PASS--> Transaction --QUIT--> UPDATE, closed
//!   |  ^   |  ^                  |  ^   |  ^
//!   |  |   |  +------DONEU-------+  |   |  | end of the text, `###`
//!   |  |   +---USER (in the lab)----+   |  |
//! AUTH |                              SEND |
//!   v  | -ERR                           v  |
//! Login --+OK--> Transaction           Letter
//! ```
//!
//! Supported: USER PASS STAT LIST RETR TOP UIDL DELE NOOP RSET QUIT, CAPA (RFC 2449), AUTH PLAIN
//! (RFC 5034), STLS (RFC 2595), UTF8 (RFC 6856), response codes (RFC 2449, RFC 3206) and pipelining;
//! and LSTU ADDU READM DELM SEND DONEU. APOP needs passwords in clear on the server and is refused.
//! STLS leads back to where Authorization began, with all forgotten that was said before.
//!
//! Where the two protocols meet:
//!
//! - Message numbers are fixed for a session. What DELE marks and what DELM removes is gone for
//!   every verb.
//! - DELE takes effect at QUIT and at nothing else: marks that are there at DONEU are forgotten,
//!   as when the connection is lost. DELM takes effect at once.
//! - In the lab USER alone opens a mailbox. A PASS that follows is answered as if it were right,
//!   and AUTH PLAIN takes any password, so that mail programs work there too.

pub mod client;
pub mod command;
pub mod limits;
mod maildrop;
pub mod reply;
pub mod server;

use command::Command;
use reply::Reply;

/// What happened in a session. Secrets are redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A command, understood.
    Command(Command),
    /// A line that is no command, made safe to print; empty where it might be a password or part
    /// of a message.
    Malformed(String),
    /// An answer to a challenge of AUTH; what it was is nobody's business.
    AuthResponse,
    /// A line of the text after SEND, as many octets.
    Content(u64),
    /// A reply, or the first line of one.
    Reply(Reply),
    /// TLS is there, of this version.
    Secured(&'static str),
}
