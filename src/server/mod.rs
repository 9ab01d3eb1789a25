//! The server: listeners, a limit on connections, a stop that loses nothing.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{JoinError, JoinSet};

use crate::credentials::Credentials;
use crate::mailbox::Store;
use crate::maillog::{Log, SessionLog};
use crate::net::drive::drive;
use crate::net::local::LocalListener;
use crate::net::stream::Stream;
use crate::net::tls::{Failure, HANDSHAKE_TIMEOUT, Side};
use crate::net::{self, Listener};
use crate::pop3;
use crate::smtp;
use crate::wire::Channel;

mod arrivals;
pub mod certificates;
pub mod delivery;
mod door;
mod failures;
pub mod limits;
pub mod retrieval;
mod turns;

use delivery::{Office, Policy};
use limits::{ACCEPT_PAUSE, CLOSE_TIME_MIN, Full, Places, STOP_TIMEOUT, TURN_AWAY_TIMEOUT};

/// How many sessions may have their turn until the system is asked who else is ready.
const TURNS_UNTIL_EVENTS: u32 = 16;
/// How many may until what other threads have done is looked at.
const TURNS_UNTIL_OUTCOMES: u32 = 8;

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Another mail server hands over what is for our users.
    Lmtp,
    /// Mailbox access: POP3 and the verbs of Teena's lab.
    Pop3,
    /// The same, under TLS from the first octet (RFC 8314).
    Pop3s,
    /// Mail comes in.
    Smtp,
    /// The same, under TLS from the first octet (RFC 8314).
    Smtps,
}

impl Protocol {
    /// Its name in what `serve` prints and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lmtp => "lmtp",
            Self::Pop3 => "pop3",
            Self::Pop3s => "pop3s",
            Self::Smtp => "smtp",
            Self::Smtps => "smtps",
        }
    }

    /// Whether TLS begins before anything is said.
    #[must_use]
    pub fn is_under_tls(self) -> bool {
        matches!(self, Self::Pop3s | Self::Smtps)
    }
}

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Where to listen, for what; port 0 is a free one.
    pub listeners: Vec<(Protocol, SocketAddr)>,
    /// Where to listen for LMTP on a Unix socket.
    pub lmtp_socket: Option<PathBuf>,
    /// What SMTP sessions offer and allow.
    pub smtp: smtp::server::Settings,
    /// What POP3 sessions offer and allow.
    pub pop3: pop3::server::Settings,
    /// What TLS begins with; `None` for no TLS.
    pub tls: Option<Side>,
    /// Whether passwords are taken in clear from other machines too.
    pub is_insecure_auth_allowed: bool,
    /// Whose mail is taken.
    pub policy: Policy,
    /// How many connections there may be at once.
    pub connections_max: usize,
    /// How many of them may come from one address that is not this machine's.
    pub connections_per_address_max: usize,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(Protocol, Listener)>,
    addresses: Vec<(Protocol, SocketAddr)>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    smtp: Arc<smtp::server::Settings>,
    /// For a mail server of this machine: it knows whom it takes mail from.
    lmtp: Arc<smtp::server::Settings>,
    pop3: Arc<pop3::server::Settings>,
    tls: Option<Side>,
    is_insecure_auth_allowed: bool,
    office: Arc<Office>,
    store: Arc<dyn Store>,
    sessions: AtomicU64,
    places: Places,
}

