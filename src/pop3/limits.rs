//! Sizes, counts and time-outs, each with its unit and its source.

use std::time::Duration;

/// The longest command line, in octets without CRLF (RFC 2449 §4 has 255 with it).
pub const COMMAND_LINE_OCTETS_MAX: usize = 253;
/// The longest line of PASS, in octets without CRLF: passwords may be longer than a command.
pub const PASS_LINE_OCTETS_MAX: usize = 1024 + 5;
/// The longest line of an AUTH exchange, in octets (RFC 5034 §4 refers to RFC 4954 §4).
pub const AUTH_LINE_OCTETS_MAX: usize = 12_288;
/// The longest line of text after SEND, in octets.
pub const TEXT_LINE_OCTETS_MAX: usize = 64 * 1024;
/// The longest line of text that is taken for a subject, in octets (RFC 5322 §2.1.1).
pub const SUBJECT_LINE_OCTETS_MAX: usize = 998;

/// Output is written when there is this much of it.
pub const OUTPUT_OCTETS: usize = 64 * 1024;
/// Text octets collected before the owner is asked to take them.
pub const TEXT_CHUNK_OCTETS: usize = 64 * 1024;
/// A text that is over the size limit is read on to its end, so that the dialog keeps its place,
/// but not beyond this many times the limit.
pub const OVERSIZE_FACTOR_MAX: u64 = 4;
/// How many unique-ids are asked for at once.
pub const UNIQUE_IDS_MAX: usize = 1000;

/// Refused commands in one session before the server hangs up.
pub const ERRORS_MAX: u32 = 20;
/// Commands before a mailbox is open, before the server hangs up. Where no login is asked for (the
/// lab) there is no such limit.
pub const COMMANDS_BEFORE_LOGIN_MAX: u32 = 100;
/// How many times the time-out of one command a login may take in all.
pub const LOGIN_TIMEOUTS_MAX: u32 = 2;
/// How long a session may last. It ends with the first command after that; nothing is deleted then.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Failed logins in one session before the server hangs up.
pub const LOGIN_FAILURES_MAX: u32 = 3;

/// How long a mailbox stays open without a command (RFC 1939 §3: ten minutes at least).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// The longest status line that a client takes, in octets. RFC 1939 §3 has 512; the answer to
/// LSTU names every user, and a name has up to 64 octets.
pub const STATUS_LINE_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// How long a server may say nothing at first before whoever waits is told.
pub const SILENCE_TIME: Duration = Duration::from_secs(8);
/// How long a client waits for more of an answer. RFC 1939 has no number; a server that slows
/// down those who guess passwords takes seconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

const _: () = assert!(COMMAND_LINE_OCTETS_MAX + 2 >= 255, "RFC 2449 §4");
const _: () = assert!(COMMAND_LINE_OCTETS_MAX < PASS_LINE_OCTETS_MAX);
const _: () = assert!(PASS_LINE_OCTETS_MAX < AUTH_LINE_OCTETS_MAX);
const _: () = assert!(SUBJECT_LINE_OCTETS_MAX < TEXT_LINE_OCTETS_MAX);
const _: () = assert!(SILENCE_TIME.as_secs() < ANSWER_TIMEOUT.as_secs());
const _: () = assert!(IDLE_TIMEOUT.as_secs() >= 600, "RFC 1939 §3");
