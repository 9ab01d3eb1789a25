//! `minismtp shell`: Teena's client, eight words over one connection.
//!
//! The words are read by `words`, from a terminal with line editing or from a pipe; each is one
//! request, and the server's whole answer is printed.

use std::collections::BTreeSet;

use super::Global;
use super::password;
use super::report::{Disarmer, ExitStatus, Failure, Output};
use super::tls;
use crate::client::access::{self, Access, Cause};
use crate::client::{
    ACCESS_PORT_DEFAULT, DialError, Security, ServerAddress, ServerAddressError, Tls,
};
use crate::pop3::client::{Part, Request, Status};
use crate::pop3::limits::SILENCE_TIME;
use words::{Menu, Reader, Typed, Word};

mod words;

/// The largest message that is taken, in octets.
const MESSAGE_OCTETS_MAX: usize = 64 * 1024 * 1024;
/// The words that end a message.
const END_OF_MESSAGE: &[u8] = b"###";

/// Talk to a mail server in Teena's eight words: list and add users, read, delete and send mail
///
/// At `Main-Prompt>` it takes `Listusers`, `Adduser USERID`, `SetUser USERID` and `Quit`. `SetUser`
/// opens that user's mailbox; then `Sub-Prompt-USERID>` takes `Read`, `Delete`, `Send USERID` and
/// `Done`. Words may be written in any case. A message for `Send` is typed line by line and ends with
/// a line that consists of or ends in `###`; if its first line is `Subject: TEXT`, that is its
/// subject. Each word is one command to the server, whose whole answer is printed.
///
/// At a terminal, lines can be edited, the arrow keys bring back earlier ones, and Tab completes
/// words and user ids. From a pipe it takes the same lines and prints the answers without prompts.
/// The end of input is the same as `Quit`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("when", tls::only_if_asked))]
#[command(after_long_help = "\
Examples:
  Teena's lab, on this machine:
      minismtp serve --lab --root MAILSERVER        (in one terminal)
      minismtp shell                                (in another)

  From a script:
      printf 'Listusers\\nQuit\\n' | minismtp shell

  Read one's mail where there are passwords:
      minismtp shell --server localhost:1110 --user Andrew

Exit codes:
  0 the conversation came to its end, whatever the server's answers were,
  64 usage, 65 the input ended within a message, 68 no such host,
  75 no connection, or it was lost, 76 the server does not speak POP3,
  77 the login that `--user` asks for was refused, or the password was not sent")]
pub(crate) struct Args {
    /// The server; the port is 1110 if it is left out, and IPv6 addresses stand in brackets
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "localhost:1110",
        value_parser = server,
        value_hint = clap::ValueHint::Hostname
    )]
    server: ServerAddress,

    /// Open this user's mailbox at once, as `SetUser` does
    ///
    /// Where the server wants a password, it comes from `--password-file`, else from the variable
    /// `MINISMTP_PASSWORD`, else it is asked for at the terminal. The same goes for `SetUser`.
    #[arg(long, value_name = "USERID")]
    user: Option<String>,

    #[command(flatten)]
    password: password::ForServer,

    #[command(flatten)]
    tls: tls::Args,
}

fn server(text: &str) -> Result<ServerAddress, ServerAddressError> {
    ServerAddress::parse(text, ACCESS_PORT_DEFAULT)
}

/// Runs `minismtp shell`.
pub(super) fn run(args: &Args, global: &Global, out: &mut Output) -> Result<(), Failure> {
    let security = args.tls.security(global, out)?;
    let mut shell = Shell {
        access: Access::dial(&args.server, &security).map_err(no_connection)?,
        security,
        args,
        reader: Reader::standard()?,
        users: BTreeSet::new(),
        out,
    };
    shell.begin()?;
    let menu = match &args.user {
        Some(user) if !shell.set_user(user)? => {
            shell.ask(&Request::Quit)?;
            return Err(Failure::silent(ExitStatus::Denied));
        }
        Some(user) => Menu::Sub(user.clone()),
        None => Menu::Main,
    };
    shell.converse(menu)?;
    shell.ask(&Request::Quit)?;
    shell.access.close();
    Ok(())
}

/// A conversation.
struct Shell<'a> {
    access: Access,
    security: Security,
    args: &'a Args,
    reader: Reader,
    /// The user ids that are known, for completion.
    users: BTreeSet<String>,
    out: &'a mut Output,
}

