//! `minismtp serve`: flags to configuration to server.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Global;
use super::certificate::{self, Shown};
use super::privileges::{self, SystemUser};
use super::report::{ExitStatus, Failure, Output};
use super::root::Root;
use crate::address::is_domain;
use crate::credentials::{CREDENTIALS_FILE, Credentials, CredentialsFile};
use crate::mailbox::file::{FileStore, Handles, READER_FILES};
use crate::mailbox::{Store, StoreError};
use crate::maillog::{Level, Log};
use crate::net::is_local;
use crate::pop3;
use crate::server::delivery::Policy;
use crate::server::limits::CONNECTIONS_PER_ADDRESS_MAX;
use crate::server::{Configuration, ListenError, Place, Protocol, Server, Sockets, runtime};
use crate::smtp::limits;
use crate::smtp::server::Settings;

/// The port for access to mailboxes in the lab.
const LAB_PORT: u16 = 1110;
/// Mailboxes that are held open, where the system has the handles.
const MAILBOXES_MAX: usize = 2048;
/// Large texts that arrive at once, where the system has the handles.
const SPOOLS_MAX: usize = 1024;
/// Mailboxes that are read at once, where the system has the handles.
const READERS_MAX: usize = 680;
/// File handles that are none of these: the journal, locks, the log. Half of them where there are few.
const OTHER_FILES: u64 = 128;
/// Connections at once where nothing else is said and the system has the handles.
const CONNECTIONS_MAX: usize = 10_000;

/// Receive mail over SMTP, file it in the users' mailboxes, and give access to them over POP3
///
/// Prints `listening smtp ADDRESS` on standard output once it takes connections, and
/// `listening pop3 ADDRESS` with `--pop3-port` or `--lab`, `listening lmtp ADDRESS` with
/// `--lmtp-port` or `--lmtp-socket`, and so on for `--smtps-port` and `--pop3s-port`; then, where
/// there is one, `certificate sha256 FINGERPRINT`. Logs on standard error, a line an event. SIGTERM
/// and SIGINT end it within ten seconds: messages in flight are finished if they come in that time,
/// and nothing that was acknowledged is lost, then or in any crash.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  Serve the users in the `logincred.txt` of the current directory, on port 2525:
      minismtp serve --port 2525

  The same as NITC's lab has it:
      minismtp serve 2525

  For a test: on a free port, which the first line of output tells:
      minismtp serve --port 0 --root /tmp/mail

  With mailbox access for mail programs, by user name and password:
      minismtp serve --pop3-port 1110

  The same as Teena's lab has it: mailbox access on port 1110, without passwords:
      minismtp serve --lab --root MAILSERVER

  Behind a bigger mail server, which hands over what is for our users:
      minismtp serve --lmtp-socket /run/minismtp/lmtp

  For a home network, only for two domains:
      minismtp serve --port 25 --host 0.0.0.0 --host :: --domain home.arpa --domain example.org

  With TLS, by a certificate of our own making or by one in files:
      minismtp serve --tls self-signed --pop3-port 1110
      minismtp serve --tls-cert fullchain.pem --tls-key privkey.pem --smtps-port 465

  For a home network, started by root and run as the user `mail`, who owns the mail root:
      minismtp serve --port 25 --host 0.0.0.0 --host :: --user mail --root /var/lib/minismtp")]
pub(crate) struct Args {
    /// The port to listen on, as NITC's lab gives it
    #[arg(value_name = "PORT", conflicts_with = "port")]
    my_port: Option<u16>,

    /// The port to listen on; 0 is a free one [default: 2525]
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,

    /// The port for access to mailboxes: POP3, and the verbs of Teena's lab; 0 is a free one
    #[arg(long, value_name = "PORT")]
    pop3_port: Option<u16>,

    /// Ask for no passwords at mailbox access, and let everybody there add users
    ///
    /// This is the trust of Teena's lab: who can connect can read, delete and send in every user's
    /// name. Without `--pop3-port` the port is 1110. A user added there (ADDU) has a password that
    /// nobody knows; `minismtp users passwd NAME` sets one.
    #[arg(long)]
    lab: bool,

    /// The port for LMTP, over which another mail server hands over mail; 0 is a free one
    #[arg(long, value_name = "PORT", value_parser = lmtp_port)]
    lmtp_port: Option<u16>,

