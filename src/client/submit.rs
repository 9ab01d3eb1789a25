//! Dials a server and drives [`Submission`] over the connection.
//!
//! What is here is blocking to its caller: a command line has nothing to do in the meantime.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::address::is_domain;
use crate::message::outgoing::Outgoing;
use crate::net::drive::{Owner, drive};
use crate::net::tls::Failure;
use crate::sasl::Login;
use crate::secret;
use crate::smtp::Event;
use crate::smtp::client::{Outcome, Settings, StartTls, Submission};
use crate::smtp::limits::BLOCK_TIMEOUT;
use crate::wire::{Machine, Step};

use super::{DialError, Security, ServerAddress, Tls, dial, resolve, secure};

/// How to talk to a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who to log in as; `None` for no login.
    pub login: Option<Login>,
    /// What protects the connection.
    pub security: Security,
    /// Whether the password may go over a connection that others can read.
    pub is_insecure_auth_allowed: bool,
    /// Whether each command waits for the reply to the one before; for people who watch.
    pub is_step_by_step: bool,
    /// No step waits longer than this; `None` for the times of RFC 5321 §4.5.3.2.
    pub timeout_max: Option<Duration>,
}

/// Submits a message, or only logs in where there is none. `trace` is told every event as it
/// happens.
///
/// # Errors
///
/// No connection came about, or no TLS on it. What else happens on a connection is in the outcome.
pub fn submit(
    server: &ServerAddress,
    options: &Options,
    message: Option<Outgoing>,
    trace: &mut (dyn FnMut(&Event) + Send),
) -> Result<Outcome, DialError> {
    let addresses = resolve(server)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DialError::Network)?;
    runtime.block_on(async {
        let socket = dial(server, &addresses, options.timeout_max).await?;
        let settings = settings(&socket, options).map_err(DialError::Network)?;
        let stream = secure(socket, server, &options.security, options.timeout_max).await?;
        let mut submission = Submission::new(settings, message);
        let mut trace = Trace(trace);
        let write_timeout = options.timeout_max.unwrap_or(BLOCK_TIMEOUT);
        let (_run_on, stop) = watch::channel(false);
        let driven = drive(&mut submission, stream, &mut trace, stop, write_timeout).await;
        if let Err(error) = driven {
            if let Ok(cause) = error.downcast::<Failure>() {
                let server = server.clone();
                return Err(DialError::Tls { server, cause });
            }
            conclude(&mut submission, &mut trace);
        }
        Ok(submission.outcome())
    })
}

fn settings(stream: &TcpStream, options: &Options) -> io::Result<Settings> {
    let is_local = crate::net::is_local(stream.peer_addr()?);
    let security = &options.security;
    let is_password_allowed = is_local || options.is_insecure_auth_allowed;
    Ok(Settings {
        hostname: own_name(stream.local_addr()?.ip()),
        login: options.login.clone(),
        start_tls: match security.tls {
            Tls::Off | Tls::Implicit => StartTls::Never,
            Tls::IfOffered => StartTls::IfOffered,
            Tls::Required => StartTls::Required,
        },
        is_secure: security.tls == Tls::Implicit,
        is_password_allowed,
        is_password_allowed_secured: is_password_allowed || security.is_password_safe(),
        nonce: secret::random()?,
        is_step_by_step: options.is_step_by_step,
        timeout_max: options.timeout_max,
    })
}

/// Our name for EHLO: a domain, else the address we call from (RFC 5321 §4.1.4).
fn own_name(address: IpAddr) -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    if name.contains('.') && name.is_ascii() && is_domain(&name) && !name.starts_with('[') {
        return name.into_owned();
    }
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// Who hears what happens.
struct Trace<'a>(&'a mut (dyn FnMut(&Event) + Send));

impl Owner<Submission> for Trace<'_> {
    async fn answer(&mut self, question: Infallible) -> Infallible {
        match question {}
    }

    fn event(&mut self, event: Event) {
        (self.0)(&event);
    }
}

