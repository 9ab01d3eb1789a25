//! Octets of a connection, read and written with a deadline.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

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
pub struct Stream {
    socket: TcpStream,
    /// Goes off at a deadline or before it, and is then set anew: deadlines move with every
    /// command, and a timer that is left alone costs nothing.
    timer: Option<Pin<Box<Sleep>>>,
    /// Octets came and nothing was written since.
    owes_acknowledgement: bool,
}

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
    pub fn new(socket: TcpStream) -> Self {
        // Replies are small and awaited. Without it they would only be later.
        drop(socket.set_nodelay(true));
        Self {
            socket,
            timer: None,
            owes_acknowledgement: false,
        }
    }

    /// Waits for octets and hands them to `take`. May be dropped before it is done: nothing is
    /// lost then.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub async fn read(&mut self, deadline: Instant, take: impl FnOnce(&[u8])) -> io::Result<Read> {
        if std::mem::take(&mut self.owes_acknowledgement) {
            // Senders that write a message in two pieces wait for an acknowledgement between
            // them, which the system delays by 40 ms unless told not to each time. A reply would
            // have carried it.
            rustix::net::sockopt::set_tcp_quickack(&self.socket, true).unwrap_or_default();
        }
        let mut take = Some(take);
        poll_fn(|context| {
            if let Poll::Ready(read) = self.poll_read(context, &mut take) {
                return Poll::Ready(read);
            }
            ready!(self.poll_timer(context, deadline));
            Poll::Ready(Ok(Read::TimedOut))
        })
        .await
    }

    /// Writes all octets.
    ///
    /// # Errors
    ///
    /// The connection is broken, or the peer takes nothing until the deadline has passed.
    pub async fn write(&mut self, octets: &[u8], deadline: Instant) -> io::Result<()> {
        self.owes_acknowledgement = false;
        let mut rest = octets;
        while !rest.is_empty() {
            match self.socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready =
                        tokio::time::timeout_at(deadline.into(), self.socket.writable()).await;
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
        if self.socket.shutdown().await.is_err() {
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

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        take: &mut Option<impl FnOnce(&[u8])>,
    ) -> Poll<io::Result<Read>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => Poll::Ready(Ok(Read::End)),
                Ok(()) => {
                    self.owes_acknowledgement = true;
                    if let Some(take) = take.take() {
                        take(buffer.filled());
                    }
                    Poll::Ready(Ok(Read::Octets))
                }
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    }

    /// Ready once the deadline has passed.
    fn poll_timer(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) if timer.deadline() <= deadline.into() => timer,
            timer => timer.insert(Box::pin(tokio::time::sleep_until(deadline.into()))),
        };
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= deadline.into() {
                self.timer = None;
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}
