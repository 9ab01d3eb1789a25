//! Replies: `+OK`, `-ERR` and a text (RFC 1939 §3), response codes (RFC 2449 §8, RFC 3206), the
//! challenges of AUTH. Every reply that the server sends has its name here.

use std::borrow::Cow;
use std::fmt;

use crate::user::{UserName, UserNameError};

/// Stands in logs for a challenge that, with the response, would help to guess a password.
pub(super) const HIDDEN: &str = "<redacted>";

/// A reply of one line, or the first line of one that has more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    indicator: Indicator,
    /// `AUTH`; empty where there is none.
    code: &'static str,
    text: Cow<'static, str>,
}

/// What a reply begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indicator {
    Ok,
    Err,
    /// A challenge (RFC 5034 §4).
    Continue,
}

/// The replies that are always the same.
impl Reply {
    /// NOOP, UTF8.
    pub const OK: Self = Self::ok("");
    /// STLS. The next octets are the handshake's.
    pub const BEGIN_TLS: Self = Self::ok("begin TLS");
    /// QUIT.
    pub const GOODBYE: Self = Self::ok("goodbye");
    /// The first line of LIST and UIDL for all messages.
    pub const LIST_FOLLOWS: Self = Self::ok("list follows");
    /// The first line of CAPA.
    pub const CAPABILITIES: Self = Self::ok("capabilities follow");
    /// The first line of TOP.
    pub const TOP_FOLLOWS: Self = Self::ok("top of message follows");
    /// USER, where a password has to follow.
    pub const SEND_PASS: Self = Self::ok("send PASS");
    /// SEND.
    pub const TYPE_MESSAGE: Self = Self::ok("Type Message, end with ###");
    /// The text after SEND is stored.
    pub const DELIVERED: Self = Self::ok("delivered");
    /// DELM.
    pub const REMOVED: Self = Self::ok("message deleted");

    /// Unknown user or wrong password.
    pub const BAD_CREDENTIALS: Self = Self::err("AUTH", "invalid user name or password");
    /// The last of [`super::limits::LOGIN_FAILURES_MAX`].
    pub const TOO_MANY_LOGINS: Self =
        Self::err("AUTH", "invalid user name or password, too often, closing");
    /// Too many logins wait, from one address or in all.
    pub const LOGINS_WAIT: Self =
        Self::err("SYS/TEMP", "too many logins at the moment, try again later");
    /// Another session has the maildrop.
    pub const IN_USE: Self = Self::err("IN-USE", "mailbox is open in another session");
    /// Something failed that may work later.
    pub const TRY_LATER: Self = Self::err("SYS/TEMP", "local error, try again later");
    /// As many connections as there may be.
    pub const TOO_MANY_CONNECTIONS: Self =
        Self::err("SYS/TEMP", "too many connections, try again later");
    /// As many connections from one address as there may be.
    pub const TOO_MANY_FROM_ADDRESS: Self = Self::err(
        "SYS/TEMP",
        "too many connections from your address, try again later",
    );
    /// [`super::limits::SESSION_TIME_MAX`].
    pub const TOO_LONG_HERE: Self = Self::err("SYS/TEMP", "session lasts too long, closing");
    /// The text after SEND cannot be stored for lack of space.
    pub const NO_SPACE: Self = Self::err("SYS/TEMP", "no space left, try again later");
    /// QUIT, when what was marked is still there.
    pub const NOT_REMOVED: Self = Self::err("SYS/TEMP", "deleted messages not removed");

    /// USER or SEND names nobody.
    pub const NO_SUCH_USER: Self = Self::err("", "no such user, ADDU adds one");
    /// SEND names nobody, where users cannot be added here.
    pub const NO_SUCH_RECEIVER: Self = Self::err("", "no such user");
    /// No message has that number, or it is deleted.
    pub const NO_SUCH_MESSAGE: Self = Self::err("", "no such message");
    /// READM after the last message.
    pub const NO_MORE_MAIL: Self = Self::err("", "No More Mail");
    /// DELM, when READM has shown nothing that is still there.
    pub const NOTHING_SHOWN: Self = Self::err("", "no message shown, READM shows one");
    /// ADDU elsewhere than in the lab.
    pub const ADDU_IN_LAB_ONLY: Self = Self::err(
        "",
        "ADDU needs a server with --lab; `minismtp users add NAME` adds a user with a password",
    );

    /// A command that needs a mailbox.
    pub const LOGIN_FIRST: Self = Self::err("", "log in first, USER and PASS");
    /// The same in the lab.
    pub const USER_FIRST: Self = Self::err("", "USER first");
    /// LSTU without a login.
    pub const LSTU_NEEDS_LOGIN: Self = Self::err("", "log in first, the users are not public");
    /// A command that needs that there is no mailbox.
    pub const ALREADY_OPEN: Self = Self::err("", "a mailbox is open, DONEU or QUIT closes it");