    /// An address or name of this machine to listen on for LMTP; may be given more than once
    ///
    /// LMTP is for mail servers nearby, so that `--host` does not count for it. Other machines have
    /// to log in as with SMTP.
    #[arg(
        long,
        value_name = "HOST",
        default_value = "127.0.0.1",
        requires = "lmtp_port"
    )]
    lmtp_host: Vec<String>,

    /// A Unix socket for LMTP
    ///
    /// Its owner and group may connect (0660), and need no login to send as anybody; neither does
    /// who connects to `--lmtp-port` from this machine.
    #[arg(long, value_name = "PATH")]
    lmtp_socket: Option<PathBuf>,

    #[command(flatten)]
    certificate: certificate::Args,

    /// An address or name of this machine to listen on; may be given more than once
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: Vec<String>,

    /// A domain whose mail is ours; may be given more than once. Without it, every domain is
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    domain: Vec<String>,

    /// The user who gets mail for users that do not exist
    #[arg(long, value_name = "NAME")]
    catch_all: Option<String>,

    /// Whether senders have to log in
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Auth::Optional)]
    auth: Auth,

    /// The largest message, in octets, or with K, M or G behind
    #[arg(long, value_name = "SIZE", default_value = "25M", value_parser = size)]
    max_message_size: NonZeroU64,

    /// How many recipients a message may have, 100 at least
    #[arg(long, value_name = "N", default_value_t = limits::RECIPIENTS_MAX, value_parser = recipients)]
    max_recipients: usize,

    /// How many connections there may be at once [default: 10000, or as many as the system has
    /// file handles for]
    #[arg(long, value_name = "N", value_parser = connections)]
    max_connections: Option<usize>,

    /// How many of them may come from one address, or IPv6 network (/64). This machine may have any
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS_PER_ADDRESS_MAX,
          value_parser = connections)]
    max_connections_per_address: usize,

    /// How long to wait for a command or for more text, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = limits::SERVER_TIMEOUT.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// The name that the server calls itself [default: the machine's name]
    #[arg(long, value_name = "NAME", value_parser = domain)]
    hostname: Option<String>,

    /// The user of this machine to run as, once the ports are bound; for a server started by root
    ///
    /// The mail root has to belong to that user. Root is given up for good, before the first
    /// connection is taken.
    #[arg(long, value_name = "NAME", value_hint = clap::ValueHint::Username)]
    user: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Auth {
    /// Whoever does not log in may send too, but not as a local user from another machine
    Optional,
    /// Only users who logged in may send
    Required,
}

/// Runs `minismtp serve`.
pub(super) fn run(args: &Args, global: &Global, out: &mut Output) -> Result<(), Failure> {
    let listeners = listeners(args)?;
    let root = global.root()?;
    let files = args.certificate.files()?;
    let sockets = match &args.user {
        Some(name) => Some(bind_and_become(
            &SystemUser::find(name)?,
            &root,
            &listeners,
        )?),
        None => None,
    };
    let disk = root.open()?;
    // It has a thread, so root is given up by then.
    let log = Log::new(level(global), Box::new(io::stderr()));
    let place = root.path();
    let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    log.serving(&place.display());
    let reporter = log.clone();
    let credentials = CredentialsFile::new(Arc::clone(&disk));
    let credentials = Arc::new(credentials.reporting(move |what| reporter.warning(what)));
    warn_of_lab(args, &listeners, &log);
    warn_of_clear_text(args, &listeners, &log);
    warn_of_root(args, &listeners, &log);
    check_users(&*credentials, args, &log)?;
    if credentials.is_exposed()? {
        let file = root.path().join(CREDENTIALS_FILE);
        log.warning(&super::users::exposed(&file));
    }
    let (connections_max, handles) = share_handles(args.max_connections, &log);

    let runtime = runtime().map_err(|error| {
        Failure::new(ExitStatus::Internal, format_args!("cannot start: {error}"))
    })?;
    let reporter = log.clone();
    let store = FileStore::serve(
        Arc::clone(&disk),
        handles,
        Arc::new(move |finding| reporter.warning(finding)),
    )?;
    let store: Arc<dyn Store> = Arc::new(store);
    let hostname = args.hostname.clone().unwrap_or_else(hostname);
    let shown = args
        .certificate
        .shown(files, &*disk, &hostname, &listeners, &log)?;
    let fingerprint = shown.as_ref().map(|shown| shown.fingerprint);
    let tls = shown.map(|Shown { side, .. }| side);
    let timeout = Duration::from_secs(args.timeout);
    let configuration = Configuration {
        listeners,
        lmtp_socket: args.lmtp_socket.clone(),
        smtp: Settings {
            hostname: hostname.clone(),
            message_octets_max: args.max_message_size.get(),
            recipients_max: args.max_recipients,
            timeout,
            login_required: args.auth == Auth::Required,
            has_tls: tls.is_some(),
        },
        pop3: pop3::server::Settings {
            hostname,
            is_lab: args.lab,
            has_tls: tls.is_some(),
            message_octets_max: args.max_message_size.get(),
            login_timeout: timeout,
            idle_timeout: timeout.max(pop3::limits::IDLE_TIMEOUT),
        },
        tls,
        is_insecure_auth_allowed: args.certificate.insecure_auth,
        policy: Policy {
            domains: args.domain.clone(),
            catch_all: args.catch_all.clone(),
        },
        connections_max,
        connections_per_address_max: args.max_connections_per_address,
    };
    let served = runtime.block_on(async {
        let sockets = match sockets {
            Some(sockets) => sockets,
            None => Sockets::listen(&configuration.listeners)?,
        };
        let server = Server::on(sockets, configuration, credentials, store, log.clone())?;
        // Before anybody is told that we are there: a signal must not find us unprepared.
        let stop = Stop::new()?;
        for (protocol, address) in server.addresses() {
            out.result(format_args!("listening {} {address}", protocol.name()))?;
        }
        if let Some(path) = &args.lmtp_socket {
            out.result(format_args!("listening lmtp {}", path.display()))?;
        }
        if let Some(fingerprint) = fingerprint {
            out.result(format_args!("certificate sha256 {fingerprint}"))?;
        }
        server.run(stop.wait()).await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::ZERO);
    log.close();
    served
}

/// The signals that end a server.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(
                    ExitStatus::Internal,
                    format_args!("cannot catch signals: {error}"),
                )
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. SIGHUP does no harm: users are read anew at each login and
    /// recipient anyway.
    async fn wait(mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {}
            }
        }
    }
}

