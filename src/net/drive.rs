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
/// What one connection may do in a row before the others get their turn: questions, and pieces of what
/// it is told.
const TURN_STEPS: usize = 16;
/// Such a piece.
const PIECE_OCTETS: usize = 128;
/// A peer that answers within this time, alone as it is, is waited for without sleeping: to be woken
/// takes longer than all that is done for a command. One that once takes longer is not, until it
/// answers so soon again.
const SPIN_TIME: Duration = Duration::from_micros(100);
/// So little is on its way at once.
const PARTING_OCTETS_MAX: usize = 1024;
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

    /// Whether the peer may be waited for without sleeping: nobody else is served, and there is a
    /// processor to spare.
    fn may_spin(&self) -> bool {
        false
    }
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
    mut stop: watch::Receiver<bool>,
    write_timeout: Duration,
) -> io::Result<()> {
    let mut is_stopping = false;
    let mut steps = 0;
    let mut is_brisk = false;
    // How much was said since something was heard.
    let mut said = 0;
    let mut told = stop.clone();
    let mut told = pin!(async move {
        // An owner that is gone stops nobody.
        if told.wait_for(|is_stopping| *is_stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    stop.mark_changed();
    let mut now = Instant::now();
    loop {
        if steps >= TURN_STEPS {
            // Commands that were sent ahead are worked off without waiting for anything.
            steps = 0;
            tokio::task::yield_now().await;
            now = Instant::now();
        }
        // From an owner that is gone, too: it may have been the last thing that was said.
        let has_news = stop.has_changed().unwrap_or(true);
        if !is_stopping && has_news && *stop.borrow_and_update() {
            is_stopping = true;
            machine.stop(now);
        }
        let step = machine.step(now);
        while let Some(event) = machine.event() {
            owner.event(event);
        }
        match step {
            Step::Send(octets) => {
                steps += 1 + octets.len() / PIECE_OCTETS;
                said += octets.len();
                let written = stream.write(&octets, now + write_timeout).await;
                now = Instant::now();
                if let Err(error) = written {
                    last_words(machine, &mut stream).await;
                    machine.disconnected(Instant::now());
                    return Err(error);
                }
            }
            Step::Ask(question) => {
                steps += 1;
                let answer = owner.answer(question).await;
                now = Instant::now();
                machine.answer(now, answer);
            }
            Step::StartTls => {
                let deadline = now + HANDSHAKE_TIMEOUT.min(write_timeout);
                let secured = tokio::select! {
                    secured = stream.secure(deadline) => secured,
                    () = &mut told, if !is_stopping => Err(Failure::Stopped),
                };
                now = Instant::now();
                match secured {
                    Ok(version) => machine.secured(now, version),
                    Err(failure) => {
                        machine.disconnected(now);
                        stream.close().await;
                        return Err(io::Error::other(failure));
                    }
                }
            }
            Step::Wait(deadline) => {
                steps = 0;
                said = 0;
                let mut received = 0;
                let spin_time = if is_brisk && owner.may_spin() {
                    SPIN_TIME
                } else {
                    Duration::ZERO
                };
                let since = now;
                let read = stream.read_spinning(spin_time, deadline, |octets| {
                    received = octets.len();
                    machine.receive(Instant::now(), octets);
                });
                let read = tokio::select! {
                    biased;
                    read = read => Some(read),
                    () = &mut told, if !is_stopping => None,
                };
                // A peer that never pauses must not keep this thread from all the others.
                if received >= FLOOD_OCTETS {
                    tokio::task::yield_now().await;
                } else {
                    tokio::task::coop::consume_budget().await;
                }
                now = Instant::now();
                is_brisk = now.duration_since(since) < SPIN_TIME;
                match read {
                    None | Some(Ok(Read::Octets | Read::TimedOut)) => {}
                    Some(Ok(Read::End)) => machine.disconnected(now),
                    Some(Err(error)) => {
                        machine.disconnected(now);
                        return Err(error);
                    }
                }
            }
            Step::Close => {
                if machine.has_peer_left() && said <= PARTING_OCTETS_MAX {
                    stream.leave().await;
                } else {
                    stream.close().await;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Has so many questions, and then waits for nothing, or until it is to stop.
    struct Curious {
        questions: usize,
        is_done: bool,
    }

    impl Machine for Curious {
        type Question = ();
        type Answer = ();
        type Event = ();

        fn receive(&mut self, _: Instant, _: &[u8]) {}

        fn disconnected(&mut self, _: Instant) {}

        fn answer(&mut self, _: Instant, (): ()) {
            self.questions -= 1;
        }

        fn secured(&mut self, _: Instant, _: &'static str) {}

        fn stop(&mut self, _: Instant) {
            self.is_done = true;
        }

        fn step(&mut self, now: Instant) -> Step<()> {
            if self.questions > 0 {
                Step::Ask(())
            } else if self.is_done {
                Step::Close
            } else {
                Step::Wait(now + Duration::from_secs(60))
            }
        }

        fn event(&mut self) -> Option<()> {
            None
        }
    }

    struct Prompt;

    impl Owner<Curious> for Prompt {
        async fn answer(&mut self, (): ()) {}

        fn event(&mut self, (): ()) {}
    }

    /// Somebody at one end of a connection, and the other end.
    async fn connected() -> (tokio::net::TcpStream, Stream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let peer = peer.await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        (peer, Stream::new(socket))
    }

    #[tokio::test]
    async fn others_get_their_turn() {
        let (peer, stream) = connected().await;
        // It is closed at once, so that nobody waits for it.
        drop(peer);
        let (_stopper, stop) = watch::channel(false);
        let session = tokio::spawn(async move {
            let mut machine = Curious {
                questions: 1000,
                is_done: true,
            };
            drive(&mut machine, stream, &mut Prompt, stop, LAST_WORDS_TIMEOUT).await
        });
        let mut turns = 0;
        while !session.is_finished() {
            turns += 1;
            tokio::task::yield_now().await;
        }
        session.await.unwrap().unwrap();
        assert!(turns > 1000 / TURN_STEPS, "{turns}");
    }

    /// Says that it is time to stop and is gone before it answers.
    struct Leaving(Option<watch::Sender<bool>>);

    impl Owner<Curious> for Leaving {
        async fn answer(&mut self, (): ()) {
            self.0.take().unwrap().send_replace(true);
        }

        fn event(&mut self, (): ()) {}
    }

    #[tokio::test]
    async fn what_an_owner_says_last_is_heard() {
        let (peer, stream) = connected().await;
        let (stopper, stop) = watch::channel(false);
        let mut machine = Curious {
            questions: 1,
            is_done: false,
        };
        let mut owner = Leaving(Some(stopper));
        let driven = drive(&mut machine, stream, &mut owner, stop, LAST_WORDS_TIMEOUT);
        driven.await.unwrap();
        assert!(machine.is_done);
        drop(peer);
    }
}