impl Shared {
    /// A number for the next session.
    fn number(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Who can listen on a connection that is in clear.
    fn channel(&self, peer: SocketAddr) -> Channel {
        if self.is_insecure_auth_allowed || net::is_local(peer) {
            Channel::Private
        } else {
            Channel::Open
        }
    }
}

/// A place that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}: {source}")]
pub struct ListenError {
    /// Where.
    pub place: Place,
    /// Why not.
    pub source: io::Error,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port, and what is spoken there.
    Port(Protocol, SocketAddr),
    /// A Unix socket.
    Socket(PathBuf),
}

impl Place {
    fn refused(self) -> impl FnOnce(io::Error) -> ListenError {
        move |source| ListenError {
            place: self,
            source,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(_, address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// Addresses that are listened on; nobody is served yet.
#[derive(Debug)]
pub struct Sockets(Vec<(Protocol, SocketAddr, std::net::TcpListener)>);

impl Sockets {
    /// Listens on all addresses. Needs no runtime, and has no threads.
    ///
    /// # Errors
    ///
    /// The first address that cannot be listened on.
    pub fn listen(listeners: &[(Protocol, SocketAddr)]) -> Result<Self, ListenError> {
        let listen = |&(protocol, address): &(Protocol, SocketAddr)| {
            let refused = || Place::Port(protocol, address).refused();
            let listener = net::listen(address).map_err(refused())?;
            let address = listener.local_addr().map_err(refused())?;
            Ok((protocol, address, listener))
        };
        listeners
            .iter()
            .map(listen)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The runtime that a server runs on: one thread moves all octets, and needs to wake no other for
/// that. Commits, password checks and whatever may have to wait for a disk have threads of their own.
///
/// # Errors
///
/// The system has no descriptors to give.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS_UNTIL_EVENTS)
        .global_queue_interval(TURNS_UNTIL_OUTCOMES)
        .thread_name("work")
        .build()
}

/// How many processors we may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Server {
    /// Listens on all addresses. Connections wait until [`Server::run`]. Within a runtime only.
    ///
    /// # Errors
    ///
    /// The first address that cannot be listened on.
    pub fn bind(
        configuration: Configuration,
        credentials: Arc<dyn Credentials>,
        store: Arc<dyn Store>,
        log: Log,
    ) -> Result<Self, ListenError> {
        let sockets = Sockets::listen(&configuration.listeners)?;
        Self::on(sockets, configuration, credentials, store, log)
    }

    /// The same on sockets that are there already. Within a runtime only.
    ///
    /// # Errors
    ///
    /// The first address that cannot be listened on.
    pub fn on(
        sockets: Sockets,
        configuration: Configuration,
        credentials: Arc<dyn Credentials>,
        store: Arc<dyn Store>,
        log: Log,
    ) -> Result<Self, ListenError> {
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for (protocol, address, listener) in sockets.0 {
            let refused = Place::Port(protocol, address).refused();
            let listener = TcpListener::from_std(listener).map_err(refused)?;
            listeners.push((protocol, Listener::Internet(listener)));
            addresses.push((protocol, address));
        }
        if let Some(path) = configuration.lmtp_socket {
            let listener = LocalListener::bind(&path);
            let listener = listener.map_err(Place::Socket(path).refused())?;
            listeners.push((Protocol::Lmtp, Listener::Local(listener)));
        }
        let hostname = configuration.smtp.hostname.clone();
        let office = Office::new(
            configuration.policy,
            hostname,
            credentials,
            Arc::clone(&store),
            log,
        );
        let lmtp = smtp::server::Settings {
            login_required: false,
            ..configuration.smtp.clone()
        };
        let shared = Shared {
            smtp: Arc::new(configuration.smtp),
            lmtp: Arc::new(lmtp),
            pop3: Arc::new(configuration.pop3),
            tls: configuration.tls,
            is_insecure_auth_allowed: configuration.is_insecure_auth_allowed,
            office: Arc::new(office),
            store,
            sessions: AtomicU64::new(0),
            places: Places::new(
                configuration.connections_max,
                configuration.connections_per_address_max,
            ),
        };
        Ok(Self {
            listeners,
            addresses,
            shared: Arc::new(shared),
        })
    }

    /// The addresses where it listens, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[(Protocol, SocketAddr)] {
        &self.addresses
    }

    /// Serves until `stop` is done. Then no connection is taken any more, messages in flight may
    /// come to their end, everybody else is told 421 or, on POP3, left, and the store is closed.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let log = self.shared.office.log().clone();
        let (stopper, stopping) = watch::channel(false);
        let mut acceptors = JoinSet::new();
        for (protocol, address) in &self.addresses {
            log.listening(protocol.name(), address);
        }
        for (protocol, listener) in self.listeners {
            if let Listener::Local(listener) = &listener {
                log.listening(protocol.name(), &listener.path().display());
            }
            let shared = Arc::clone(&self.shared);
            acceptors.spawn(accept(listener, protocol, shared, stopping.clone()));
        }
        stop.await;
        let places = &self.shared.places;
        log.stopping(places.taken());
        acceptors.shutdown().await;
        // Nobody is left to hear it if there is no session.
        stopper.send(true).unwrap_or_default();
        self.shared.office.door().close();
        let begun = Instant::now();
        // A session that is not done by then is cut off when the runtime goes.
        drop(tokio::time::timeout(STOP_TIMEOUT - CLOSE_TIME_MIN, places.empty()).await);
        let store = Arc::clone(&self.shared.store);
        let closed = tokio::task::spawn_blocking(move || store.close());
        // Somebody may hold the store's lock for long. What is left is recovered at the next start.
        let left = STOP_TIMEOUT.saturating_sub(begun.elapsed());
        drop(tokio::time::timeout(left, closed).await);
        log.stopped();
    }
}

/// Has something done that may have to wait for a disk, in another thread, while this one goes on with
/// the other sessions; gives back what it was done with.
async fn aside<T: Send + 'static, R: Send + 'static>(
    mut with: T,
    work: impl FnOnce(&mut T) -> R + Send + 'static,
) -> (T, R) {
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&mut with);
        (with, result)
    });
    match done.await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is at its end.
        Err(Err(_)) => std::future::pending().await,
    }
}

