//! Sockets: listening, and moving octets between a connection and an engine.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

pub mod drive;
pub mod stream;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address.
///
/// # Errors
///
/// The address is in use, not ours, or not allowed.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an earlier run that linger must not keep a new one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
