//! Dials a server and drives [`Submission`] over the connection.
//!
//! What is here is blocking to its caller: a command line has nothing to do in the meantime.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{sleep_until, timeout, timeout_at};

use crate::address::is_domain;
use crate::message::outgoing::Outgoing;
use crate::sasl::Login;
use crate::smtp::Event;
use crate::smtp::client::{Outcome, Settings, Submission};
use crate::smtp::limits::BLOCK_TIMEOUT;
use crate::wire::{Machine, Step};

use super::{CONNECT_TIMEOUT, DialError, ServerAddress};

/// Octets read at once.
const READ_OCTETS: usize = 16 * 1024;
/// Octets taken from a server while it is being written to.
const READ_AHEAD_OCTETS_MAX: usize = 64 * 1024;
/// How long to look for the server's last words on a connection that can no longer be written.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// How to talk to a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who to log in as; `None` for no login.
    pub login: Option<Login>,
    /// Whether the password may go over a connection that others can read.
    pub is_insecure_auth_allowed: bool,
    /// No step waits longer than this; `None` for the times of RFC 5321 §4.5.3.2.
    pub timeout_max: Option<Duration>,
}

/// Submits a message, or only logs in where there is none. `trace` is told every event as it
/// happens.
///
/// # Errors
///
/// No connection came about. What happens on a connection is in the outcome.
pub fn submit(
    server: &ServerAddress,
    options: &Options,
    message: Option<Outgoing>,
    trace: &mut dyn FnMut(&Event),
) -> Result<Outcome, DialError> {
    let addresses = resolve(server)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DialError::Network)?;
    runtime.block_on(async {
        let mut stream = dial(server, &addresses, options.timeout_max).await?;
        let settings = settings(&stream, options).map_err(DialError::Network)?;
        let mut submission = Submission::new(settings, message);
        drive(&mut stream, &mut submission, options.timeout_max, trace).await;
        Ok(submission.outcome())
    })
}

fn resolve(server: &ServerAddress) -> Result<Vec<SocketAddr>, DialError> {
    let no_such_host = |cause| DialError::NoSuchHost {
        host: server.host.clone(),
        cause,
    };
    let addresses: Vec<_> = (server.host.as_str(), server.port)
        .to_socket_addrs()
        .map_err(no_such_host)?
        .collect();
    if addresses.is_empty() {
        return Err(no_such_host(io::Error::other("it has no address")));
    }
    Ok(addresses)
}

/// Tries each address in turn: `localhost` is often two, with a server on one.
async fn dial(
    server: &ServerAddress,
    addresses: &[SocketAddr],
    timeout_max: Option<Duration>,
) -> Result<TcpStream, DialError> {
    let wait = timeout_max.map_or(CONNECT_TIMEOUT, |max| max.min(CONNECT_TIMEOUT));
    let mut attempts = Vec::new();
    for &address in addresses {
        let connected = timeout(wait, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")));
        match connected {
            Ok(stream) => return Ok(stream),
            Err(cause) => attempts.push((address, cause)),
        }
    }
    Err(DialError::CannotConnect {
        server: server.clone(),
        attempts,
    })
}

fn settings(stream: &TcpStream, options: &Options) -> io::Result<Settings> {
    // Commands are short and each waits for its reply.
    stream.set_nodelay(true)?;
    let is_local = stream.peer_addr()?.ip().to_canonical().is_loopback();
    Ok(Settings {
        hostname: own_name(stream.local_addr()?.ip()),
        login: options.login.clone(),
        is_password_allowed: is_local || options.is_insecure_auth_allowed,
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

/// Moves octets between the connection and the engine until the engine closes.
async fn drive(
    stream: &mut TcpStream,
    submission: &mut Submission,
    timeout_max: Option<Duration>,
    trace: &mut dyn FnMut(&Event),
) {
    let block_timeout = timeout_max.map_or(BLOCK_TIMEOUT, |max| max.min(BLOCK_TIMEOUT));
    let (reader, writer) = stream.split();
    let mut ends = Ends {
        reader,
        writer,
        is_readable: true,
    };
    loop {
        let step = submission.step(Instant::now());
        while let Some(event) = submission.event() {
            trace(&event);
        }
        match step {
            Step::Send(octets) => {
                let deadline = Instant::now() + block_timeout;
                if ends.write(&octets, deadline, submission).await.is_err() {
                    ends.last_words(submission).await;
                }
            }
            Step::Ask(question) => match question {},
            Step::Wait(deadline) => {
                // When the time is up, `step` will know.
                drop(timeout_at(deadline.into(), ends.read(submission)).await);
            }
            Step::Close => return,
        }
    }
}

/// Both directions of a connection.
struct Ends<'a> {
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    is_readable: bool,
}

impl Ends<'_> {
    /// Hands the engine what arrives next, be it the end.
    async fn read(&mut self, submission: &mut Submission) {
        let mut buffer = [0; READ_OCTETS];
        match self.reader.read(&mut buffer).await {
            Ok(count) if count > 0 => submission.receive(Instant::now(), &buffer[..count]),
            Ok(_) | Err(_) => {
                self.is_readable = false;
                submission.disconnected(Instant::now());
            }
        }
    }

    /// Writes everything, and reads in the meantime: a server may refuse a message before it
    /// has all of it, and one that is busy writing does not read.
    async fn write(
        &mut self,
        mut octets: &[u8],
        deadline: Instant,
        submission: &mut Submission,
    ) -> io::Result<()> {
        let mut buffer = [0; READ_OCTETS];
        let mut ahead = 0;
        while !octets.is_empty() {
            let may_read = self.is_readable && ahead < READ_AHEAD_OCTETS_MAX;
            tokio::select! {
                written = self.writer.write(octets) => octets = &octets[written?..],
                read = self.reader.read(&mut buffer), if may_read => match read {
                    Ok(count) if count > 0 => {
                        ahead += count;
                        submission.receive(Instant::now(), &buffer[..count]);
                    }
                    Ok(_) | Err(_) => {
                        self.is_readable = false;
                        submission.disconnected(Instant::now());
                    }
                },
                () = sleep_until(deadline.into()) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(())
    }

    /// Reads what the server said before it hung up.
    async fn last_words(&mut self, submission: &mut Submission) {
        let all = async {
            while self.is_readable {
                self.read(submission).await;
            }
        };
        if timeout(LAST_WORDS_TIMEOUT, all).await.is_err() {
            self.is_readable = false;
            submission.disconnected(Instant::now());
        }
    }
}
