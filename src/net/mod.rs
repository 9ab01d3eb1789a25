//! Sockets: listening, TLS, and moving octets between a connection and an engine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};

pub mod certificate;
pub mod drive;
pub mod local;
pub mod stream;
pub mod tls;
pub mod trust;

use local::LocalListener;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Whether an address is this machine's own, which no network leads to.
#[must_use]
pub fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Internet(TcpListener),
    /// A Unix socket.
    Local(LocalListener),
}

impl Listener {
    /// Waits for a connection. One through a Unix socket comes from the loopback address, port 0.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Internet(listener) => listener.accept().await,
            Self::Local(listener) => {
                let stream = listener.accept().await?;
                Ok((stream, (Ipv4Addr::LOCALHOST, 0).into()))
            }
        }
    }
}

/// Listens on an address. The socket does not block; no runtime is needed yet.
///
/// # Errors
///
/// The address is in use, not ours, or not allowed.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        // `::` is the IPv6 half; `0.0.0.0` may be listened on beside it.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Connections of an earlier run that linger must not keep a new one from starting.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG.cast_signed())?;
    Ok(socket.into())
}
