//! The one loop that moves octets between a connection and an engine.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::wire::{Machine, Step};

use super::stream::{Read, Stream};

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
/// The connection broke. The engine was told that the peer is gone, if it was still listening.
pub async fn drive<M: Machine, O: Owner<M>>(
    machine: &mut M,
    stream: Stream,
    owner: &mut O,
    mut stop: watch::Receiver<bool>,
    write_timeout: Duration,
) -> io::Result<()> {
    let mut is_stopping = false;
    loop {
        let now = Instant::now();
        if !is_stopping && *stop.borrow_and_update() {
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
                    machine.disconnected(now);
                    return Err(error);
                }
            }
            Step::Ask(question) => {
                let answer = owner.answer(question).await;
                machine.answer(Instant::now(), answer);
            }
            Step::Wait(deadline) => {
                let read = stream.read(deadline, |octets| machine.receive(Instant::now(), octets));
                let read = tokio::select! {
                    read = read => read,
                    // An owner that is gone stops nobody.
                    Ok(()) = stop.changed(), if !is_stopping => continue,
                };
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
