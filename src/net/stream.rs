//! Octets of a connection, read and written with a deadline.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How much is read at once.
const READ_OCTETS: usize = 64 * 1024;
/// How long a closing connection waits for what the peer still sends.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How much of that is read.
const DRAIN_OCTETS_MAX: usize = 1024 * 1024;

thread_local! {
    /// One buffer for all connections of a thread: an idle one needs none.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_OCTETS]);
}

/// A connection.
#[derive(Debug)]
pub struct Stream(TcpStream);

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Octets came.
    Octets,
    /// The peer will send nothing more.
    End,
    /// The deadline passed.
    TimedOut,
}

impl Stream {
    /// Takes a connection over.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        // Replies are small and awaited. Without it they would only be later.
        drop(stream.set_nodelay(true));
        Self(stream)
    }

    /// Waits for octets and hands them to `take`.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub async fn read(&self, deadline: Instant, take: impl FnOnce(&[u8])) -> io::Result<Read> {
        let mut take = Some(take);
        loop {
            if let Some(read) = self.try_read(&mut take)? {
                return Ok(read);
            }
            // Senders that write a message in two pieces wait for an acknowledgement between
            // them, which the system delays by 40 ms unless told not to each time.
            rustix::net::sockopt::set_tcp_quickack(&self.0, true).unwrap_or_default();
            match tokio::time::timeout_at(deadline.into(), self.0.readable()).await {
                Err(_) => return Ok(Read::TimedOut),
                Ok(ready) => ready?,
            }
        }
    }

    /// Writes all octets.
    ///
    /// # Errors
    ///
    /// The connection is broken, or the peer takes nothing until the deadline has passed.
    pub async fn write(&self, octets: &[u8], deadline: Instant) -> io::Result<()> {
        let mut rest = octets;
        while !rest.is_empty() {
            match self.0.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = tokio::time::timeout_at(deadline.into(), self.0.writable()).await;
                    ready.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the connection so that the peer gets what was written last: closing with unread
    /// input would make the system throw it away.
    pub async fn close(mut self) {
        if self.0.shutdown().await.is_err() {
            return;
        }
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut drained = 0;
        while drained < DRAIN_OCTETS_MAX {
            match self.read(deadline, |octets| drained += octets.len()).await {
                Ok(Read::Octets) => {}
                Ok(Read::End | Read::TimedOut) | Err(_) => return,
            }
        }
    }

    fn try_read(&self, take: &mut Option<impl FnOnce(&[u8])>) -> io::Result<Option<Read>> {
        BUFFER.with_borrow_mut(|buffer| match self.0.try_read(buffer) {
            Ok(0) => Ok(Some(Read::End)),
            Ok(count) => {
                if let Some(take) = take.take() {
                    take(&buffer[..count]);
                }
                Ok(Some(Read::Octets))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        })
    }
}