    /// A verb that nobody knows.
    pub const UNRECOGNISED: Self = Self::err("", "command not recognised");
    /// A control character, or octets that are not UTF-8.
    pub const BAD_CHARACTER: Self = Self::err("", "command has a character that is not allowed");
    /// More than a line may have.
    pub const LINE_TOO_LONG: Self = Self::err("", "line too long");
    /// An argument where there is none.
    pub const NO_ARGUMENT: Self = Self::err("", "command takes no argument");
    /// Passwords are kept as hashes.
    pub const NO_APOP: Self = Self::err("", "APOP is not offered, use USER or AUTH PLAIN");
    /// There is no certificate.
    pub const NO_STLS: Self = Self::err("", "STLS is not offered");
    /// STLS under TLS.
    pub const ALREADY_SECURE: Self = Self::err("", "TLS is active already");
    /// Something came right behind STLS. It would be taken for said under TLS, whoever said it.
    pub const PIPELINED_STLS: Self =
        Self::err("", "nothing may follow STLS before its answer, closing");
    /// A login on a connection that others may read.
    pub const NEEDS_TLS: Self = Self::err("", "encryption required to log in, STLS first");
    /// The same where TLS cannot begin.
    pub const NO_LOGIN_WITHOUT_TLS: Self = Self::err(
        "",
        "logins from other machines need TLS, and there is none here",
    );
    /// ADDU without a name.
    pub const ADDU_SYNTAX: Self = Self::err("", "Syntax: ADDU userid");
    /// AUTH without a mechanism, or with more than a response.
    pub const AUTH_SYNTAX: Self = Self::err("", "Syntax: AUTH mechanism [initial-response]");
    /// DELE without a number.
    pub const DELE_SYNTAX: Self = Self::err("", "Syntax: DELE message");
    /// LIST with something else than a number.
    pub const LIST_SYNTAX: Self = Self::err("", "Syntax: LIST [message]");
    /// PASS without a password.
    pub const PASS_SYNTAX: Self = Self::err("", "Syntax: PASS password");
    /// RETR without a number.
    pub const RETR_SYNTAX: Self = Self::err("", "Syntax: RETR message");
    /// SEND without a receiver.
    pub const SEND_SYNTAX: Self = Self::err("", "Syntax: SEND receiverid");
    /// TOP without both numbers.
    pub const TOP_SYNTAX: Self = Self::err("", "Syntax: TOP message lines");
    /// UIDL with something else than a number.
    pub const UIDL_SYNTAX: Self = Self::err("", "Syntax: UIDL [message]");
    /// USER without a name.
    pub const USER_SYNTAX: Self = Self::err("", "Syntax: USER userid");

    /// AUTH names a mechanism that is not offered.
    pub const NO_SUCH_MECHANISM: Self = Self::err("", "mechanism not offered, CAPA lists them");
    /// A response of AUTH that is not base64.
    pub const NOT_BASE64: Self = Self::err("", "response is not base64");
    /// `*`.
    pub const AUTH_CANCELLED: Self = Self::err("", "authentication cancelled");

    /// The text after SEND is larger than a message may be.
    pub const TOO_BIG: Self = Self::err("", "message too big");
    /// A line of the text after SEND is longer than any may be.
    pub const TEXT_LINE_TOO_LONG: Self = Self::err("", "message has a line that is too long");
    /// The text after SEND has a CR or LF that ends no line.
    pub const BARE_LINE_END: Self = Self::err("", "message has a bare CR or LF");
    /// The text after SEND is far over the size limit.
    pub const ENDLESS: Self = Self::err("", "message never ends, closing");
    /// [`super::limits::ERRORS_MAX`].
    pub const TOO_MANY_ERRORS: Self = Self::err("", "too many errors, closing");
    /// [`super::limits::COMMANDS_BEFORE_LOGIN_MAX`].
    pub const TOO_MANY_COMMANDS: Self = Self::err("", "too many commands and no login, closing");
    /// A browser or a proxy was talked into connecting here.
    pub const NOT_POP3: Self = Self::err("", "this is a POP3 server, closing");
    /// A client begins TLS without being asked, and would wait for an answer that never comes.
    pub const TLS_IN_CLEAR: Self = Self::err("", "TLS does not come first at this port, closing");

    const fn ok(text: &'static str) -> Self {
        Self {
            indicator: Indicator::Ok,
            code: "",
            text: Cow::Borrowed(text),
        }
    }

    const fn err(code: &'static str, text: &'static str) -> Self {
        Self {
            indicator: Indicator::Err,
            code,
            text: Cow::Borrowed(text),
        }
    }
}

/// The replies that say what they are about.
impl Reply {
    /// The greeting. It has no `<...>`, which would offer APOP (RFC 1939 §7).
    #[must_use]
    pub fn greeting(hostname: &str) -> Self {
        Self::said(format!("{hostname} POP3 server ready"))
    }

