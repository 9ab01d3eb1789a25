//! `minismtp demo`: a tour in a directory of its own, on a free port.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::dialog::Dialog;
use super::report::{ExitStatus, Failure, Output};
use crate::client::ServerAddress;
use crate::client::submit::{Options, submit};
use crate::credentials::{Credentials, CredentialsFile, PasswordHash};
use crate::disk::{self, Disk, RealDisk};
use crate::mailbox::Store;
use crate::mailbox::file::{FileStore, Handles, mailbox_path};
use crate::maillog::{Level, Log};
use crate::message::draft::DraftReader;
use crate::pop3;
use crate::sasl::Login;
use crate::secret::Secret;
use crate::server::delivery::Policy;
use crate::server::{Configuration, Protocol, Server, runtime};
use crate::smtp::client::Outcome;
use crate::smtp::limits;
use crate::smtp::server::Settings;
use crate::user::UserName;

/// The users of NITC's lab and their passwords; the first one writes to the last one.
const USERS: [(&str, &str); 3] = [
    ("Stallings", "network$ecurity"),
    ("Fourouzan", "d@t@comm"),
    ("Andrew", "@dministr@tor"),
];

/// Names to try for the directory.
const ATTEMPTS_MAX: u32 = 100;

/// The mail of NITC's lab, as it is typed.
const MAIL: &str = "\
From: stallings@localhost
To: andrew@localhost
Subject: SMTP Experiment
Next evaluation will be on 22 March 2021.
Please be ready.
.
";

/// Show all of it at work: a server, a client, a mail and the mailbox it ends up in
///
/// Starts a server on a free port of this machine, in a temporary directory, with the three users of
/// NITC's lab. The client logs in and sends the lab's example; every line of the dialog is shown, `C:`
/// for the client and `S:` for the server, and then the mailbox file. Nothing stays behind.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  minismtp demo")]
pub(crate) struct Args {}

/// Runs `minismtp demo`.
pub(super) fn run(out: &mut Output) -> Result<(), Failure> {
    let root = TemporaryRoot::create()?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).map_err(|e| root.error(&e))?);
    let credentials = Arc::new(CredentialsFile::new(Arc::clone(&disk)));
    for (name, password) in USERS {
        credentials.add(&user(name)?, &PasswordHash::plain(&Secret::new(password))?)?;
    }
    let log = Log::new(Level::Warning, Box::new(io::stderr()));
    let reporter = log.clone();
    let store = FileStore::serve(
        Arc::clone(&disk),
        Handles {
            mailboxes: 16,
            spools: 16,
            readers: 16,
        },
        Arc::new(move |finding| reporter.warning(finding)),
    )?;
    let running = Running::start(credentials, Arc::new(store), log)?;

    let [(sender, password), _, (receiver, _)] = USERS;
    out.done(format_args!(
        "A server runs on {}, for the users of NITC's lab. {sender} logs in and sends:\n\n{MAIL}\n\
         The dialog, C: the client, S: the server:\n",
        running.address
    ))?;
    let outcome = send(running.address, sender, password, out)?;
    running.stop();
    if let Err(failure) = outcome.result {
        return Err(internal(failure));
    }

    let path = mailbox_path(receiver);
    let mailbox = disk::read(&*disk, &path).map_err(|error| root.error(&error))?;
    let shown = disk.show(&path);
    out.done(format_args!(
        "\nThe mailbox of {receiver}, {}:\n",
        shown.display()
    ))?;
    out.write(&mailbox.unwrap_or_default())?;
    out.done("\nThat was all. `minismtp serve` and `minismtp send` do the same for you.")
}

