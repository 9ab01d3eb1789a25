//! The envelope: who a message is from and whom it is for, whatever its header says.

use crate::address::{ForwardPath, ReversePath};

/// What MAIL and RCPT said (RFC 5321 §2.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where failures are reported to.
    pub reverse_path: ReversePath,
    /// The recipients, in the order they were given.
    pub forward_paths: Vec<ForwardPath>,
}