    /// A mailbox is open.
    #[must_use]
    pub fn opened(user: &UserName, messages: usize) -> Self {
        Self::said(format!("{user} has {messages} messages"))
    }

    /// STAT: nothing may follow the numbers.
    #[must_use]
    pub fn stat(messages: usize, octets: u64) -> Self {
        Self::said(format!("{messages} {octets}"))
    }

    /// LIST for one message.
    #[must_use]
    pub fn size(number: usize, octets: u64) -> Self {
        Self::said(format!("{number} {octets}"))
    }

    /// UIDL for one message.
    #[must_use]
    pub fn unique_id(number: usize, unique_id: &str) -> Self {
        Self::said(format!("{number} {unique_id}"))
    }

    /// The first line of RETR.
    #[must_use]
    pub fn message(octets: u64) -> Self {
        Self::said(format!("{octets} octets"))
    }

    /// The first line of READM.
    #[must_use]
    pub fn shown(number: usize, of: usize, octets: u64) -> Self {
        Self::said(format!("message {number} of {of}, {octets} octets"))
    }

    /// DELE.
    #[must_use]
    pub fn marked(number: usize) -> Self {
        Self::said(format!("message {number} deleted"))
    }

    /// RSET.
    #[must_use]
    pub fn reset(messages: usize) -> Self {
        Self::said(format!("maildrop has {messages} messages"))
    }

    /// LSTU. With many users it is a long line; the contract has it on one.
    #[must_use]
    pub fn users(users: &[UserName]) -> Self {
        let mut text = format!("{} users:", users.len());
        for user in users {
            text.push(' ');
            text.push_str(user.as_str());
        }
        Self::said(text)
    }

    /// ADDU.
    #[must_use]
    pub fn added(user: &UserName) -> Self {
        Self::said(format!("{user} added"))
    }

    /// ADDU for a user who is there, in whatever spelling.
    #[must_use]
    pub fn already_present(user: &UserName) -> Self {
        Self::refused(format!("{user} already present"))
    }

    /// ADDU for a name that a user cannot have.
    #[must_use]
    pub fn bad_user_name(error: &UserNameError) -> Self {
        Self::refused(error.to_string())
    }

    /// ADDU for a name that the mail root needs for itself.
    #[must_use]
    pub fn reserved_user_name(user: &UserName) -> Self {
        Self::refused(format!("a user cannot be called {user}"))
    }

    /// DONEU; marks of DELE that were there are not carried out.
    #[must_use]
    pub fn done(user: &UserName, forgotten: usize) -> Self {
        Self::said(match forgotten {
            0 => format!("mailbox of {user} closed"),
            count => format!("mailbox of {user} closed, {count} deletions undone"),
        })
    }

    /// A challenge, in base64.
    #[must_use]
    pub fn challenge(base64: String) -> Self {
        Self {
            indicator: Indicator::Continue,
            code: "",
            text: base64.into(),
        }
    }

    fn said(text: String) -> Self {
        Self {
            indicator: Indicator::Ok,
            code: "",
            text: text.into(),
        }
    }

    fn refused(text: String) -> Self {
        Self {
            indicator: Indicator::Err,
            code: "",
            text: text.into(),
        }
    }
}

impl Reply {
    /// Whether it is no refusal.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.indicator != Indicator::Err
    }

    /// Appends the reply as it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.indicator {
            Indicator::Ok => "+OK",
            Indicator::Err => "-ERR",
            // The space is there even if the challenge is empty.
            Indicator::Continue => "+ ",
        })?;
        if !self.code.is_empty() {
            write!(f, " [{}]", self.code)?;
        }
        match self.indicator {
            Indicator::Continue => f.write_str(&self.text),
            _ if self.text.is_empty() => Ok(()),
            _ => write!(f, " {}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_one_line() {
        let andrew = UserName::new("Andrew").unwrap();
        for (reply, line) in [
            (Reply::OK, "+OK"),
            (
                Reply::BAD_CREDENTIALS,
                "-ERR [AUTH] invalid user name or password",
            ),
            (Reply::NO_MORE_MAIL, "-ERR No More Mail"),
            (Reply::challenge(String::new()), "+ "),
            (Reply::challenge("eA==".to_owned()), "+ eA=="),
            (Reply::stat(2, 320), "+OK 2 320"),
            (Reply::users(&[]), "+OK 0 users:"),
            (
                Reply::users(&[andrew.clone(), andrew.clone()]),
                "+OK 2 users: Andrew Andrew",
            ),
            (Reply::opened(&andrew, 3), "+OK Andrew has 3 messages"),
            (Reply::done(&andrew, 0), "+OK mailbox of Andrew closed"),
        ] {
            assert_eq!(reply.to_string(), line);
            let mut wire = Vec::new();
            reply.encode(&mut wire);
            assert_eq!(wire, format!("{line}\r\n").as_bytes());
        }
    }
}
