//! Dials a mailbox access server and carries on a [`Conversation`] over the connection.
//!
//! What is here is blocking to its caller, a person or a script who waits for each answer.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::{DialError, Security, ServerAddress, Tls, dial, resolve, secure};
use crate::net::stream::{Read, Stream};
use crate::net::tls::{self, HANDSHAKE_TIMEOUT};
use crate::pop3::client::{Conversation, MalformedAnswer, Part, Request, Status};
use crate::pop3::limits::ANSWER_TIMEOUT;

/// How long the server may take nothing of what is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// How much of a list of capabilities is looked at.
const CAPABILITIES_OCTETS_MAX: usize = 64 * 1024;

/// An open connection.
#[derive(Debug)]
pub struct Access {
    runtime: Runtime,
    stream: Stream,
    conversation: Conversation,
    is_private: bool,
    is_private_under_tls: bool,
    is_secure: bool,
}

/// Why there was no answer, and to what. The connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was asked, as a person calls it.
    pub asked: &'static str,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection ended.
    Lost,
    /// The server took too long.
    TimedOut,
    /// TLS is required and the server does not offer it.
    TlsNotOffered,
    /// The server offers TLS and does not begin it. What follows in clear may be meant for others.
    TlsRefused,
    /// The server, or somebody on the way, said more after agreeing to TLS: it would be taken for
    /// said under TLS.
    SpokeTooEarly,
    /// TLS did not come about.
    Tls(tls::Failure),
    /// The server said what is no answer at all.
    Malformed(MalformedAnswer),
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.asked;
        match &self.cause {
            Cause::Lost => write!(
                f,
                "the connection was lost before the answer to {asked} came"
            ),
            Cause::TimedOut => write!(f, "timed out waiting for the answer to {asked}"),
            Cause::TlsNotOffered => f.write_str("the server offers no TLS, and it is required"),
            Cause::TlsRefused => f.write_str("the server offers TLS and then refuses to begin it"),
            Cause::SpokeTooEarly => f.write_str(
                "something came in clear after the server had agreed to TLS; somebody may be \
                 tampering with the connection",
            ),
            Cause::Tls(failure) => write!(f, "no TLS with the server: {failure}"),
            Cause::Malformed(error) => {
                write!(f, "the server does not speak POP3: {error}")
            }
        }
    }
}