fn level(global: &Global) -> Level {
    match (global.quiet, global.verbose) {
        (true, _) => Level::Warning,
        (false, 0) => Level::Mail,
        (false, _) => Level::Dialog,
    }
}

/// Finds out now what would else be found out with the first mail.
fn check_users(credentials: &dyn Credentials, args: &Args, log: &Log) -> Result<(), Failure> {
    if credentials.list()?.is_empty() {
        log.warning(if args.lab {
            "there are no users yet; `ADDU NAME` or `minismtp users add NAME` makes one"
        } else {
            "there are no users yet; `minismtp users add NAME` makes one"
        });
    }
    match &args.catch_all {
        Some(name) if credentials.find(name)?.is_none() => Err(Failure::new(
            ExitStatus::Configuration,
            format_args!("`--catch-all {name}`: there is no such user"),
        )
        .hint(format_args!("`minismtp users add {name}` makes one"))),
        _ => Ok(()),
    }
}

/// In the lab everybody is trusted; on a network that may be more people than meant.
fn warn_of_lab(args: &Args, listeners: &[(Protocol, SocketAddr)], log: &Log) {
    let open = open(listeners, |protocol| protocol == Protocol::Pop3);
    if let Some(address) = open.filter(|_| args.lab) {
        log.warning(&format!(
            "`--lab` on {address}: whoever can connect reads, deletes and sends everybody's mail \
             without a password"
        ));
    }
}

/// Others cannot log in without TLS, and where mail is read, or only users may send, nothing can be
/// done without a login. Where they can, everybody on the way reads their passwords.
fn warn_of_clear_text(args: &Args, listeners: &[(Protocol, SocketAddr)], log: &Log) {
    let certificate = &args.certificate;
    if certificate.insecure_auth {
        if let Some(address) = open(listeners, |protocol| !protocol.is_under_tls()) {
            log.warning(&format!(
                "`--insecure-auth` on {address}: passwords from other machines may come in clear, for \
                 others on the way to read"
            ));
        }
        return;
    }
    if certificate.is_given() {
        return;
    }
    let needs_login = |protocol| match protocol {
        Protocol::Pop3 | Protocol::Pop3s => !args.lab,
        Protocol::Lmtp | Protocol::Smtp | Protocol::Smtps => args.auth == Auth::Required,
    };
    if let Some(address) = open(listeners, needs_login) {
        log.warning(&format!(
            "nobody can log in to {address} from another machine, since there is no TLS; \
             `--tls self-signed` makes a certificate"
        ));
    }
}