impl Shell<'_> {
    /// Hears the greeting.
    fn begin(&mut self) -> Result<(), Failure> {
        if self.access.is_silent(SILENCE_TIME) && !self.access.is_secure() {
            let server = &self.args.server;
            let hint = format_args!("`{server}` says nothing yet; {}", tls::SILENCE_HINT);
            self.out.hint(hint);
        }
        let greeting = self.access.greeting();
        let greeting = greeting.map_err(|failure| {
            let told = self.no_answer(&failure);
            match failure.cause {
                Cause::Lost | Cause::TimedOut if !self.access.is_secure() => {
                    told.hint(format_args!("{}; else try again later", tls::SILENCE_HINT))
                }
                _ => told,
            }
        })?;
        self.out.result(&greeting.line)?;
        if greeting.is_ok {
            self.start_tls()?;
            return self.look_up_users();
        }
        Err(Failure::new(
            ExitStatus::TryAgain,
            format_args!("the server {} takes no connection now", self.args.server),
        ))
    }

    /// Begins TLS where that is wanted. On this machine there is nothing to protect, and a server
    /// that somebody writes for the lab need not know what TLS is.
    fn start_tls(&mut self) -> Result<(), Failure> {
        let is_wanted = self.args.tls.is_asked_for() || !self.access.is_private();
        let started = match self.security.tls {
            Tls::IfOffered if is_wanted => self.access.start_tls(false),
            Tls::Required => self.access.start_tls(true),
            Tls::IfOffered | Tls::Implicit | Tls::Off => Ok(()),
        };
        started.map_err(|failure| self.no_answer(&failure))
    }

    /// Obeys words until Quit or the end of input.
    fn converse(&mut self, mut menu: Menu) -> Result<(), Failure> {
        loop {
            self.reader.complete(&menu, &self.users);
            let Some(line) = self.reader.line(&menu.prompt())? else {
                return Ok(());
            };
            match menu.parse(&line) {
                Typed::Nothing => {}
                Typed::Misused(word) => self.tell_use(word),
                Typed::Unknown => self.list_options(&menu, &line),
                Typed::Word(Word::ListUsers) => {
                    let answer = self.ask(&Request::ListUsers)?;
                    self.learn(&answer);
                }
                Typed::Word(Word::AddUser(user)) => {
                    if self.ask(&Request::AddUser(user.clone()))?.is_ok {
                        self.users.insert(user);
                    }
                }
                Typed::Word(Word::SetUser(user)) => {
                    if self.set_user(&user)? {
                        menu = Menu::Sub(user);
                    }
                }
                Typed::Word(Word::Read) => drop(self.ask(&Request::Read)?),
                Typed::Word(Word::Delete) => drop(self.ask(&Request::Delete)?),
                Typed::Word(Word::Send(receiver)) => self.send(receiver)?,
                Typed::Word(Word::Done) => {
                    if self.ask(&Request::Done)?.is_ok {
                        menu = Menu::Main;
                    }
                }
                Typed::Word(Word::Quit) => return Ok(()),
            }
        }
    }

    /// Opens a mailbox, with a password where the server wants one. Gives whether it is open.
    fn set_user(&mut self, user: &str) -> Result<bool, Failure> {
        let answer = self.ask(&Request::User(user.to_owned()))?;
        let mut is_open = answer.opens_mailbox();
        if answer.is_ok && !is_open {
            if !self.access.is_private() && !self.args.password.insecure_auth {
                return Err(Failure::new(
                    ExitStatus::Denied,
                    "the connection is not protected, the password was not sent over it",
                )
                .hint(tls::unprotected_hint(
                    &self.security,
                    self.access.is_secure(),
                )));
            }
            let password = &self.args.password;
            let password = password.ask(&format!("Password of {user}: "))?;
            is_open = self.ask(&Request::Pass(password))?.is_ok;
        }
        if is_open && self.users.insert(user.to_owned()) {
            self.look_up_users()?;
        }
        Ok(is_open)
    }

    /// Sends a message, typed after the server has said that it takes one.
    fn send(&mut self, receiver: String) -> Result<(), Failure> {
        if self.ask(&Request::Send(receiver))?.is_ok {
            self.reader.tell(self.out, "Type Message:")?;
            let message = self.message()?;
            self.ask(&Request::Message(message))?;
        } else if !self.reader.is_terminal() {
            // The script goes on with the message; none of its lines is a word for us.
            self.message()?;
        }
        Ok(())
    }

    /// Reads a message up to its end, which is part of it.
    fn message(&mut self) -> Result<Vec<u8>, Failure> {
        let mut message = Vec::new();
        while let Some(line) = self.reader.text(MESSAGE_OCTETS_MAX)? {
            message.extend_from_slice(&line);
            message.push(b'\n');
            if line.ends_with(END_OF_MESSAGE) {
                return Ok(message);
            }
            if message.len() > MESSAGE_OCTETS_MAX {
                return Err(Failure::new(
                    ExitStatus::BadData,
                    format_args!(
                        "the message was not sent: it has more than {MESSAGE_OCTETS_MAX} octets"
                    ),
                ));
            }
        }
        Err(Failure::new(
            ExitStatus::BadData,
            "the message was not sent: the input ended before its `###`",
        ))
    }

    /// Asks for something and prints the whole answer.
    fn ask(&mut self, request: &Request) -> Result<Status, Failure> {
        let is_terminal = self.reader.is_terminal();
        let mut printed = Ok(());
        let mut disarmer = Disarmer::default();
        let mut take = |part: &Part| {
            let mut octets = match part {
                Part::Status(status) => format!("{}\n", status.line).into_bytes(),
                Part::Text(text) => text.clone(),
            };
            if is_terminal {
                disarmer.disarm(&mut octets);
            }
            if printed.is_ok() {
                printed = self.out.write(&octets);
            }
        };
        let answer = self.access.ask(request, &mut take);
        let answer = answer.map_err(|failure| self.no_answer(&failure))?;
        printed.map(|()| answer)
    }

    /// Finds out the user ids where Tab completes them. Nobody asked, so nothing is printed, and
    /// a server that does not tell is in its right.
    fn look_up_users(&mut self) -> Result<(), Failure> {
        if self.reader.is_terminal() {
            let answer = self.access.ask(&Request::ListUsers, &mut |_| ());
            let answer = answer.map_err(|failure| self.no_answer(&failure))?;
            self.learn(&answer);
        }
        Ok(())
    }

    fn learn(&mut self, answer: &Status) {
        if answer.is_ok {
            self.users.extend(answer.users().map(str::to_owned));
        }
    }

    fn no_answer(&self, failure: &access::Failure) -> Failure {
        no_answer(failure, &self.args.server)
    }

    fn tell_use(&mut self, word: &str) {
        let usage = match word.strip_suffix(' ') {
            Some(word) => format!("`{word}` takes one user id, as `{word} Andrew`"),
            None => format!("`{word}` stands alone on its line"),
        };
        self.out.failure(&Failure::new(ExitStatus::Usage, usage));
    }

    fn list_options(&mut self, menu: &Menu, line: &str) {
        let line = line.trim();
        self.out.failure(
            &Failure::new(
                ExitStatus::Usage,
                format_args!("there is no option `{line}` here"),
            )
            .hint(format_args!("the options are {}", menu.options())),
        );
    }
}

