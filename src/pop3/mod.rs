//! Mailbox access without I/O: POP3 (RFC 1939) with Teena's eight verbs beside it.

pub mod client;
