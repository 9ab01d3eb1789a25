//! The one loop that moves octets between a connection and an engine.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::wire::{Machine, Step};

use super::stream::{Read, Stream};
use super::tls::{Failure, HANDSHAKE_TIMEOUT};

/// So much at once is no command: the others get their turn before it is looked at.
const FLOOD_OCTETS: usize = 4096;
/// How long to look for what a peer said before it stopped listening.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// How many reads that may take.
const LAST_WORDS_READS_MAX: usize = 16;

/// Whoever an engine's questions go to.
pub trait Owner<M: Machine>: Send {
    /// Answers a question.
    fn answer(&mut self, question: M::Question) -> impl Future<Output = M::Answer> + Send;

    /// Hears what happened.
    fn event(&mut self, event: M::Event);
}

/// Drives an engine until it closes, and closes the connection. `stop` turns true when the engine
/// should come to an end; `write_timeout` is how long the peer may take nothing.
///
/// # Errors
///
/// The connection broke; or TLS did not come about, and then the cause is a [`Failure`]. The engine
/// was told that the peer is gone, if it was still listening.
pub async fn drive<M: Machine, O: Owner<M>>(
    machine: &mut M,
    mut stream: Stream,
    owner: &mut O,
    stop: watch::Receiver<bool>,
    write_timeout: Duration,
) -> io::Result<()> {
    let mut is_stopping = false;
    let mut told = stop.clone();
    let mut told = pin!(async move {
        // An owner that is gone stops nobody.
        if told.wait_for(|is_stopping| *is_stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    loop {
        let now = Instant::now();
        if !is_stopping && *stop.borrow() {
            is_stopping = true;
            machine.stop(now);
        }
        let step = machine.step(now);
        while let Some(event) = machine.event() {
            owner.event(event);
        }
        match step {
            Step::Send(octets) => {
                let written = stream.write(&octets, now + write_timeout).await;
                if let Err(error) = written {
                    last_words(machine, &mut stream).await;
                    machine.disconnected(Instant::now());
                    return Err(error);
                }
            }
            Step::Ask(question) => {
                let answer = owner.answer(question).await;
                machine.answer(Instant::now(), answer);
            }
            Step::StartTls => {
                let deadline = now + HANDSHAKE_TIMEOUT.min(write_timeout);
                let secured = tokio::select! {
                    secured = stream.secure(deadline) => secured,
                    () = &mut told, if !is_stopping => Err(Failure::Stopped),
                };
                match secured {
                    Ok(version) => machine.secured(Instant::now(), version),
                    Err(failure) => {
                        machine.disconnected(Instant::now());
                        stream.close().await;
                        return Err(io::Error::other(failure));
                    }
                }
            }
            Step::Wait(deadline) => {
                let mut received = 0;
                let read = stream.read(deadline, |octets| {
                    received = octets.len();
                    machine.receive(Instant::now(), octets);
                });
                let read = tokio::select! {
                    read = read => read,
                    () = &mut told, if !is_stopping => continue,
                };
                // A peer that never pauses must not keep this thread from all the others.
                if received >= FLOOD_OCTETS {
                    tokio::task::yield_now().await;
                } else {
                    tokio::task::coop::consume_budget().await;
                }
                match read {
                    Ok(Read::Octets | Read::TimedOut) => {}
                    Ok(Read::End) => machine.disconnected(Instant::now()),
                    Err(error) => {
                        machine.disconnected(Instant::now());
                        return Err(error);
                    }
                }
            }
            Step::Close => {
                stream.close().await;
                return Ok(());
            }
        }
    }
}

/// Hands over what the peer said before it stopped listening: a server that refuses a message in
/// the middle of it says why and hangs up.
async fn last_words<M: Machine>(machine: &mut M, stream: &mut Stream) {
    let deadline = Instant::now() + LAST_WORDS_TIMEOUT;
    for _ in 0..LAST_WORDS_READS_MAX {
        let read = stream.read(deadline, |octets| machine.receive(Instant::now(), octets));
        if !matches!(read.await, Ok(Read::Octets)) {
            return;
        }
    }
}
