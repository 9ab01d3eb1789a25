//! The log: one typed function and one line for each event.
//!
//! A line is a time, what happened, and `key=value` pairs, the session first. Passwords and message
//! text have no function here that could write them. Writing goes on in a thread of its own: a
//! log that nobody reads must not stop the mail; what does not fit is counted and left out.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::SecondsFormat;

use crate::address::ReversePath;
use crate::clock;
use crate::user::UserName;

/// How long the last lines may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// How long the first of some lines waits for the others.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What somebody has to look at.
    Warning,
    /// What became of mail, logins and connections.
    Mail,
    /// Every command and reply.
    Dialog,
}

/// A log. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Log {
    level: Level,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    lines: Mutex<Option<SyncSender<String>>>,
    omitted: Arc<AtomicU64>,
    /// Says when everything is written.
    done: Mutex<Option<Receiver<()>>>,
}

/// The log of one session.
#[derive(Clone, Debug)]
pub struct SessionLog {
    log: Log,
    session: u64,
}

impl Log {
    /// Writes to `out`.
    #[must_use]
    pub fn new(level: Level, out: Box<dyn Write + Send>) -> Self {
        let (sender, lines) = sync_channel(LINES_MAX);
        let omitted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&omitted);
        let (finished, done) = sync_channel(1);
        let thread = std::thread::Builder::new().name("log".to_owned());
        let thread = thread.spawn(move || {
            write_all(&lines, &counter, out);
            finished.send(()).unwrap_or_default();
        });
        // A system without a thread to give has a server without a log.
        drop(thread);
        let inner = Inner {
            lines: Mutex::new(Some(sender)),
            omitted,
            done: Mutex::new(Some(done)),
        };
        Self {
            level,
            inner: Arc::new(inner),
        }
    }

    /// The log of a session.
    #[must_use]
    pub fn session(&self, session: u64) -> SessionLog {
        SessionLog {
            log: self.clone(),
            session,
        }
    }

    /// Something that somebody has to look at.
    pub fn warning(&self, what: &str) {
        self.line(Level::Warning, format_args!("warning {}", Value(what)));
    }

    /// The server takes connections.
    pub fn listening(&self, protocol: &str, address: &dyn fmt::Display) {
        let address = address.to_string();
        let address = Value(&address);
        self.line(
            Level::Mail,
            format_args!("listening protocol={protocol} address={address}"),
        );
    }

    /// Another certificate is shown from now on.
    pub fn certificate(&self, fingerprint: &dyn fmt::Display) {
        self.line(
            Level::Mail,
            format_args!("certificate sha256={fingerprint}"),
        );
    }

    /// The server was told to stop.
    pub fn stopping(&self, sessions: usize) {
        self.line(Level::Mail, format_args!("stopping sessions={sessions}"));
    }

    /// The server has ended.
    pub fn stopped(&self) {
        self.line(Level::Mail, format_args!("stopped"));
    }

    /// A connection was turned away, and why.
    pub fn turned_away(&self, peer: SocketAddr, reason: &str) {
        let reason = Value(reason);
        self.line(
            Level::Mail,
            format_args!("turned-away peer={peer} reason={reason}"),
        );
    }

    /// Writes what is waiting, and nothing after it.
    pub fn close(&self) {
        drop(
            self.inner
                .lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let done = self
            .inner
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(done) = done {
            // A log that nobody reads any more must not keep the program from ending.
            done.recv_timeout(CLOSE_TIMEOUT).unwrap_or_default();
        }
    }

    fn line(&self, level: Level, what: fmt::Arguments<'_>) {
        if level > self.level {
            return;
        }
        let time = clock::now().to_rfc3339_opts(SecondsFormat::Millis, false);
        let line = format!("{time} {what}\n");
        let lines = self
            .inner
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if lines
            .as_ref()
            .is_some_and(|lines| lines.try_send(line).is_err())
        {
            self.inner.omitted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SessionLog {
    /// A client connected.
    pub fn connected(&self, peer: SocketAddr) {
        self.line(Level::Mail, format_args!("connected peer={peer}"));
    }

    /// The connection is under TLS of this version.
    pub fn secured(&self, version: &str) {
        self.line(Level::Mail, format_args!("secured tls={version}"));
    }

    /// A command came.
    pub fn command(&self, command: &dyn fmt::Display) {
        if self.log.level >= Level::Dialog {
            self.line(
                Level::Dialog,
                format_args!("command {}", Value(&command.to_string())),
            );
        }
    }

    /// A reply was given that is not a refusal.
    pub fn reply(&self, reply: &dyn fmt::Display) {
        if self.log.level >= Level::Dialog {
            self.line(
                Level::Dialog,
                format_args!("reply {}", Value(&reply.to_string())),
            );
        }
    }

    /// A command was refused.
    pub fn refused(&self, command: &str, reply: &dyn fmt::Display) {
        let reply = reply.to_string();
        let (command, reply) = (Value(command), Value(&reply));
        self.line(
            Level::Mail,
            format_args!("refused command={command} reply={reply}"),
        );
    }

    /// Somebody logged in.
    pub fn logged_in(&self, user: &UserName) {
        self.line(
            Level::Mail,
            format_args!("logged-in user={}", Value(user.as_str())),
        );
    }

    /// Somebody gave a wrong name or password.
    pub fn login_failed(&self, user: &str, peer: SocketAddr) {
        self.line(
            Level::Mail,
            format_args!("login-failed user={} peer={peer}", Value(user)),
        );
    }

    /// A mailbox was opened.
    pub fn opened(&self, user: &UserName, messages: usize) {
        let user = Value(user.as_str());
        self.line(
            Level::Mail,
            format_args!("opened user={user} messages={messages}"),
        );
    }

    /// Messages were removed from a mailbox.
    pub fn removed(&self, user: &UserName, messages: usize) {
        let user = Value(user.as_str());
        self.line(
            Level::Mail,
            format_args!("removed user={user} messages={messages}"),
        );
    }

    /// A user was added over the wire.
    pub fn user_added(&self, user: &UserName) {
        let user = Value(user.as_str());
        self.line(Level::Mail, format_args!("user-added user={user}"));
    }

    /// A message is stored.
    pub fn delivered(&self, id: &str, from: &ReversePath, users: &[UserName], octets: u64) {
        let names: Vec<&str> = users.iter().map(UserName::as_str).collect();
        let (from, to) = (from.to_string(), names.join(","));
        let (from, to) = (Value(&from), Value(&to));
        self.line(
            Level::Mail,
            format_args!("delivered id={id} from={from} to={to} octets={octets}"),
        );
    }

    /// A message is not stored, and why.
    pub fn not_delivered(&self, id: &str, reason: &dyn fmt::Display) {
        let reason = reason.to_string();
        self.line(
            Level::Warning,
            format_args!("not-delivered id={id} reason={}", Value(&reason)),
        );
    }

    /// Something failed in this session that somebody has to look at.
    pub fn failed(&self, what: &str, reason: &dyn fmt::Display) {
        let reason = reason.to_string();
        self.line(
            Level::Warning,
            format_args!("failed what={what} reason={}", Value(&reason)),
        );
    }

    /// The session ended.
    pub fn closed(&self, error: Option<&std::io::Error>) {
        match error {
            None => self.line(Level::Mail, format_args!("closed")),
            Some(error) => {
                let error = error.to_string();
                self.line(Level::Mail, format_args!("closed error={}", Value(&error)));
            }
        }
    }

    fn line(&self, level: Level, what: fmt::Arguments<'_>) {
        self.log
            .line(level, format_args!("session={} {what}", self.session));
    }
}

/// A value on one line: quoted where it has to be.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_word = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
        if !self.0.is_empty() && self.0.chars().all(is_word) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char('?')?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

fn write_all(lines: &Receiver<String>, omitted: &AtomicU64, mut out: Box<dyn Write + Send>) {
    while let Ok(first) = lines.recv() {
        // Waking up for each line would cost more than writing it.
        std::thread::sleep(GATHER_TIME);
        let mut text = first;
        text.extend(lines.try_iter().take(LINES_MAX));
        match omitted.swap(0, Ordering::Relaxed) {
            0 => {}
            count => text.push_str(&format!(
                "{count} lines left out, the log is read too slowly\n"
            )),
        }
        // A log that cannot be written is no reason to stop.
        drop(out.write_all(text.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let page = Page::default();
        let log = Log::new(Level::Mail, Box::new(page.clone()));
        log.warning("two\nlines \"here\"");
        log.session(7).connected("127.0.0.1:25".parse().unwrap());
        log.session(7).command(&"NOOP");
        log.session(7)
            .login_failed("a b", "127.0.0.1:25".parse().unwrap());
        log.close();
        let written = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = written
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(
            lines,
            [
                "warning \"two\\nlines \\\"here\\\"\"",
                "session=7 connected peer=127.0.0.1:25",
                "session=7 login-failed user=\"a b\" peer=127.0.0.1:25",
            ],
        );
    }
}