/// Sends the mail and shows the dialog as it goes.
fn send(
    address: SocketAddr,
    user: &str,
    password: &str,
    out: &mut Output,
) -> Result<Outcome, Failure> {
    let mut reader = DraftReader::default();
    for line in MAIL.lines() {
        reader.line(line.as_bytes());
    }
    let draft = reader.finish().map_err(internal)?;
    let server = ServerAddress {
        host: address.ip().to_string(),
        port: address.port(),
    };
    let options = Options {
        login: Some(Login {
            user: user.to_owned(),
            password: Secret::new(password),
        }),
        is_step_by_step: true,
        ..Options::default()
    };
    let mut dialog = Dialog::default();
    let mut written = Ok(());
    let outcome = submit(
        &server,
        &options,
        Some(draft.into_message()),
        &mut |event| {
            for line in dialog.lines(event) {
                if written.is_ok() {
                    written = out.result(line.trim_end());
                }
            }
        },
    );
    written?;
    outcome.map_err(internal)
}

/// A server that runs beside us.
struct Running {
    address: SocketAddr,
    stopper: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    log: Log,
}

impl Running {
    fn start(
        credentials: Arc<dyn Credentials>,
        store: Arc<dyn Store>,
        log: Log,
    ) -> Result<Self, Failure> {
        let runtime = runtime().map_err(internal)?;
        let configuration = Configuration {
            listeners: vec![(Protocol::Smtp, (Ipv4Addr::LOCALHOST, 0).into())],
            lmtp_socket: None,
            smtp: Settings {
                hostname: "localhost".to_owned(),
                message_octets_max: limits::MESSAGE_OCTETS_MAX,
                recipients_max: limits::RECIPIENTS_MAX,
                timeout: limits::SERVER_TIMEOUT,
                login_required: false,
                has_tls: false,
            },
            pop3: pop3::server::Settings {
                hostname: "localhost".to_owned(),
                is_lab: false,
                has_tls: false,
                message_octets_max: limits::MESSAGE_OCTETS_MAX,
                login_timeout: limits::SERVER_TIMEOUT,
                idle_timeout: pop3::limits::IDLE_TIMEOUT,
            },
            tls: None,
            is_insecure_auth_allowed: false,
            policy: Policy::default(),
            connections_max: 10,
            connections_per_address_max: 10,
        };
        let (stopper, stopped) = oneshot::channel();
        let within = runtime.enter();
        let server = Server::bind(configuration, credentials, store, log.clone())?;
        drop(within);
        let (_, address) = server.addresses()[0];
        let run = server.run(async move {
            // A demo that is gone wants no server either.
            drop(stopped.await);
        });
        let thread = thread::Builder::new().name("serve".to_owned());
        let thread = thread.spawn(move || runtime.block_on(run));
        let thread = thread.map_err(internal)?;
        Ok(Self {
            address,
            stopper,
            thread,
            log,
        })
    }

    /// Waits until the server has ended: its files are to be removed.
    fn stop(self) {
        self.stopper.send(()).unwrap_or_default();
        drop(self.thread.join());
        self.log.close();
    }
}

/// A directory that is gone when this is dropped.
struct TemporaryRoot(PathBuf);

impl TemporaryRoot {
    /// Makes it, for this user alone; one that exists already is somebody else's.
    fn create() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;

        let mut created = Err(io::ErrorKind::AlreadyExists.into());
        let mut path = PathBuf::new();
        for attempt in 0..ATTEMPTS_MAX {
            let name = format!("minismtp-demo-{}-{attempt}", std::process::id());
            path = env::temp_dir().join(name);
            created = fs::DirBuilder::new().mode(0o700).create(&path);
            match &created {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                _ => break,
            }
        }
        match created {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(Failure::new(
                ExitStatus::CannotCreate,
                format_args!("cannot create the directory `{}`: {error}", path.display()),
            )
            .hint("the variable `TMPDIR` names another place for it")),
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn error(&self, error: &io::Error) -> Failure {
        Failure::new(
            ExitStatus::InputOutput,
            format_args!("cannot use the directory `{}`: {error}", self.0.display()),
        )
    }
}

impl Drop for TemporaryRoot {
    fn drop(&mut self) {
        // The system clears its directory for such things too.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn user(name: &str) -> Result<UserName, Failure> {
    name.parse().map_err(internal)
}

/// Nothing here depends on anybody but this program.
fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(ExitStatus::Internal, error)
}
