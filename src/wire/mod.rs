//! What travels on a connection: lines, dot-stuffed text, and the contract between a protocol
//! engine and whoever drives it.
//!
//! An engine ([`Machine`]) does no input or output. Its driver hands it the octets that came in
//! and the answers to its questions, then calls [`Machine::step`] until that says
//! [`Step::Wait`] or [`Step::Close`]. Time is an argument, so that a test can move the clock.

use std::time::Instant;

pub mod dot;
pub mod line;

/// What an engine wants done next.
#[derive(Debug)]
pub enum Step<Q> {
    /// Write these octets, all of them, then call `step` again.
    Send(Vec<u8>),
    /// Find the answer and hand it to [`Machine::answer`], then call `step` again. Until then
    /// the engine takes no further input from its buffer.
    Ask(Q),
    /// What had to be said in clear is said: agree on TLS with the peer, then tell the engine by
    /// [`Machine::secured`]. If that fails, close the connection; nothing more may go over it.
    StartTls,
    /// Nothing to do before octets arrive or this moment passes.
    Wait(Instant),
    /// Close the connection; everything to be said has been sent.
    Close,
}

/// Who can listen on a connection, as far as its owner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// It goes over a network in clear.
    Open,
    /// It is in clear and does not leave this machine; or somebody who may decide so takes it for
    /// safe.
    Private,
    /// It is under TLS.
    Secure,
}

impl Channel {
    /// Whether a password may go over it.
    #[must_use]
    pub fn may_carry_passwords(self) -> bool {
        self != Self::Open
    }
}

/// A protocol engine: one side of one connection.
pub trait Machine {
    /// What only the owner can know: is this recipient ours, store this message.
    type Question;
    /// The owner's answer, in words of the domain; only the engine turns them into digits.
    type Answer;
    /// What happened, for a log, a trace or a counter. Secrets are redacted.
    type Event;

    /// Takes octets that arrived.
    fn receive(&mut self, now: Instant, octets: &[u8]);

    /// Learns that the peer will send nothing more.
    fn disconnected(&mut self, now: Instant);

    /// Takes the answer to the open question.
    fn answer(&mut self, now: Instant, answer: Self::Answer);

    /// Learns that [`Step::StartTls`] is done, and which version of TLS it is (`1.3`). Nothing that
    /// was received before counts from here on.
    fn secured(&mut self, now: Instant, version: &'static str);

    /// Learns that the owner wants to stop: end as soon as nothing is lost by it.
    fn stop(&mut self, now: Instant);

    /// Says what to do next.
    fn step(&mut self, now: Instant) -> Step<Self::Question>;

    /// Whether, at [`Step::Close`], the peer has said that it will say no more: where little is on
    /// its way to it, who closes need not wait for it.
    fn has_peer_left(&self) -> bool {
        false
    }

    /// The oldest event not yet taken.
    fn event(&mut self) -> Option<Self::Event>;
}
