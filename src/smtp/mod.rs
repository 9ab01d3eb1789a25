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
//! ```
//!
//! Supported: EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP AUTH, and the extensions SIZE
//! (RFC 1870), PIPELINING (2920), 8BITMIME (6152), SMTPUTF8 (6531), ENHANCEDSTATUSCODES (2034)
//! and AUTH (4954) with PLAIN and LOGIN.

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
    /// A piece of message text, as many octets. Clients give the text itself in
    /// [`Event::Text`] too.
    Content(u64),
    /// A piece of message text with LF line ends, as a client sends it.
    Text(Vec<u8>),
    /// A reply.
    Reply(Reply),
}
