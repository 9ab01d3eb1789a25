//! What a command tells: results on stdout, everything else on stderr, and an exit code.
//!
//! ```text
//! error: cannot read credentials file `logincred.txt`: Permission denied (os error 13)
//! hint: run it as the user who owns the mail root
//! ```
//!
//! Commands write to the [`Output`] they are given and end in a [`Failure`] or in nothing. A reader
//! who closes the pipe has seen enough: that ends the command quietly, with exit code 0.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use clap::ColorChoice;

use crate::mailbox::Reporter;

/// How a command ends, by the numbers of `sysexits.h`; 0 and 1 as `grep` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done.
    Done = 0,
    /// Asked, and the answer is no: nothing found, time is up.
    No = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The data that were given are wrong ("Incorrect format").
    BadData = 65,
    /// No such user.
    NoUser = 67,
    /// No such host.
    NoHost = 68,
    /// The server refused for good (5xx).
    Unavailable = 69,
    /// The program itself is wrong.
    Internal = 70,
    /// Something cannot be created, or exists already.
    CannotCreate = 73,
    /// Reading or writing failed.
    InputOutput = 74,
    /// Try again later (4xx, no connection).
    TryAgain = 75,
    /// The peer talks nonsense.
    Protocol = 76,
    /// Authentication failed.
    Denied = 77,
    /// The configuration is wrong.
    Configuration = 78,
}

impl ExitStatus {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Done,
        Self::No,
        Self::Usage,
        Self::BadData,
        Self::NoUser,
        Self::NoHost,
        Self::Unavailable,
        Self::Internal,
        Self::CannotCreate,
        Self::InputOutput,
        Self::TryAgain,
        Self::Protocol,
        Self::Denied,
        Self::Configuration,
    ];

    /// What it tells a person.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::No => "the answer is no: no such message",
            Self::Usage => "wrong usage",
            Self::BadData => "bad data: `Incorrect format`, a message that cannot be carried",
            Self::NoUser => "no such user",
            Self::NoHost => "no such host",
            Self::Unavailable => "the server refused for good (5xx)",
            Self::Internal => "a bug in minismtp",
            Self::CannotCreate => "cannot create, or exists already",
            Self::InputOutput => "reading or writing failed",
            Self::TryAgain => {
                "try again later (4xx, no connection, another server is running there)"
            }
            Self::Protocol => {
                "the other side does not speak SMTP, or there is no TLS with it that can be trusted"
            }
            Self::Denied => "wrong password, or a login was refused",
            Self::Configuration => "wrong configuration",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub code: ExitStatus,
    /// What happened, to which thing; in lower case, without a full stop. Empty where there is
    /// nothing to say.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure to be told.
    #[must_use]
    pub fn new(code: ExitStatus, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
            hint: None,
        }
    }

    /// An end that needs no words, such as an answer of no.
    #[must_use]
    pub fn silent(code: ExitStatus) -> Self {
        Self::new(code, "")
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// What a failed write to stdout means.
    #[must_use]
    pub fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(ExitStatus::Done);
        }
        Self::new(
            ExitStatus::InputOutput,
            format_args!("cannot write to standard output: {error}"),
        )
    }
}

/// Takes away what a terminal could obey: a message may come from anybody. Pieces may end anywhere.
#[derive(Debug, Default)]
pub(super) struct Disarmer {
    /// What came before.
    last: u8,
}

impl Disarmer {
    pub(super) fn disarm(&mut self, octets: &mut [u8]) {
        for octet in octets {
            // U+0080 to U+009F, which are control characters too, are these two octets.
            let is_second = self.last == 0xc2 && matches!(*octet, 0x80..=0x9f);
            self.last = *octet;
            if is_second || octet.is_ascii_control() && !matches!(*octet, b'\n' | b'\t') {
                *octet = b'?';
            }
        }
    }
}

/// A terminal, to which mail is written.
struct Disarming<'a> {
    terminal: &'a mut dyn Write,
    disarmer: Disarmer,
}

impl Write for Disarming<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut disarmed = octets.to_vec();
        self.disarmer.disarm(&mut disarmed);
        self.terminal.write_all(&disarmed)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.terminal.flush()
    }
}

