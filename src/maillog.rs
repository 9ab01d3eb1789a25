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
use crate::digits::push_number;
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
        self.line(Level::Warning, |line| line.word("warning").value(what));
    }

    /// The server begins, with this mail root.
    pub fn serving(&self, root: &dyn fmt::Display) {
        self.line(Level::Mail, |line| line.word("serving").field("root", root));
    }

    /// The server takes connections.
    pub fn listening(&self, protocol: &str, address: &dyn fmt::Display) {
        self.line(Level::Mail, |line| {
            line.word("listening")
                .field("protocol", protocol)
                .field("address", address)
        });
    }

    /// Another certificate is shown from now on.
    pub fn certificate(&self, fingerprint: &dyn fmt::Display) {
        self.line(Level::Mail, |line| {
            line.word("certificate").field("sha256", fingerprint)
        });
    }

    /// The server was told to stop.
    pub fn stopping(&self, sessions: usize) {
        self.line(Level::Mail, |line| {
            line.word("stopping").field("sessions", sessions)
        });
    }

    /// The server has ended.
    pub fn stopped(&self) {
        self.line(Level::Mail, |line| line.word("stopped"));
    }

    /// A connection was turned away, and why.
    pub fn turned_away(&self, peer: SocketAddr, reason: &str) {
        self.line(Level::Mail, |line| {
            line.word("turned-away")
                .field("peer", peer)
                .field("reason", reason)
        });
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

    fn line(&self, level: Level, write: impl FnOnce(Line<'_>) -> Line<'_>) {
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
        write(Line(lines));
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
        self.line(Level::Mail, |line| {
            line.word("connected").field("peer", peer)
        });
    }

    /// The connection is under TLS of this version.
    pub fn secured(&self, version: &str) {
        self.line(Level::Mail, |line| {
            line.word("secured").field("tls", version)
        });
    }

    /// A command came.
    pub fn command(&self, command: &dyn fmt::Display) {
        self.line(Level::Dialog, |line| line.word("command").value(command));
    }

    /// A reply was given that is not a refusal.
    pub fn reply(&self, reply: &dyn fmt::Display) {
        self.line(Level::Dialog, |line| line.word("reply").value(reply));
    }

    /// A command was refused.
    pub fn refused(&self, command: &str, reply: &dyn fmt::Display) {
        self.line(Level::Mail, |line| {
            line.word("refused")
                .field("command", command)
                .field("reply", reply)
        });
    }

    /// Somebody logged in.
    pub fn logged_in(&self, user: &UserName) {
        self.line(Level::Mail, |line| {
            line.word("logged-in").field("user", user)
        });
    }

    /// Somebody gave a wrong name or password.
    pub fn login_failed(&self, user: &str, peer: SocketAddr) {
        self.line(Level::Mail, |line| {
            line.word("login-failed")
                .field("user", user)
                .field("peer", peer)
        });
    }

    /// A mailbox was opened.
    pub fn opened(&self, user: &UserName, messages: usize) {
        self.line(Level::Mail, |line| {
            line.word("opened")
                .field("user", user)
                .field("messages", messages)
        });
    }

    /// Messages were removed from a mailbox.
    pub fn removed(&self, user: &UserName, messages: usize) {
        self.line(Level::Mail, |line| {
            line.word("removed")
                .field("user", user)
                .field("messages", messages)
        });
    }

    /// A user was added over the wire.
    pub fn user_added(&self, user: &UserName) {
        self.line(Level::Mail, |line| {
            line.word("user-added").field("user", user)
        });
    }

    /// A message is stored.
    pub fn delivered<'a>(
        &self,
        id: &str,
        from: &ReversePath,
        users: impl Iterator<Item = &'a UserName>,
        octets: u64,
    ) {
        self.line(Level::Mail, |line| {
            line.word("delivered")
                .field("id", id)
                .field("from", from)
                .list("to", users)
                .number("octets", octets)
        });
    }

    /// A message is not stored, and why.
    pub fn not_delivered<'a>(
        &self,
        id: &str,
        from: &ReversePath,
        users: impl Iterator<Item = &'a UserName>,
        reason: &dyn fmt::Display,
    ) {
        self.line(Level::Warning, |line| {
            line.word("not-delivered")
                .field("id", id)
                .field("from", from)
                .list("to", users)
                .field("reason", reason)
        });
    }

    /// Something failed in this session that somebody has to look at.
    pub fn failed(&self, what: &str, reason: &dyn fmt::Display) {
        self.line(Level::Warning, |line| {
            line.word("failed")
                .field("what", what)
                .field("reason", reason)
        });
    }

    /// The session ended.
    pub fn closed(&self, error: Option<&std::io::Error>) {
        self.line(Level::Mail, |line| {
            let line = line.word("closed");
            match error {
                None => line,
                Some(error) => line.field("error", error),
            }
        });
    }

    fn line(&self, level: Level, write: impl FnOnce(Line<'_>) -> Line<'_>) {
        self.log
            .line(level, |line| write(line.number("session", self.session)));
    }
}

