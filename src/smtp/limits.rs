//! Sizes, counts and time-outs, each with its unit and its source.

use std::time::Duration;

/// The longest command line, in octets without CRLF. RFC 5321 §4.5.3.1.4 has 512; SIZE, BODY,
/// AUTH, SMTPUTF8 and long paths of other implementations need more.
pub const COMMAND_LINE_OCTETS_MAX: usize = 2048;
/// The longest line of an AUTH exchange, in octets (RFC 4954 §4).
pub const AUTH_LINE_OCTETS_MAX: usize = 12_288;
/// The longest text line, in octets without CRLF (RFC 5321 §4.5.3.1.6). A server takes any.
pub const TEXT_LINE_OCTETS_MAX: usize = 998;
/// The longest reply line a client takes, in octets; RFC 5321 §4.5.3.1.5 has 512.
pub const REPLY_LINE_OCTETS_MAX: usize = 8192;
/// How many lines a client takes for one reply.
pub const REPLY_LINES_MAX: usize = 256;
/// The longest ENVID, in characters (RFC 3461 §4.4).
pub const ENVID_OCTETS_MAX: usize = 100;
/// The longest ORCPT, in characters (RFC 3461 §4.2).
pub const ORCPT_OCTETS_MAX: usize = 500;

/// The longest AUTH command with an initial response, in octets with CRLF (RFC 4954 §4).
pub const AUTH_COMMAND_OCTETS_MAX: usize = 512;
/// Commands that a client sends without waiting for replies, in octets; the group ends with the
/// command that reaches it. Both sides' socket buffers hold it (RFC 2920 §3.1).
pub const PIPELINE_OCTETS_MAX: usize = 8192;

/// How large a message may be where nothing else is said, in octets with CRLF.
pub const MESSAGE_OCTETS_MAX: u64 = 25 * 1024 * 1024;
/// How many recipients a message may have where nothing else is said; RFC 5321 §4.5.3.1.8 wants
/// 100 at least.
pub const RECIPIENTS_MAX: usize = 1000;
/// The smallest number of recipients that a server must take (RFC 5321 §4.5.3.1.8).
pub const RECIPIENTS_MIN: usize = 100;

/// Refused commands in one session before the server hangs up.
pub const ERRORS_MAX: u32 = 20;
/// Failed logins in one session before the server hangs up (RFC 4954 §9: not before three).
pub const LOGIN_FAILURES_MAX: u32 = 3;
/// Commands in one session since a message was stored, before the server hangs up. Accepted
/// recipients and chunks with something in them are not counted: they have limits of their own.
pub const COMMANDS_MAX: u32 = 10_000;
/// Recipients refused in one session since a message was stored, before the server hangs up:
/// somebody is trying names.
pub const REFUSED_RECIPIENTS_MAX: u32 = 100;
/// How long a session may last. It ends with the first command after that outside a transaction.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(3600);
/// Text octets collected before the owner is asked to take them.
pub const TEXT_CHUNK_OCTETS: usize = 64 * 1024;
/// Replies to commands sent ahead that are gathered before they are sent and others get their turn,
/// in octets: some hundred microseconds of work.
pub const REPLIES_OCTETS: usize = 2048;
/// More than the replies to one message's commands mostly take, in octets.
pub const REPLIES_ROOM: usize = 128;
/// How much text has to come in a second, over each time-out, for the session to go on: who sends
/// an octet now and then holds a connection, and sends no mail.
pub const TEXT_OCTETS_PER_SECOND_MIN: u64 = 512;
/// A message that is over the size limit is read on to its end, so that the dialog keeps its
/// place, but not beyond this many times the limit.
pub const OVERSIZE_FACTOR_MAX: u64 = 4;

/// How long a server waits for a command or for more text (RFC 5321 §4.5.3.2.7).
pub const SERVER_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a server waits for more where the client seems to have ended a line, or its text, with a
/// bare LF, which is no end where the first line ended in CRLF: the client waits too.
pub const BARE_LF_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client waits for the greeting (RFC 5321 §4.5.3.2.1).
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a server may say nothing at first before a client's owner is told. Some let spammers wait
/// for their greeting, who speak too early then: mostly six seconds.
pub const SILENCE_TIME: Duration = Duration::from_secs(8);
/// How long a client waits for the reply to EHLO, AUTH, MAIL or RCPT (RFC 5321 §4.5.3.2.2, .3).
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a client waits for the reply to DATA (RFC 5321 §4.5.3.2.4).
pub const DATA_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a piece of text may take to be written (RFC 5321 §4.5.3.2.5).
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a client waits for the reply to the final full stop (RFC 5321 §4.5.3.2.6).
pub const FINAL_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a client waits for the reply to QUIT; the outcome is known by then.
pub const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(COMMAND_LINE_OCTETS_MAX >= 512, "RFC 5321 wants 512");
const _: () = assert!(COMMAND_LINE_OCTETS_MAX >= 1036, "RFC 3461 §5.4");
const _: () = assert!(COMMAND_LINE_OCTETS_MAX < AUTH_LINE_OCTETS_MAX);
const _: () = assert!(RECIPIENTS_MAX >= RECIPIENTS_MIN);
const _: () = assert!(LOGIN_FAILURES_MAX >= 3, "RFC 4954 §9");
const _: () = assert!(SILENCE_TIME.as_secs() < GREETING_TIMEOUT.as_secs());