async fn accept(
    listener: Listener,
    protocol: Protocol,
    shared: Arc<Shared>,
    stopping: watch::Receiver<bool>,
) {
    let mut has_warned = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                has_warned = false;
                begin(stream, protocol, peer, &shared, &stopping);
            }
            // The client went away while it waited.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !has_warned {
                    let log = shared.office.log();
                    log.warning(&format!("cannot take connections for now: {error}"));
                }
                has_warned = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn begin(
    stream: TcpStream,
    protocol: Protocol,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    stopping: &watch::Receiver<bool>,
) {
    let stream = Stream::new(stream).with_tls(shared.tls.clone());
    let place = match shared.places.take(peer) {
        Ok(place) => place,
        Err(full) => return turn_away(stream, protocol, peer, shared, full),
    };
    let entrance = match protocol {
        Protocol::Lmtp | Protocol::Smtp | Protocol::Smtps => None,
        Protocol::Pop3 | Protocol::Pop3s => match shared.places.take_before_login() {
            None => return turn_away(stream, protocol, peer, shared, Full::All),
            entrance => entrance,
        },
    };
    let shared = Arc::clone(shared);
    let stopping = stopping.clone();
    // In a box: to begin and to end, a task moves what it has in place several times.
    tokio::spawn(Box::pin(async move {
        let presence = shared.office.enter();
        match protocol {
            Protocol::Pop3 | Protocol::Pop3s => {
                serve_pop3(stream, protocol, peer, entrance, &shared, stopping).await;
            }
            Protocol::Lmtp | Protocol::Smtp | Protocol::Smtps => {
                serve_smtp(stream, protocol, peer, &shared, stopping).await;
            }
        }
        drop((presence, place));
    }));
}

/// Begins TLS where that comes first; gives the connection, and who can listen on it.
async fn open(
    mut stream: Stream,
    protocol: Protocol,
    peer: SocketAddr,
    shared: &Shared,
    log: &SessionLog,
    stopping: &watch::Receiver<bool>,
) -> Option<(Stream, Channel)> {
    log.connected(peer);
    if !protocol.is_under_tls() {
        return Some((stream, shared.channel(peer)));
    }
    let mut stopping = stopping.clone();
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT.min(shared.smtp.timeout);
    let secured = tokio::select! {
        secured = stream.secure(deadline) => secured,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => Err(Failure::Stopped),
    };
    match secured {
        Ok(version) => {
            log.secured(version);
            Some((stream, Channel::Secure))
        }
        Err(failure) => {
            stream.close().await;
            log.closed(Some(&io::Error::other(failure)));
            None
        }
    }
}