/// A line that is being written.
struct Line<'a>(&'a mut String);

impl Line<'_> {
    fn word(self, word: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(word);
        self
    }

    fn name(self, name: &str) -> Self {
        let line = self.word(name);
        line.0.push('=');
        line
    }

    fn field(self, name: &str, value: impl fmt::Display) -> Self {
        self.name(name).put(value)
    }

    fn number(self, name: &str, value: u64) -> Self {
        let line = self.name(name);
        push_number::<10>(line.0, value);
        line
    }

    fn value(self, value: impl fmt::Display) -> Self {
        self.0.push(' ');
        self.put(value)
    }

    /// Names with commas between them.
    fn list<'a>(self, name: &str, users: impl Iterator<Item = &'a UserName>) -> Self {
        let line = self.name(name);
        let start = line.0.len();
        for user in users {
            if line.0.len() > start {
                line.0.push(',');
            }
            line.0.push_str(user.as_str());
        }
        line.quoted_from(start)
    }

    /// Writes a value.
    fn put(self, value: impl fmt::Display) -> Self {
        let start = self.0.len();
        // Writing to a string cannot fail.
        write!(self.0, "{value}").unwrap_or_default();
        self.quoted_from(start)
    }

    /// Quotes what was written last, where it has to be.
    fn quoted_from(self, start: usize) -> Self {
        if is_word(&self.0[start..]) {
            return self;
        }
        let value = self.0.split_off(start);
        self.quote(&value)
    }

    fn quote(self, value: &str) -> Self {
        let line = &mut *self.0;
        line.push('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => line.extend(['\\', c]),
                '\n' => line.push_str("\\n"),
                c if is_unseen(c) => line.push('?'),
                c => line.push(c),
            }
        }
        line.push('"');
        self
    }
}

/// Whether a character does something else than to stand there: ends a line, or turns the text around.
fn is_unseen(c: char) -> bool {
    let is_of_text =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_of_text
}

/// Whether a value can do without quotes.
fn is_word(value: &str) -> bool {
    // All of them are looked at, which takes less than to ask after each.
    let is_plain = value.bytes().fold(true, |is_plain, octet| {
        is_plain & octet.is_ascii_graphic() & (octet != b'"')
    });
    let is_in_word = |c: char| c != '"' && !c.is_whitespace() && !is_unseen(c);
    !value.is_empty() && (is_plain || value.chars().all(is_in_word))
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
        log.warning("a\u{2028}b");
        log.warning("a\u{202e}b\u{9b}é");
        log.session(7)
            .login_failed("a b", "127.0.0.1:25".parse().unwrap());
        let users = ["ann", "bob"].map(|name| UserName::new(name).unwrap());
        let reason = "no space";
        log.session(7)
            .not_delivered("1.a", &ReversePath::Null, users.iter(), &reason);
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
                "warning \"a?b\"",
                "warning \"a?b?é\"",
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