fn no_connection(error: DialError) -> Failure {
    let is_reached = !matches!(error, DialError::CannotConnect { .. });
    let failure = Failure::from(error);
    if is_reached {
        return failure;
    }
    failure.hint(
        "`minismtp serve --lab` starts a server, `minismtp serve --pop3-port 1110` one with \
         passwords; `--server HOST:PORT` names another",
    )
}

fn no_answer(failure: &access::Failure, server: &ServerAddress) -> Failure {
    match &failure.cause {
        Cause::Tls(cause) => Failure::from(DialError::Tls {
            server: server.clone(),
            cause: cause.clone(),
        }),
        Cause::TlsNotOffered | Cause::TlsRefused | Cause::SpokeTooEarly => {
            Failure::new(ExitStatus::Protocol, failure)
        }
        Cause::Malformed(_) => Failure::new(ExitStatus::Protocol, failure)
            .hint("`--server HOST:PORT` names the server; is that its port for mailbox access?"),
        Cause::Lost | Cause::TimedOut => {
            let told = Failure::new(ExitStatus::TryAgain, failure);
            match failure.asked {
                "the message" => told.hint(
                    "the server may have taken the message all the same; sent again, it may \
                     arrive twice",
                ),
                _ => told.hint("`minismtp shell` connects again"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;
    use crate::pop3::client::MalformedAnswer;

    #[test]
    fn every_failure_has_its_exit_code() {
        let line = "220 mx".to_owned();
        for (cause, expected) in [
            (Cause::Lost, ExitStatus::TryAgain),
            (Cause::TimedOut, ExitStatus::TryAgain),
            (Cause::TlsNotOffered, ExitStatus::Protocol),
            (Cause::Tls(net::tls::Failure::NotTls), ExitStatus::Protocol),
            (Cause::Tls(net::tls::Failure::Lost), ExitStatus::TryAgain),
            (
                Cause::Malformed(MalformedAnswer { line }),
                ExitStatus::Protocol,
            ),
        ] {
            let failure = access::Failure {
                asked: "READM",
                cause,
            };
            let server = server("mx.example").unwrap();
            let told = no_answer(&failure, &server);
            assert_eq!(told.code, expected, "{failure}");
            if matches!(failure.cause, Cause::Tls(_)) {
                assert!(told.message.contains("with `mx.example:1110`"), "{told:?}");
            }
        }
    }
}