/// Who finds a hole in a server has what its user has.
fn warn_of_root(args: &Args, listeners: &[(Protocol, SocketAddr)], log: &Log) {
    if args.user.is_none() && privileges::is_root() && open(listeners, |_| true).is_some() {
        log.warning("running as root; `--user NAME` runs as another user once the ports are bound");
    }
}

/// The first address that other machines may reach, and that is for such a protocol.
fn open(
    listeners: &[(Protocol, SocketAddr)],
    is_meant: impl Fn(Protocol) -> bool,
) -> Option<SocketAddr> {
    listeners
        .iter()
        .find(|(protocol, address)| is_meant(*protocol) && !is_local(*address))
        .map(|(_, address)| *address)
}

/// Takes the ports that root may take, and gives root up.
fn bind_and_become(
    user: &SystemUser,
    root: &Root,
    listeners: &[(Protocol, SocketAddr)],
) -> Result<Sockets, Failure> {
    user.owns(root)?;
    let sockets = Sockets::listen(listeners)?;
    user.become_for_good()?;
    Ok(sockets)
}

fn listeners(args: &Args) -> Result<Vec<(Protocol, SocketAddr)>, Failure> {
    let smtp_port = args.my_port.or(args.port).unwrap_or(2525);
    let pop3_port = args.pop3_port.or_else(|| args.lab.then_some(LAB_PORT));
    let mut listeners = Vec::new();
    for (protocol, port) in [
        (Protocol::Smtp, Some(smtp_port)),
        (Protocol::Pop3, pop3_port),
        (Protocol::Lmtp, args.lmtp_port),
    ]
    .into_iter()
    .chain(args.certificate.ports())
    {
        if let Some(port) = port {
            let addresses = match protocol {
                // LMTP has no business on a network that nobody named (RFC 2033 §5).
                Protocol::Lmtp => addresses(&args.lmtp_host, "--lmtp-host", port)?,
                _ => addresses(&args.host, "--host", port)?,
            };
            refuse_taken(args, &listeners, protocol, &addresses)?;
            listeners.extend(addresses.into_iter().map(|address| (protocol, address)));
        }
    }
    Ok(listeners)
}

/// A port speaks one protocol.
fn refuse_taken(
    args: &Args,
    listeners: &[(Protocol, SocketAddr)],
    protocol: Protocol,
    addresses: &[SocketAddr],
) -> Result<(), Failure> {
    let is_taken = |address: &SocketAddr| addresses.iter().any(|other| is_same(*address, *other));
    let Some((other, address)) = listeners.iter().find(|(_, address)| is_taken(address)) else {
        return Ok(());
    };
    let named = |protocol| match protocol {
        Protocol::Pop3 if args.pop3_port.is_none() => "--lab".to_owned(),
        protocol => flag(protocol),
    };
    let (first, second) = (named(*other), named(protocol));
    Err(Failure::new(
        ExitStatus::Usage,
        format_args!("`{first}` and `{second}` both take {address}"),
    )
    .hint("a port speaks one protocol; give each its own (0 finds a free one)"))
}

/// Whether only one of both can be listened on: the one may be all addresses of its kind.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    let is_everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || is_everywhere && a.is_ipv4() == b.is_ipv4())
}

fn addresses(hosts: &[String], flag: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for host in hosts {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let found = (name, port).to_socket_addrs().map_err(|error| {
            Failure::new(
                ExitStatus::NoHost,
                format_args!("cannot listen on `{host}`: {error}"),
            )
            .hint(format_args!(
                "`{flag}` takes an address of this machine, or a name that leads to one"
            ))
        })?;
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

/// As many connections as were asked for, or as there can be, and what else the system's file handles
/// go to.
fn share_handles(asked: Option<usize>, log: &Log) -> (usize, Handles) {
    let wanted = asked.unwrap_or(CONNECTIONS_MAX);
    let files = MAILBOXES_MAX + SPOOLS_MAX + READERS_MAX * READER_FILES;
    let needed = (wanted + files) as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit {
            current: Some(needed.min(allowed)),
            maximum: limit.maximum,
        };
        // What cannot be raised is found out below.
        setrlimit(Resource::Nofile, raised).unwrap_or_default();
    }
    let handles = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let others = OTHER_FILES.min(handles / 2);
    let handles = usize::try_from(handles - others).unwrap_or(usize::MAX);
    let of_store = Handles {
        mailboxes: (handles / 8).clamp(1, MAILBOXES_MAX),
        spools: (handles / 16).clamp(1, SPOOLS_MAX),
        readers: (handles / 6).clamp(READER_FILES, READERS_MAX * READER_FILES),
    };
    let files = of_store.mailboxes + of_store.spools + of_store.readers;
    let connections = wanted.min(handles.saturating_sub(files)).max(1);
    if connections < wanted {
        log.warning(&format!(
            "{connections} at once is all the connections there can be, not {wanted}: the system \
             allows no more open files (`ulimit -n`)"
        ));
    }
    (connections, of_store)
}

/// The machine's name, if it can stand in a greeting.
pub(super) fn hostname() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if is_domain(&name) && name.is_ascii() {
        name
    } else {
        "localhost".to_owned()
    }
}