/// Where a command writes.
pub struct Output {
    stdout: Box<dyn Write + Send>,
    stdout_is_terminal: bool,
    stdout_is_colored: bool,
    stderr: Stderr,
    quiet: bool,
}

impl Output {
    /// The streams of the process. `Auto` colors a terminal, unless `NO_COLOR` is set.
    #[must_use]
    pub fn standard(color: ColorChoice, quiet: bool) -> Self {
        let mut standard = Self::new(io::stdout(), io::stderr(), quiet);
        standard.stdout_is_terminal = io::stdout().is_terminal();
        standard.stdout_is_colored = is_colored(color, anstream::AutoStream::choice(&io::stdout()));
        standard.stderr.is_colored = is_colored(color, anstream::AutoStream::choice(&io::stderr()));
        standard
    }

    /// Other streams, without color.
    #[must_use]
    pub fn new(
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
        quiet: bool,
    ) -> Self {
        Self {
            stdout: Box::new(stdout),
            stdout_is_terminal: false,
            stdout_is_colored: false,
            stderr: Stderr::new(stderr),
            quiet,
        }
    }

    /// Whether results may hold escape sequences.
    #[must_use]
    pub fn stdout_is_colored(&self) -> bool {
        self.stdout_is_colored
    }

    /// Whether everything else may.
    #[must_use]
    pub fn stderr_is_colored(&self) -> bool {
        self.stderr.is_colored
    }

    /// Writes a line that was asked for, at once.
    ///
    /// # Errors
    ///
    /// As [`Failure::stdout`] has them; the same for the other calls that return a result.
    pub fn result(&mut self, line: impl Display) -> Result<(), Failure> {
        self.write(format!("{line}\n").as_bytes())
    }

    /// Writes octets that were asked for, at once.
    ///
    /// # Errors
    ///
    /// As [`Output::result`].
    pub fn write(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.stdout
            .write_all(octets)
            .and_then(|()| self.stdout.flush())
            .map_err(|error| Failure::stdout(&error))
    }

    /// Where octets go that were asked for and are too many to be held; [`Failure::stdout`] is
    /// for its errors.
    pub fn stdout(&mut self) -> &mut dyn Write {
        &mut *self.stdout
    }

    /// Where mail goes that was asked for: as it is, but for what a terminal could obey.
    pub fn mail(&mut self) -> Box<dyn Write + '_> {
        if self.stdout_is_terminal {
            Box::new(Disarming {
                terminal: &mut *self.stdout,
                disarmer: Disarmer::default(),
            })
        } else {
            Box::new(&mut *self.stdout)
        }
    }

    /// Writes a line that says what was done; nothing where that is not wanted (`-q`).
    ///
    /// # Errors
    ///
    /// As [`Output::result`].
    pub fn done(&mut self, line: impl Display) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        self.result(line)
    }

    /// Writes a warning to stderr; nothing under `-q`.
    pub fn warning(&mut self, text: impl Display) {
        if !self.quiet {
            self.stderr.warning(&text);
        }
    }

    /// Writes a warning of whatever a store has to tell, as [`Output::warning`] does.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        let (stderr, quiet) = (self.stderr.clone(), self.quiet);
        Arc::new(move |finding| {
            if !quiet {
                stderr.warning(&finding);
            }
        })
    }

    /// Writes a hint to stderr; nothing under `-q`.
    pub fn hint(&mut self, text: impl Display) {
        if !self.quiet {
            self.stderr.hint(&text);
        }
    }

    /// Writes a line as it is to stderr, at once; nothing under `-q`.
    pub fn note(&mut self, line: impl Display) {
        if !self.quiet {
            self.stderr.line(&format!("{line}\n"));
        }
    }

    /// Writes an error and its hint to stderr, also under `-q`; nothing where there is nothing to
    /// say.
    pub fn failure(&mut self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        self.stderr.error(&failure.message);
        if let Some(hint) = &failure.hint {
            self.stderr.hint(hint);
        }
    }
}

/// Where everything goes that is no result.
#[derive(Clone)]
struct Stderr {
    stream: Arc<Mutex<dyn Write + Send>>,
    is_colored: bool,
}

