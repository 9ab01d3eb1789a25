//! The client: where a server is, and what a caller learns from talking to it.
//!
//! [`submit::submit`] dials, lets [`crate::smtp::client`] talk, and gives back either that no
//! connection came about ([`DialError`]) or what was said on it
//! ([`crate::smtp::client::Outcome`]). [`access::Access`] dials and carries on a conversation
//! ([`crate::pop3::client`]) for as long as its caller likes.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::stream::Stream;
use crate::net::tls::{Failure, HANDSHAKE_TIMEOUT, Side};
use crate::net::trust::{Authorities, Trust};

pub mod access;
pub mod submit;

/// The port of a mail server where none is named.
pub const SMTP_PORT_DEFAULT: u16 = 2525;
/// The port for mailbox access where none is named: the one that `serve --lab` has.
pub const ACCESS_PORT_DEFAULT: u16 = 1110;
/// How long one address of a server may take to answer a call.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A server's name or address, and its port: `localhost:2525`, `[::1]:2525`, `mail.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl ServerAddress {
    /// Takes `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT` or an IPv6 address alone, and the port
    /// where the text has none.
    ///
    /// # Errors
    ///
    /// The text names no server.
    pub fn parse(text: &str, port_default: u16) -> Result<Self, ServerAddressError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(ServerAddressError::Host)?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| ServerAddressError::Host)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(ServerAddressError::Port),
            }
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ServerAddressError::Host);
        }
        let port = match port {
            None => port_default,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(ServerAddressError::Port),
            },
        };
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

impl FromStr for ServerAddress {
    type Err = ServerAddressError;

    /// Takes a mail server, as [`ServerAddress::parse`] does.
    fn from_str(text: &str) -> Result<Self, ServerAddressError> {
        Self::parse(text, SMTP_PORT_DEFAULT)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// When a connection is under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// As soon as the server offers it. Where it then fails, nothing more is said.
    IfOffered,
    /// As soon as the server offers it, and it gets nothing if it does not.
    Required,
    /// From the first octet (RFC 8314).
    Implicit,
}

/// What protects a connection.
#[derive(Clone, Debug)]
pub struct Security {
    /// When TLS begins.
    pub tls: Tls,
    /// Who is believed to be the server then.
    pub trust: Trust,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            tls: Tls::IfOffered,
            trust: Trust::Authorities(Authorities::System, None),
        }
    }
}

impl Security {
    /// Whether a password may go over the connection once it is under TLS: not where anybody may
    /// be at the other end.
    fn is_password_safe(&self) -> bool {
        !matches!(self.trust, Trust::Anybody)
    }
}

/// Why a text names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerAddressError {
    /// No name and no IP address before the port.
    #[error("the host must be a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// The port is no number, or out of range.
    #[error("the port must be a number from 1 to 65535")]
    Port,
}

/// Why there was no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name leads to no address.
    #[error("cannot find the host `{host}`: {cause}")]
    NoSuchHost {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// Not one of its addresses answered.
    #[error("cannot connect to `{server}`: {}", attempts_text(.attempts))]
    CannotConnect {
        /// The server as it was named.
        server: ServerAddress,
        /// Each address, and why it failed.
        attempts: Vec<(SocketAddr, io::Error)>,
    },
    /// The connection came about, and TLS on it did not.
    #[error("no TLS with `{server}`: {cause}")]
    Tls {
        /// The server as it was named.
        server: ServerAddress,
        /// Why not.
        cause: Failure,
    },
    /// The system gives us nothing to talk with.
    #[error("cannot use the network: {0}")]
    Network(io::Error),
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

/// Takes over a connection that was dialled, and begins TLS where that comes first.
async fn secure(
    socket: TcpStream,
    server: &ServerAddress,
    security: &Security,
    timeout_max: Option<Duration>,
) -> Result<Stream, DialError> {
    let no_tls = |cause| DialError::Tls {
        server: server.clone(),
        cause,
    };
    let side = match security.tls {
        Tls::Off => None,
        _ => Some(Side::client(&security.trust, &server.host).map_err(no_tls)?),
    };
    let mut stream = Stream::new(socket).with_tls(side);
    if security.tls == Tls::Implicit {
        let wait = timeout_max.map_or(HANDSHAKE_TIMEOUT, |max| max.min(HANDSHAKE_TIMEOUT));
        let secured = stream.secure(Instant::now() + wait).await;
        secured.map_err(no_tls)?;
    }
    Ok(stream)
}

fn attempts_text(attempts: &[(SocketAddr, io::Error)]) -> String {
    let texts = attempts
        .iter()
        .map(|(address, cause)| format!("{address}: {cause}"));
    texts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_in_many_ways() {
        for (text, expected) in [
            ("localhost", "localhost:2525"),
            ("localhost:25", "localhost:25"),
            ("127.0.0.1:587", "127.0.0.1:587"),
            ("[::1]:25", "[::1]:25"),
            ("[::1]", "[::1]:2525"),
            ("::1", "[::1]:2525"),
            ("mail.example.", "mail.example.:2525"),
        ] {
            let server: ServerAddress = text.parse().expect(text);
            assert_eq!(server.to_string(), expected, "{text}");
            assert_eq!(server.to_string().parse(), Ok(server), "{text}");
        }
        for (text, expected) in [
            ("", ServerAddressError::Host),
            (":25", ServerAddressError::Host),
            ("a b:25", ServerAddressError::Host),
            ("[::1", ServerAddressError::Host),
            ("[localhost]:25", ServerAddressError::Host),
            ("[::1]25", ServerAddressError::Port),
            ("localhost:", ServerAddressError::Port),
            ("localhost:0", ServerAddressError::Port),
            ("localhost:65536", ServerAddressError::Port),
            ("localhost:smtp", ServerAddressError::Port),
            ("localhost:25:25", ServerAddressError::Port),
        ] {
            assert_eq!(text.parse::<ServerAddress>(), Err(expected), "{text}");
        }
    }
}