async fn serve_pop3(
    stream: Stream,
    protocol: Protocol,
    peer: SocketAddr,
    entrance: Option<OwnedSemaphorePermit>,
    shared: &Shared,
    stopping: watch::Receiver<bool>,
) {
    let office = Arc::clone(&shared.office);
    let clerk = retrieval::Clerk::new(office, shared.number(), peer);
    let mut clerk = clerk.at_entrance(entrance);
    let opened = open(stream, protocol, peer, shared, clerk.log(), &stopping).await;
    let Some((stream, channel)) = opened else {
        return;
    };
    let mut session = pop3::server::Session::new(Arc::clone(&shared.pop3), channel, Instant::now())
        .offering(shared.office.mechanisms());
    let timeout = shared.pop3.login_timeout;
    let driven = drive(&mut session, stream, &mut clerk, stopping, timeout).await;
    clerk.log().closed(driven.err().as_ref());
}

async fn serve_smtp(
    stream: Stream,
    protocol: Protocol,
    peer: SocketAddr,
    shared: &Shared,
    stopping: watch::Receiver<bool>,
) {
    let mut clerk = delivery::Clerk::new(Arc::clone(&shared.office), shared.number(), peer);
    let opened = open(stream, protocol, peer, shared, clerk.log(), &stopping).await;
    let Some((stream, channel)) = opened else {
        return;
    };
    let is_lmtp = protocol == Protocol::Lmtp;
    // Who is on this machine and may speak LMTP is trusted with whose mail it is.
    let settings = if is_lmtp && net::is_local(peer) {
        Arc::clone(&shared.lmtp)
    } else {
        Arc::clone(&shared.smtp)
    };
    let session = if is_lmtp {
        smtp::server::Session::lmtp(settings, channel, Instant::now())
    } else {
        smtp::server::Session::new(settings, channel, Instant::now())
    };
    let mut session = session.offering(shared.office.mechanisms());
    let timeout = shared.smtp.timeout;
    let driven = drive(&mut session, stream, &mut clerk, stopping, timeout).await;
    clerk.log().closed(driven.err().as_ref());
}

/// Says that there is no place, if there is one to say it from.
fn turn_away(
    mut stream: Stream,
    protocol: Protocol,
    peer: SocketAddr,
    shared: &Shared,
    full: Full,
) {
    shared.office.log().turned_away(
        peer,
        match full {
            Full::All => "too many connections",
            Full::Address => "too many connections from this address",
        },
    );
    let mut words = Vec::new();
    match (protocol, full) {
        // It would have to be said under TLS, which costs more than who is turned away is worth.
        (Protocol::Pop3s | Protocol::Smtps, _) => return,
        (Protocol::Pop3, Full::All) => pop3::reply::Reply::TOO_MANY_CONNECTIONS.encode(&mut words),
        (Protocol::Pop3, Full::Address) => {
            pop3::reply::Reply::TOO_MANY_FROM_ADDRESS.encode(&mut words);
        }
        (Protocol::Lmtp | Protocol::Smtp, Full::All) => {
            smtp::reply::Reply::TOO_MANY_CONNECTIONS.encode(&mut words);
        }
        (Protocol::Lmtp | Protocol::Smtp, Full::Address) => {
            smtp::reply::Reply::TOO_MANY_FROM_ADDRESS.encode(&mut words);
        }
    }
    let Some(outside) = shared.places.take_outside() else {
        // Too many to see each of them out.
        return stream.say(&words);
    };
    tokio::spawn(async move {
        let deadline = Instant::now() + TURN_AWAY_TIMEOUT;
        if stream.write(&words, deadline).await.is_ok() {
            stream.close().await;
        }
        drop(outside);
    });
}