impl Access {
    /// Dials. The server speaks first: see [`Access::greeting`].
    ///
    /// # Errors
    ///
    /// No connection came about, or no TLS on it where that comes first.
    pub fn dial(server: &ServerAddress, security: &Security) -> Result<Self, DialError> {
        let addresses = resolve(server)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DialError::Network)?;
        let socket = runtime.block_on(dial(server, &addresses, None))?;
        let peer = socket.peer_addr().map_err(DialError::Network)?;
        let is_private_under_tls = security.is_password_safe();
        let is_local = crate::net::is_local(peer);
        Ok(Self {
            stream: runtime.block_on(secure(socket, server, security, None))?,
            runtime,
            conversation: Conversation::new(),
            is_private: is_local || security.tls == Tls::Implicit && is_private_under_tls,
            is_private_under_tls,
            is_secure: security.tls == Tls::Implicit,
        })
    }

    /// Whether nobody else can read what is sent: the server is on this machine, or known and the
    /// connection under TLS.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Whether the connection is under TLS, with whomever.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Begins TLS if the server offers it; not to be done twice.
    ///
    /// # Errors
    ///
    /// It is required and not offered, or did not come about.
    pub fn start_tls(&mut self, is_required: bool) -> Result<(), Failure> {
        let failure = |asked, cause| Failure { asked, cause };
        let mut capabilities = Vec::new();
        let status = self.ask(&Request::Capabilities, &mut |part| {
            // A server that goes on and on is not listened to.
            if let Part::Text(text) = part
                && capabilities.len() < CAPABILITIES_OCTETS_MAX
            {
                capabilities.extend_from_slice(text);
            }
        })?;
        let mut lines = capabilities.split(|&octet| octet == b'\n');
        let is_offered =
            status.is_ok && lines.any(|line| line.trim_ascii().eq_ignore_ascii_case(b"STLS"));
        if !is_offered {
            return if is_required {
                Err(failure("CAPA", Cause::TlsNotOffered))
            } else {
                Ok(())
            };
        }
        if !self.ask(&Request::StartTls, &mut |_| ())?.is_ok {
            return Err(failure("STLS", Cause::TlsRefused));
        }
        if self.conversation.has_more() {
            return Err(failure("STLS", Cause::SpokeTooEarly));
        }
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let secured = self.runtime.block_on(self.stream.secure(deadline));
        secured.map_err(|cause| failure("STLS", Cause::Tls(cause)))?;
        self.is_secure = true;
        self.is_private |= self.is_private_under_tls;
        Ok(())
    }

    /// Whether the server says nothing for a time, and does not hang up either. To be asked before
    /// [`Access::greeting`], which takes what came meanwhile.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        let (stream, conversation) = (&mut self.stream, &mut self.conversation);
        let read = stream.read(Instant::now() + time, |octets| conversation.receive(octets));
        matches!(self.runtime.block_on(read), Ok(Read::TimedOut))
    }

    /// Waits for the server's first words.
    ///
    /// # Errors
    ///
    /// They did not come.
    pub fn greeting(&mut self) -> Result<Status, Failure> {
        self.hear("the call", &mut |_| ())
    }

    /// Asks for something and waits for the whole answer, whose parts are given to `take` as they
    /// come.
    ///
    /// # Errors
    ///
    /// The answer did not come, or not all of it.
    pub fn ask(
        &mut self,
        request: &Request,
        take: &mut dyn FnMut(&Part),
    ) -> Result<Status, Failure> {
        let asked = request.verb();
        let octets = self.conversation.ask(request);
        let deadline = Instant::now() + WRITE_TIMEOUT;
        // A server that hung up may have said why: what is to be read tells.
        let written = self.runtime.block_on(self.stream.write(&octets, deadline));
        self.hear(asked, take).map_err(|failure| match written {
            Err(_) if failure.cause == Cause::TimedOut => Failure {
                asked,
                cause: Cause::Lost,
            },
            _ => failure,
        })
    }

    /// Ends the connection.
    pub fn close(self) {
        self.runtime.block_on(self.stream.close());
    }

    fn hear(
        &mut self,
        asked: &'static str,
        take: &mut dyn FnMut(&Part),
    ) -> Result<Status, Failure> {
        let failure = |cause| Failure { asked, cause };
        let mut status = None;
        loop {
            let heard = self.conversation.part();
            match heard.map_err(|error| failure(Cause::Malformed(error)))? {
                Some(part) => {
                    take(&part);
                    if let Part::Status(first) = part {
                        status = Some(first);
                    }
                }
                None if self.conversation.is_answered() => break,
                None => self.read().map_err(failure)?,
            }
        }
        status.ok_or_else(|| failure(Cause::Lost))
    }

    fn read(&mut self) -> Result<(), Cause> {
        let (stream, conversation) = (&mut self.stream, &mut self.conversation);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let read = stream.read(deadline, |octets| conversation.receive(octets));
        match self.runtime.block_on(read) {
            Ok(Read::Octets) => Ok(()),
            Ok(Read::TimedOut) => Err(Cause::TimedOut),
            Ok(Read::End) | Err(_) => Err(Cause::Lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server for one connection that says these lines in turn, one for each that it reads.
    fn access(answers: &'static [&'static str]) -> Access {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                stream.write_all(answer.as_bytes()).unwrap();
                lines.next();
            }
        });
        Access::dial(&address.parse().unwrap(), &Security::default()).unwrap()
    }

    #[test]
    fn an_answer_is_taken_as_it_comes() {
        let mut access = access(&["+OK hello\r\n", "+OK\r\n..a\r\nb\r\n.\r\n", "-ERR none\r\n"]);
        assert!(access.is_private());
        assert_eq!(access.greeting().unwrap().text(), "hello");
        let mut text = Vec::new();
        let mut take = |part: &Part| {
            if let Part::Text(piece) = part {
                text.extend_from_slice(piece);
            }
        };
        assert!(access.ask(&Request::Read, &mut take).unwrap().is_ok);
        assert!(!access.ask(&Request::Read, &mut take).unwrap().is_ok);
        assert_eq!(text, b".a\nb\n");
        access.close();
    }

    #[test]
    fn silence_is_told_from_words_and_their_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut silent = Access::dial(&address.parse().unwrap(), &Security::default()).unwrap();
        assert!(silent.is_silent(Duration::from_millis(1)));
        drop(listener);
        let patience = Duration::from_secs(20);
        assert!(!silent.is_silent(patience));
        assert_eq!(silent.greeting().unwrap_err().cause, Cause::Lost);
        let mut access = access(&["+OK hello\r\n"]);
        assert!(!access.is_silent(patience));
        assert_eq!(access.greeting().unwrap().text(), "hello");
    }

    #[test]
    fn a_lost_connection_and_nonsense_are_told_apart() {
        let mut lost = access(&["+OK\r\n"]);
        lost.greeting().unwrap();
        let failure = lost.ask(&Request::Done, &mut |_| ()).unwrap_err();
        assert_eq!((failure.asked, failure.cause), ("DONEU", Cause::Lost));
        let failure = access(&["220 mx\r\n"]).greeting().unwrap_err();
        assert!(matches!(failure.cause, Cause::Malformed(_)), "{failure}");
    }
}