impl Stderr {
    fn new(stream: impl Write + Send + 'static) -> Self {
        let stream = Arc::new(Mutex::new(stream));
        Self {
            stream,
            is_colored: false,
        }
    }

    fn warning(&self, text: &dyn Display) {
        self.told("warning", AnsiColor::Yellow, text);
    }

    fn hint(&self, text: &dyn Display) {
        self.told("hint", AnsiColor::Cyan, text);
    }

    fn error(&self, text: &dyn Display) {
        self.told("error", AnsiColor::Red, text);
    }

    fn told(&self, label: &str, color: AnsiColor, text: &dyn Display) {
        let style = if self.is_colored {
            Style::new().bold().fg_color(Some(color.into()))
        } else {
            Style::new()
        };
        self.line(&format!("{style}{label}:{style:#} {text}\n"));
    }

    /// There is nobody to tell that stderr is gone.
    fn line(&self, line: &str) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        drop(stream.write_all(line.as_bytes()));
        drop(stream.flush());
    }
}

fn is_colored(wanted: ColorChoice, detected: anstream::ColorChoice) -> bool {
    match wanted {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => detected != anstream::ColorChoice::Never,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A stream to look at afterwards.
    #[derive(Clone, Default)]
    pub(in crate::cli) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(in crate::cli) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Refuses(io::ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_message_cannot_play_with_the_terminal() {
        let text = "a\tb\n\x1b[2Jc\x07é\r\nx\u{9b}2J\u{a0}Ä\n".as_bytes();
        let disarmed = |size| {
            let (mut octets, mut disarmer) = (text.to_vec(), Disarmer::default());
            octets
                .chunks_mut(size)
                .for_each(|piece| disarmer.disarm(piece));
            octets
        };
        let expected = b"a\tb\n?[2Jc?\xc3\xa9?\nx\xc2?2J\xc2\xa0\xc3\x84\n";
        assert_eq!(
            disarmed(text.len()).escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
        assert_eq!(disarmed(1), disarmed(text.len()));
    }

    fn tell_all(out: &mut Output) {
        out.result("Andrew").unwrap();
        out.done("added").unwrap();
        out.warning("line 3 has no comma");
        out.hint("write one");
        out.note("as it is");
        out.failure(&Failure::new(ExitStatus::BadData, "no good").hint("do better"));
        out.failure(&Failure::silent(ExitStatus::No));
    }

    #[test]
    fn each_thing_has_its_stream_and_its_form() {
        let all = "warning: line 3 has no comma\nhint: write one\nas it is\n\
             error: no good\nhint: do better\n";
        for (quiet, on_stdout, on_stderr) in [
            (false, "Andrew\nadded\n", all),
            (true, "Andrew\n", "error: no good\nhint: do better\n"),
        ] {
            let (stdout, stderr) = (Written::default(), Written::default());
            tell_all(&mut Output::new(stdout.clone(), stderr.clone(), quiet));
            assert_eq!(stdout.text(), on_stdout);
            assert_eq!(stderr.text(), on_stderr);
        }
    }

    #[test]
    fn labels_are_colored_where_that_is_wanted() {
        let stderr = Written::default();
        let mut out = Output::new(io::sink(), stderr.clone(), false);
        out.stderr.is_colored = true;
        out.failure(&Failure::new(ExitStatus::BadData, "no good"));
        assert_eq!(
            stderr.text(),
            "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m no good\n"
        );
        assert!(is_colored(
            ColorChoice::Always,
            anstream::ColorChoice::Never
        ));
        assert!(!is_colored(
            ColorChoice::Never,
            anstream::ColorChoice::Always
        ));
        assert!(!is_colored(ColorChoice::Auto, anstream::ColorChoice::Never));
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
        for (kind, expected) in [
            (io::ErrorKind::BrokenPipe, ExitStatus::Done),
            (io::ErrorKind::StorageFull, ExitStatus::InputOutput),
        ] {
            let failure = Output::new(Refuses(kind), io::sink(), false)
                .result("x")
                .unwrap_err();
            assert_eq!(failure.code, expected);
            assert_eq!(failure.message.is_empty(), expected == ExitStatus::Done);
        }
        tell_all(&mut Output::new(
            io::sink(),
            Refuses(io::ErrorKind::BrokenPipe),
            false,
        ));
    }
}
