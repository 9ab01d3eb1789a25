//! Messages: header section and body (RFC 5322), and the envelope they travel in.

pub mod draft;
pub mod envelope;
pub mod header;
pub mod trace;