/// Lets the engine make what it can of the end of a connection that broke: the server's last
/// words may tell why.
fn conclude(submission: &mut Submission, trace: &mut Trace<'_>) {
    while let Step::Send(_) = submission.step(Instant::now()) {}
    while let Some(event) = submission.event() {
        trace.event(event);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::message::draft::DraftReader;
    use crate::smtp::client::{Cause, Stage};

    fn message(body: &str) -> Option<Outgoing> {
        let mut reader = DraftReader::default();
        for line in ["From: a@b", "To: c@d", "Subject: x", body] {
            reader.line(line.as_bytes());
        }
        Some(reader.finish().unwrap().into_message())
    }

    /// A server for one connection, and where it is.
    fn server(
        dialog: impl FnOnce(&mut std::net::TcpStream) + Send + 'static,
    ) -> (ServerAddress, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ServerAddress {
            host: "localhost".into(),
            port: listener.local_addr().unwrap().port(),
        };
        let thread = std::thread::spawn(move || dialog(&mut listener.accept().unwrap().0));
        (address, thread)
    }

    fn read_until(stream: &mut impl Read, end: &str) {
        let mut seen = Vec::new();
        let mut octet = [0];
        while !seen.ends_with(end.as_bytes()) {
            stream.read_exact(&mut octet).unwrap();
            seen.extend(octet);
        }
    }

    fn replies(stream: &mut std::net::TcpStream, replies: &[(&str, &str)]) {
        for (reply, until) in replies {
            stream.write_all(reply.as_bytes()).unwrap();
            read_until(stream, until);
        }
    }

    #[test]
    fn a_message_goes_over_tcp() {
        let (address, thread) = server(|stream| {
            let envelope = [
                ("220 mx\r\n", "\r\n"),
                ("250 mx\r\n", "\r\n"),
                ("250 ok\r\n", "\r\n"),
                ("250 ok\r\n", "DATA\r\n"),
                ("354 go\r\n", "\r\n.\r\n"),
                ("250 ok\r\n", "QUIT\r\n"),
            ];
            replies(stream, &envelope);
        });
        let mut events = 0;
        let outcome = submit(&address, &Options::default(), message("hello"), &mut |_| {
            events += 1;
        });
        assert!(outcome.unwrap().result.is_ok());
        assert_eq!(events, 12, "six replies, five commands, one text");
        thread.join().unwrap();
    }

    #[test]
    fn the_last_words_of_a_server_are_heard() {
        let (address, thread) = server(|stream| {
            let envelope = [
                ("220 mx\r\n", "\r\n"),
                ("250 mx\r\n", "\r\n"),
                ("250 ok\r\n", "\r\n"),
                ("250 ok\r\n", "DATA\r\n"),
                ("354 go\r\n", "Subject: x"),
            ];
            replies(stream, &envelope);
            stream.write_all(b"552 5.3.4 too big\r\n").unwrap();
        });
        let mut long = message("").unwrap();
        long.text
            .extend("a line like any other\n".repeat(500_000).bytes());
        let outcome = submit(&address, &Options::default(), Some(long), &mut |_| {}).unwrap();
        let failure = outcome.result.unwrap_err();
        assert_eq!(failure.stage, Stage::Content);
        assert_eq!(
            failure.reply().map(|reply| reply.code()),
            Some(552),
            "{failure}"
        );
        thread.join().unwrap();
    }

    #[test]
    fn a_silent_server_is_not_waited_for() {
        let (address, thread) = server(|stream| {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
        });
        let options = Options {
            timeout_max: Some(Duration::from_millis(50)),
            ..Options::default()
        };
        let outcome = submit(&address, &options, None, &mut |_| {}).unwrap();
        assert_eq!(outcome.result.unwrap_err().cause, Cause::TimedOut);
        thread.join().unwrap();
    }

    #[test]
    fn no_connection_has_its_reason() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            ServerAddress {
                host: "127.0.0.1".into(),
                port: listener.local_addr().unwrap().port(),
            }
        };
        let error = submit(&address, &Options::default(), None, &mut |_| {}).unwrap_err();
        assert!(matches!(&error, DialError::CannotConnect { attempts, .. } if attempts.len() == 1));
        let nowhere = "nowhere.invalid".parse().unwrap();
        let error = submit(&nowhere, &Options::default(), None, &mut |_| {}).unwrap_err();
        assert!(matches!(error, DialError::NoSuchHost { .. }), "{error}");
    }
}
