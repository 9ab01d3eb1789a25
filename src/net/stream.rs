//! Octets of a connection, in clear or under TLS, read and written with a deadline.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::tls::{Failure, Layer, Side};

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
    /// How TLS would begin; `None` where it cannot.
    side: Option<Side>,
    tls: Option<Box<Layer>>,
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
            side: None,
            tls: None,
        }
    }

    /// The same connection, where TLS can begin.
    #[must_use]
    pub fn with_tls(self, side: Option<Side>) -> Self {
        Self { side, ..self }
    }

    /// Agrees on TLS with the peer; gives its version, as in `1.3`. From then on the octets that
    /// are read and written are those under it.
    ///
    /// # Errors
    ///
    /// There is no TLS, and the connection is of no more use than to be closed.
    pub async fn secure(&mut self, deadline: Instant) -> Result<&'static str, Failure> {
        let Some(side) = &self.side else {
            return Err(Failure::Other("there is no certificate".to_owned()));
        };
        let mut layer = Box::new(Layer::new(side)?);
        loop {
            let flushed = flush(&self.socket, &mut layer, deadline).await;
            flushed.map_err(|error| lost(&error))?;
            if !layer.is_handshaking() {
                break;
            }
            let mut received = Ok(());
            let read = self.read(deadline, |octets| received = layer.receive(octets));
            match read.await {
                Ok(Read::Octets) => {}
                Ok(Read::End) => return Err(Failure::Lost),
                Ok(Read::TimedOut) => return Err(Failure::TimedOut),
                Err(error) => return Err(lost(&error)),
            }
            if let Err(error) = received {
                // The peer is told why, if it still listens.
                drop(flush(&self.socket, &mut layer, deadline).await);
                return Err(layer.failure(&error));
            }
        }
        let version = layer.version();
        self.tls = Some(layer);
        Ok(version)
    }

    /// Waits for octets and hands them to `take`. May be dropped before it is done: nothing is
    /// lost then.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub async fn read(&mut self, deadline: Instant, take: impl FnOnce(&[u8])) -> io::Result<Read> {
        self.read_spinning(Duration::ZERO, deadline, take).await
    }

    /// [`Stream::read`] that looks again and again for so long before it sleeps. Others on this
    /// thread get their turn between two looks.
    ///
    /// # Errors
    ///
    /// As for [`Stream::read`].
    pub async fn read_spinning(
        &mut self,
        spin_time: Duration,
        deadline: Instant,
        take: impl FnOnce(&[u8]),
    ) -> io::Result<Read> {
        if std::mem::take(&mut self.owes_acknowledgement) {
            // Senders that write a message in two pieces wait for an acknowledgement between
            // them, which the system delays by 40 ms unless told not to each time. A reply would
            // have carried it.
            rustix::net::sockopt::set_tcp_quickack(&self.socket, true).unwrap_or_default();
        }
        let mut take = Some(take);
        if !spin_time.is_zero() {
            let begun = Instant::now();
            while begun.elapsed() < spin_time {
                let look = poll_fn(|context| Poll::Ready(self.poll_read(context, &mut take)));
                if let Poll::Ready(read) = look.await {
                    return read;
                }
                tokio::task::yield_now().await;
            }
        }
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
        if let Some(layer) = &mut self.tls {
            while !rest.is_empty() {
                let taken = layer.send(rest)?;
                rest = &rest[taken..];
                flush(&self.socket, layer, deadline).await?;
            }
            return Ok(());
        }
        while !rest.is_empty() {
            match self.socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    writable(&self.socket, deadline).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says something to a peer that is new, as far as it goes at once.
    pub fn say(&self, octets: &[u8]) {
        // Not by the runtime, which does not know yet that it can be written to; nobody is here to hear
        // what becomes of it.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        send(&self.socket, octets, flags).unwrap_or_default();
    }

    /// Ends the connection so that the peer gets what was written last: closing with unread
    /// input would make the system throw it away.
    pub async fn close(mut self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        if let Some(mut layer) = self.tls.take() {
            layer.end();
            drop(flush(&self.socket, &mut layer, deadline).await);
        }
        if self.socket.shutdown().await.is_err() {
            return;
        }
        let mut drained = 0;
        while drained < DRAIN_OCTETS_MAX {
            match self.read(deadline, |octets| drained += octets.len()).await {
                Ok(Read::Octets) => {}
                Ok(Read::End | Read::TimedOut) | Err(_) => return,
            }
        }
    }

    /// Ends the connection without waiting for a peer that has said all: what was written still goes
    /// out.
    pub async fn leave(self) {
        // To close with unread input would make the system throw away what is on its way.
        let is_unread = || {
            let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            recv(&self.socket, &mut [0_u8; 1], peek) != Err(Errno::WOULDBLOCK)
        };
        // Under TLS it says once more that it has said all.
        if self.tls.is_some() || is_unread() {
            self.close().await;
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        take: &mut Option<impl FnOnce(&[u8])>,
    ) -> Poll<io::Result<Read>> {
        if self.tls.is_some() {
            return self.poll_read_secure(context, take);
        }
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

    fn poll_read_secure(
        &mut self,
        context: &mut Context<'_>,
        take: &mut Option<impl FnOnce(&[u8])>,
    ) -> Poll<io::Result<Read>> {
        let Some(layer) = &mut self.tls else {
            return Poll::Ready(Ok(Read::End));
        };
        loop {
            if layer.take(take) {
                self.owes_acknowledgement = true;
                return Poll::Ready(Ok(Read::Octets));
            }
            if layer.has_ended() {
                return Poll::Ready(Ok(Read::End));
            }
            let received = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Ok::<_, io::Error>(Some(layer.receive(buffer.filled()))))
            });
            let Some(received) = ready!(received)? else {
                return Poll::Ready(Ok(Read::End));
            };
            // An alert, or new keys. What does not fit now goes out with the next reply.
            if layer.wants_write() {
                layer
                    .write_to(&mut Socket(&self.socket))
                    .unwrap_or_default();
            }
            if let Err(error) = received {
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                return Poll::Ready(Err(error));
            }
        }
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

/// Writes what the layer has for the network.
async fn flush(socket: &TcpStream, layer: &mut Layer, deadline: Instant) -> io::Result<()> {
    while layer.wants_write() {
        match layer.write_to(&mut Socket(socket)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                writable(socket, deadline).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until the peer takes more.
async fn writable(socket: &TcpStream, deadline: Instant) -> io::Result<()> {
    let ready = tokio::time::timeout_at(deadline.into(), socket.writable()).await;
    ready.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn lost(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::Lost,
    }
}

/// Takes what the system has room for, and never waits.
struct Socket<'a>(&'a TcpStream);

impl io::Write for Socket<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.try_write(octets)
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
