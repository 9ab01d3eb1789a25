//! The log: one typed function and one line for each event.
//!
//! A line is a time, what happened, and `key=value` pairs, the session first. Passwords and message
//! text have no function here that could write them. Writing goes on in a thread of its own: a
//! log that nobody reads must not stop the mail; what does not fit is counted and left out.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::SecondsFormat;

use crate::address::ReversePath;
use crate::clock;
use crate::user::UserName;

/// How long the last lines may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// From so many octets on that wait to be written, lines are left out.
const OCTETS_MAX: usize = 1024 * 1024;
/// How much memory is kept for the next lines.
const OCTETS_KEPT: usize = 64 * 1024;
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
    inner: Arc<Author>,
}

/// Whoever gives lines; with the last one the log ends.
#[derive(Debug, Default)]
struct Author(Arc<Inner>);

impl Drop for Author {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Whoever writes them, until there is nothing more to write.
struct Writer(Arc<Inner>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.waiting().is_all_written = true;
        self.0.news.notify_all();
    }
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    /// There is a line now, or there will be no more, or all are written.
    news: Condvar,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Waiting {
    lines: String,
    omitted: u64,
    is_closed: bool,
    is_all_written: bool,
    time: Time,
}

/// The time as lines have it: those of one millisecond share it.
#[derive(Debug, Default)]
struct Time {
    /// Milliseconds since 1970.
    of: i64,
    text: String,
}

impl Time {
    fn now(&mut self) -> &str {
        let now = clock::unix_micros().div_euclid(1000);
        if self.text.is_empty() || self.of != now {
            self.of = now;
            self.text = clock::now().to_rfc3339_opts(SecondsFormat::Millis, false);
        }
        &self.text
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more lines.
    fn close(&self) {
        self.waiting().is_closed = true;
        self.news.notify_all();
    }
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
        let author = Author::default();
        let thread = std::thread::Builder::new().name("log".to_owned());
        let writer = Writer(Arc::clone(&author.0));
        let thread = thread.spawn(move || write_all(&writer.0, out));
        // A system without a thread to give has a server without a log.
        author.0.waiting().is_closed = thread.is_err();
        let inner = Arc::new(author);
        Self { level, inner }
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

    /// The server begins, with this mail root.
    pub fn serving(&self, root: &dyn fmt::Display) {
        let root = Value(root);
        self.line(Level::Mail, format_args!("serving root={root}"));
    }

    /// The server takes connections.
    pub fn listening(&self, protocol: &str, address: &dyn fmt::Display) {
        let address = Value(address);
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
        let inner = &self.inner.0;
        inner.close();
        // A log that nobody reads any more must not keep the program from ending.
        let closed = inner
            .news
            .wait_timeout_while(inner.waiting(), CLOSE_TIMEOUT, |waiting| {
                !waiting.is_all_written
            });
        drop(closed);
    }

    fn line(&self, level: Level, what: fmt::Arguments<'_>) {
        self.line_of(None, level, what);
    }

    fn line_of(&self, session: Option<u64>, level: Level, what: fmt::Arguments<'_>) {
        if level > self.level {
            return;
        }
        let mut waiting = self.inner.0.waiting();
        if waiting.is_closed {
            return;
        }
        if waiting.lines.len() >= OCTETS_MAX {
            waiting.omitted += 1;
            return;
        }
        let is_first = waiting.lines.is_empty();
        let Waiting { lines, time, .. } = &mut *waiting;
        lines.push_str(time.now());
        let written = match session {
            Some(session) => write!(lines, " session={session} "),
            None => lines.write_char(' '),
        };
        // Writing to a string cannot fail.
        written
            .and_then(|()| lines.write_fmt(what))
            .unwrap_or_default();
        lines.push('\n');
        drop(waiting);
        if is_first {
            self.inner.0.news.notify_all();
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
        self.line(Level::Dialog, format_args!("command {}", Value(command)));
    }

    /// A reply was given that is not a refusal.
    pub fn reply(&self, reply: &dyn fmt::Display) {
        self.line(Level::Dialog, format_args!("reply {}", Value(reply)));
    }

    /// A command was refused.
    pub fn refused(&self, command: &str, reply: &dyn fmt::Display) {
        let (command, reply) = (Value(command), Value(reply));
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
        let (from, to) = (Value(from), Value(Names(users)));
        self.line(
            Level::Mail,
            format_args!("delivered id={id} from={from} to={to} octets={octets}"),
        );
    }

    /// A message is not stored, and why.
    pub fn not_delivered(
        &self,
        id: &str,
        from: &ReversePath,
        users: &[UserName],
        reason: &dyn fmt::Display,
    ) {
        let (from, to, reason) = (Value(from), Value(Names(users)), Value(reason));
        self.line(
            Level::Warning,
            format_args!("not-delivered id={id} from={from} to={to} reason={reason}"),
        );
    }

    /// Something failed in this session that somebody has to look at.
    pub fn failed(&self, what: &str, reason: &dyn fmt::Display) {
        self.line(
            Level::Warning,
            format_args!("failed what={what} reason={}", Value(reason)),
        );
    }

    /// The session ended.
    pub fn closed(&self, error: Option<&std::io::Error>) {
        match error {
            None => self.line(Level::Mail, format_args!("closed")),
            Some(error) => {
                self.line(Level::Mail, format_args!("closed error={}", Value(error)));
            }
        }
    }

    fn line(&self, level: Level, what: fmt::Arguments<'_>) {
        self.log.line_of(Some(self.session), level, what);
    }
}

/// A value on one line: quoted where it has to be. It is written twice, while nobody else can write to
/// the log, and must be the same each time.
struct Value<T>(T);

impl<T: fmt::Display> fmt::Display for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut look = Look::default();
        write!(look, "{}", self.0)?;
        if look.octets > 0 && !look.needs_quotes {
            return self.0.fmt(f);
        }
        f.write_char('"')?;
        write!(Quoted(&mut *f), "{}", self.0)?;
        f.write_char('"')
    }
}

/// Looks whether a text has to be quoted.
#[derive(Default)]
struct Look {
    octets: usize,
    needs_quotes: bool,
}

impl fmt::Write for Look {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_word = |c: char| match c {
            '"' => false,
            '!'..='~' => true,
            c => !c.is_whitespace() && !c.is_control(),
        };
        self.octets += text.len();
        self.needs_quotes |= !text.chars().all(is_word);
        Ok(())
    }
}

