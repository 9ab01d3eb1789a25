//! Asks for a password: at the terminal, unseen, or as one line of stdin where a script says so.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::Zeroizing;

use super::report::{ExitStatus, Failure};
use crate::credentials::PASSWORD_OCTETS_MAX;
use crate::secret::Secret;

const PASSWORD_VARIABLE: &str = "MINISMTP_PASSWORD";
/// More than any password in a file, in octets.
const FILE_OCTETS_MAX: u64 = 4096;

/// Where a password comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    /// Read the password from standard input, one line, instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

impl Source {
    /// Takes a password that exists, asking once.
    pub(crate) fn ask(&self, prompt: &str) -> Result<Secret, Failure> {
        if self.password_stdin {
            return first_line(&mut io::stdin().lock());
        }
        ask_at_terminal(prompt)
    }

    /// Takes a password that is to be, asking twice: nobody sees what they type.
    pub(crate) fn ask_new(&self, prompt: &str) -> Result<Secret, Failure> {
        let password = self.ask(prompt)?;
        if self.password_stdin || ask_at_terminal("Once more: ")? == password {
            return Ok(password);
        }
        Err(Failure::new(
            ExitStatus::BadData,
            "the two passwords are not the same",
        ))
    }
}

/// Where a client's password comes from, and how far it may go.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ForServer {
    /// Take the password from the first line of this file
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(super) password_file: Option<PathBuf>,

    /// Log in even where others may read the password on its way
    ///
    /// Without this it is used only with a server on this machine, or under TLS with one that is known:
    /// not for SCRAM either, which sends no password but lets a stranger guess it.
    #[arg(long)]
    pub(super) insecure_auth: bool,
}

impl ForServer {
    /// The password, if it need not be asked for.
    pub(super) fn known(&self) -> Result<Option<Secret>, Failure> {
        if let Some(path) = &self.password_file {
            return password_from(path).map(Some);
        }
        let from_environment = env::var_os(PASSWORD_VARIABLE);
        Ok(from_environment.map(|password| Secret::new(password.into_encoded_bytes())))
    }

    /// The password, asked for at the terminal if there is no other way.
    pub(super) fn ask(&self, prompt: &str) -> Result<Secret, Failure> {
        match self.known()? {
            Some(password) => Ok(password),
            None => prompt_unseen(prompt).map_err(|error| cannot_ask(&error)),
        }
    }
}

/// Asks where a person can answer, and nowhere else: a script would wait for ever, or pass its
/// password on by accident.
pub(crate) fn ask_at_terminal(prompt: &str) -> Result<Secret, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            ExitStatus::Usage,
            "cannot ask for a password: standard input is not a terminal",
        )
        .hint("`--password-stdin` reads it from there, one line"));
    }
    match prompt_unseen(prompt) {
        Ok(password) if password.expose().is_empty() => Err(no_password("nothing was typed")),
        Ok(password) => Ok(password),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(no_password("the input ended"))
        }
        Err(error) => Err(Failure::new(
            ExitStatus::InputOutput,
            format_args!("cannot read a password from the terminal: {error}"),
        )),
    }
}

/// Asks at the terminal: the one that stdin is, else the one that the process belongs to.
pub(crate) fn prompt_unseen(prompt: &str) -> io::Result<Secret> {
    let terminal = Arc::new(Unseen::open()?);
    let config = rpassword::ConfigBuilder::new()
        .input_reader(Keys(Arc::clone(&terminal)))
        .output_writer(terminal.terminal.try_clone()?)
        .build();
    let password = rpassword::prompt_password_with_config(prompt, config);
    // The Enter that ended it was not shown either.
    (&terminal.terminal).write_all(b"\n")?;
    password.map(Secret::new)
}

/// The terminal, showing nothing of what is typed until this is dropped.
///
/// rpassword can do that too, but at Ctrl-C it raises the signal that ends the process before it
/// has set the terminal right, and leaves the person with a shell that shows nothing.
#[derive(Debug)]
struct Unseen {
    terminal: File,
    before: Termios,
}

impl Unseen {
    fn open() -> io::Result<Self> {
        let path = if io::stdin().is_terminal() {
            "/dev/stdin"
        } else {
            "/dev/tty"
        };
        let terminal = File::options().read(true).write(true).open(path)?;
        let before = termios::tcgetattr(&terminal)?;
        let mut unseen = before.clone();
        unseen.local_modes -=
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        unseen.special_codes[SpecialCodeIndex::VMIN] = 1;
        unseen.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(&terminal, OptionalActions::Now, &unseen)?;
        Ok(Self { terminal, before })
    }

