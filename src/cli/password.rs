//! Asks for a password: at the terminal, unseen, or as one line of stdin where a script says so.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::Arc;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::Zeroizing;

use super::report::{ExitStatus, Failure};
use crate::credentials::PASSWORD_OCTETS_MAX;
use crate::secret::Secret;

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

fn prompt_unseen(prompt: &str) -> io::Result<Secret> {
    let terminal = Arc::new(Unseen::open()?);
    let config = rpassword::ConfigBuilder::new()
        .input_reader(Keys(Arc::clone(&terminal)))
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
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
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
    if line.ends_with(b"\n") {
        line.pop();
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    if line.is_empty() {
        return Err(no_password("standard input has no first line"));
    }
    if line.len() > PASSWORD_OCTETS_MAX {
        return Err(Failure::new(
            ExitStatus::BadData,
            format_args!("a password has at most {PASSWORD_OCTETS_MAX} octets, got more"),
        ));
    }
    Ok(Secret::new(std::mem::take(&mut *line)))
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
    }
}