fn domain(text: &str) -> Result<String, String> {
    if is_domain(text) {
        Ok(text.to_owned())
    } else {
        Err("not a domain name".to_owned())
    }
}

fn lmtp_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(25) => Err("port 25 is for SMTP only (RFC 2033 §5)".to_owned()),
        port => port.map_err(|_| "a port is a number from 0 to 65535".to_owned()),
    }
}

fn size(text: &str) -> Result<NonZeroU64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1024,
        "M" | "MB" | "MIB" => 1024 * 1024,
        "G" | "GB" | "GIB" => 1024 * 1024 * 1024,
        _ => return Err("a size is a number of octets, or a number with K, M or G".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a size is a number, such as 25M or 1000000".to_owned())?;
    let octets = number
        .checked_mul(unit)
        .ok_or("that is more than there is")?;
    // RFC 5321 §4.5.3.1.7 wants 64 KiB at least; tests want to see small limits.
    NonZeroU64::new(octets).ok_or_else(|| "a message has at least one octet".to_owned())
}

fn recipients(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if number < limits::RECIPIENTS_MIN {
        return Err(format!(
            "a server takes {} at least (RFC 5321)",
            limits::RECIPIENTS_MIN
        ));
    }
    Ok(number)
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("a number from 1 to 1000000".to_owned()),
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable, NotFound, PermissionDenied};
        let failure = Self::new(ExitStatus::CannotCreate, &error);
        match (&error.place, error.source.kind()) {
            (Place::Port(protocol, _), AddrInUse) => failure.hint(format_args!(
                "another program has that port; stop it, or take another with `{} N` (0 finds a \
                 free one)",
                flag(*protocol)
            )),
            (Place::Port(protocol, _), PermissionDenied) => failure.hint(format_args!(
                "ports below 1024 are the system's; take another with `{} N`, or start it as root \
                 with `--user NAME`",
                flag(*protocol)
            )),
            (Place::Port(Protocol::Lmtp, _), AddrNotAvailable) => {
                failure.hint("`--lmtp-host` takes an address of this machine")
            }
            (Place::Port(..), AddrNotAvailable) => {
                failure.hint("`--host` takes an address of this machine")
            }
            (Place::Socket(path), NotFound) => failure.hint(format_args!(
                "the directory `{}` has to be there, and writable for the user who runs the \
                 server; in a systemd unit, `RuntimeDirectory=` makes one in `/run`",
                directory(path).display()
            )),
            (Place::Socket(path), PermissionDenied) => failure.hint(format_args!(
                "the directory `{}` has to be writable for the user who runs the server",
                directory(path).display()
            )),
            (Place::Socket(_), AddrInUse) => {
                failure.hint("another server listens there; name another path")
            }
            _ => failure,
        }
    }
}

/// The flag that sets the port.
fn flag(protocol: Protocol) -> String {
    match protocol {
        Protocol::Smtp => "--port".to_owned(),
        other => format!("--{}-port", other.name()),
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse { .. } => Self::new(ExitStatus::TryAgain, &error)
                .hint("stop that server, or name another directory with `--root DIR`"),
            StoreError::Io { ref source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::new(ExitStatus::InputOutput, &error).hint(
                    "run it as the user who owns the mail root, to whom all that is in there has \
                     to belong too",
                )
            }
            StoreError::Io { .. } => Self::new(ExitStatus::InputOutput, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, octets) in [
            ("1", 1),
            ("64K", 65_536),
            ("25M", 26_214_400),
            ("1g", 1 << 30),
        ] {
            assert_eq!(size(text).map(NonZeroU64::get), Ok(octets), "{text}");
        }
        for text in [
            "",
            "M",
            "0",
            "-1",
            "1.5M",
            "1T",
            "99999999999999999999",
            "99999999999G",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_machines_name_can_stand_in_a_greeting() {
        assert!(is_domain(&hostname()));
    }
}