    fn restore(&self) -> io::Result<()> {
        Ok(termios::tcsetattr(
            &self.terminal,
            OptionalActions::Now,
            &self.before,
        )?)
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        drop(self.restore());
    }
}

/// What is typed, key by key.
#[derive(Debug)]
struct Keys(Arc<Unseen>);

impl Read for Keys {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const CTRL_C: u8 = 3;
        let got = (&self.0.terminal).read(buffer)?;
        if buffer[..got].contains(&CTRL_C) {
            self.0.restore()?;
            (&self.0.terminal).write_all(b"\n")?;
        }
        Ok(got)
    }
}

/// The first line of a script's input, without its end.
fn first_line(input: &mut dyn BufRead) -> Result<Secret, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_OCTETS_MAX + 3));
    // Two more for the line end, and one that tells too long from just right.
    input
        .take(PASSWORD_OCTETS_MAX as u64 + 3)
        .read_until(b'\n', &mut line)
        .map_err(|error| {
            Failure::new(
                ExitStatus::InputOutput,
                format_args!("cannot read the password from standard input: {error}"),
            )
        })?;
    if line.is_empty() {
        return Err(no_password("standard input has no first line"));
    }
    if line.ends_with(b"\n") {
        line.pop();
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    if line.is_empty() {
        return Err(no_password("the first line of standard input is empty"));
    }
    if line.len() > PASSWORD_OCTETS_MAX {
        return Err(Failure::new(
            ExitStatus::BadData,
            format_args!("a password has at most {PASSWORD_OCTETS_MAX} octets, got more"),
        ));
    }
    Ok(Secret::new(std::mem::take(&mut *line)))
}

fn password_from(path: &Path) -> Result<Secret, Failure> {
    let cannot_read = |cause: &dyn Display| {
        Failure::new(
            ExitStatus::InputOutput,
            format_args!(
                "cannot read the password from `{}`: {cause}",
                path.display()
            ),
        )
    };
    let file = File::open(path).map_err(|error| cannot_read(&error))?;
    let mut line = Vec::new();
    BufReader::new(file.take(FILE_OCTETS_MAX))
        .read_until(b'\n', &mut line)
        .map_err(|error| cannot_read(&error))?;
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if password.is_empty() {
        return Err(cannot_read(&"its first line is empty"));
    }
    Ok(Secret::new(password))
}

/// There is no terminal to ask at.
pub(super) fn cannot_ask(error: &io::Error) -> Failure {
    Failure::new(
        ExitStatus::Usage,
        format_args!("cannot ask for the password at a terminal: {error}"),
    )
    .hint(format_args!(
        "`--password-file FILE` or the variable `{PASSWORD_VARIABLE}` gives it"
    ))
}

fn no_password(why: &str) -> Failure {
    Failure::new(ExitStatus::BadData, format_args!("no password: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gives_one_line() {
        let long = "x".repeat(PASSWORD_OCTETS_MAX);
        let longer = "x".repeat(PASSWORD_OCTETS_MAX + 1);
        for (input, expected) in [
            ("secret\n", "secret"),
            ("secret", "secret"),
            ("secret\r\n", "secret"),
            (" two words \nmore\n", " two words "),
            (&format!("{long}\r\n"), &long),
        ] {
            let secret = first_line(&mut input.as_bytes()).unwrap();
            assert_eq!(secret, Secret::new(expected), "{input:?}");
        }
        for input in ["", "\n", "\r\n", "\nsecret\n", &longer, &longer.repeat(9)] {
            let failure = first_line(&mut input.as_bytes()).unwrap_err();
            assert_eq!(failure.code, ExitStatus::BadData, "{input:?}");
        }
        for (input, expected) in [
            ("", "no password: standard input has no first line"),
            (
                "\n",
                "no password: the first line of standard input is empty",
            ),
            (
                "\r\n",
                "no password: the first line of standard input is empty",
            ),
        ] {
            let failure = first_line(&mut input.as_bytes()).unwrap_err();
            assert_eq!(failure.message, expected, "{input:?}");
        }
    }
}