/// Writes what stands between quotes.
struct Quoted<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Quoted<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                '\n' => self.0.write_str("\\n")?,
                c if c.is_control() => self.0.write_char('?')?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Names with commas between them.
struct Names<'a>(&'a [UserName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(',')?;
            }
            f.write_str(name.as_str())?;
        }
        Ok(())
    }
}

fn write_all(log: &Inner, mut out: Box<dyn Write + Send>) {
    let mut lines = String::new();
    loop {
        let waiting = log.waiting();
        let waiting = log
            .news
            .wait_while(waiting, |waiting| {
                waiting.lines.is_empty() && !waiting.is_closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let is_closed = waiting.is_closed;
        drop(waiting);
        if !is_closed {
            // Waking up for each line would cost more than writing it.
            std::thread::sleep(GATHER_TIME);
        }
        let mut waiting = log.waiting();
        std::mem::swap(&mut waiting.lines, &mut lines);
        let omitted = std::mem::take(&mut waiting.omitted);
        drop(waiting);
        if omitted > 0 {
            lines.push_str(&format!(
                "{omitted} lines left out, the log is read too slowly\n"
            ));
        }
        if lines.is_empty() {
            return;
        }
        // A log that cannot be written is no reason to stop.
        drop(out.write_all(lines.as_bytes()));
        lines.clear();
        lines.shrink_to(OCTETS_KEPT);
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
        let users = ["ann", "bob"].map(|name| UserName::new(name).unwrap());
        let reason = "no space";
        log.session(7)
            .not_delivered("1.a", &ReversePath::Null, &users, &reason);
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
                "session=7 not-delivered id=1.a from=<> to=ann,bob reason=\"no space\"",
            ],
        );
    }

    #[test]
    fn a_log_that_nobody_has_any_more_ends() {
        struct Ended(Page, std::sync::mpsc::Sender<()>);
        impl Write for Ended {
            fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
                self.0.write(octets)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        impl Drop for Ended {
            fn drop(&mut self) {
                self.1.send(()).unwrap();
            }
        }
        let (sender, ended) = std::sync::mpsc::channel();
        let page = Page::default();
        let log = Log::new(Level::Mail, Box::new(Ended(page.clone(), sender)));
        let session = log.session(1);
        drop(log);
        session.secured("1.3");
        drop(session);
        ended.recv_timeout(Duration::from_secs(60)).unwrap();
        let written = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(
            written.ends_with("session=1 secured tls=1.3\n"),
            "{written}"
        );
    }
}
