//! Sockets: listening, and moving octets between a connection and an engine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub mod drive;
pub mod local;
pub mod stream;

use local::LocalListener;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

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

/// Listens on an address.
///
/// # Errors
///
/// The address is in use, not ours, or not allowed.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // `::` is the IPv6 half; `0.0.0.0` may be listened on beside it.
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    // Connections of an earlier run that linger must not keep a new one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
