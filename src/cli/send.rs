//! `minismtp send`: the lab's mail client at a terminal, and one mail from a pipe.
//!
//! Both read a mail line by line through [`DraftReader`] and submit it over a connection of its
//! own: a person takes minutes over a mail, and no server waits that long.

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use memchr::memchr;

use super::Global;
use super::dialog::Dialog;
use super::password;
use super::report::{ExitStatus, Failure, Output};
use super::tls;
use crate::client::submit::{Options, submit};
use crate::client::{DialError, Security, ServerAddress, Tls};
use crate::message::draft::{self, Draft, DraftError, DraftReader, Progress};
use crate::message::outgoing::Outgoing;
use crate::sasl::Login;
use crate::secret::Secret;
use crate::smtp;
use crate::smtp::client::{Cause, Outcome, Stage};
use crate::smtp::reply::Severity;

/// Names the server where nothing else does.
pub(super) const SERVER_VARIABLE: &str = "MINISMTP_SERVER";

/// Send mail: with a menu at a terminal, or one mail from a pipe
///
/// At a terminal it asks for your user name and password and lets you type mails. With a file or a
/// pipe on standard input it sends the one mail that stands there, and logs in only if `--user` is
/// given. Either way a mail begins with the lines `From: X@Y`, `To: X@Y` and `Subject: text`, in this
/// order, with at most 50 characters of subject. The body follows, and a line with only a full stop
/// ends it; from a pipe, the end of input will do, and nothing may follow the full stop.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  Type a mail, with a menu:
      minismtp send

  Send a file:
      minismtp send < message.txt

  Send what a command prints:
      (printf 'From: %s\\nTo: %s\\nSubject: disk\\n' me@localhost andrew@localhost; df) | minismtp send

  Log in, from a script:
      MINISMTP_PASSWORD='network$ecurity' minismtp send --user Stallings < message.txt

  Use another server:
      minismtp send --server mail.example:587 --require-tls < message.txt

Exit codes:
  0 sent, 64 usage, 65 incorrect format, 67 no such recipient, 68 no such host,
  69 the server refused for good, 74 cannot read the mail, 75 try again later,
  76 the server does not speak SMTP, or there is no TLS with it that can be trusted,
  77 the login failed")]
pub(crate) struct Args {
    /// The mail server; the port is 2525 if it is left out, and IPv6 addresses stand in brackets
    ///
    /// Without it: the variable `MINISMTP_SERVER`, else this machine.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = SERVER_VARIABLE,
        default_value = "localhost:2525",
        value_hint = clap::ValueHint::Hostname
    )]
    server: ServerAddress,

    /// Log in as this user
    ///
    /// The password comes from `--password-file`, else from the variable `MINISMTP_PASSWORD`, else
    /// it is asked for at the terminal.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    #[command(flatten)]
    password: password::ForServer,

    #[command(flatten)]
    tls: tls::Args,

    /// Wait no longer than this for any answer; otherwise as long as RFC 5321 wants, which is minutes
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
}

/// Runs `minismtp send`.
pub(super) fn run(args: &Args, global: &Global, out: &mut Output) -> Result<(), Failure> {
    let mut client = Client {
        server: &args.server,
        options: Options {
            security: args.tls.security(global, out)?,
            is_insecure_auth_allowed: args.password.insecure_auth,
            timeout_max: args.timeout.map(Duration::from_secs),
            ..Options::default()
        },
        is_dialog_shown: global.verbose > 0,
    };
    if io::stdin().is_terminal() {
        interactive(args, &mut client, out)
    } else {
        piped(args, &mut client, out)
    }
}

/// One mail from a file or a pipe.
fn piped(args: &Args, client: &mut Client<'_>, out: &mut Output) -> Result<(), Failure> {
    match &args.user {
        Some(user) => {
            let password = args.password.ask(&format!("Password of {user}: "))?;
            client.options.login = Some(login(user, password));
        }
        None if args.password.password_file.is_some() => {
            return Err(
                Failure::new(ExitStatus::Usage, "a password, but no user to log in as")
                    .hint("`--user NAME` says who"),
            );
        }
        None => {}
    }
    let mut input = io::stdin().lock();
    let mut reader = DraftReader::default();
    // To the end, not to the full stop: what follows that would be lost.
    while reader.error().is_none()
        && let Some(line) = read_line(&mut input).map_err(|error| cannot_read_mail(&error))?
    {
        reader.line(&line);
    }
    let draft = reader.finish().map_err(|error| {
        Failure::new(
            ExitStatus::BadData,
            format_args!("Incorrect format: {error}"),
        )
    })?;
    client.send(draft.into_message(), out)?;
    out.done("Mail sent successfully")
}

/// The lab's `mailclient`.
fn interactive(args: &Args, client: &mut Client<'_>, out: &mut Output) -> Result<(), Failure> {
    let mut input = io::stdin().lock();
    let Some(login) = ask_login(args, &mut input, out)? else {
        return Ok(());
    };
    client.log_in(login, out)?;
    loop {
        out.write(b"1. Send Mail\n2. Quit\n")?;
        let Some(choice) = read_text(&mut input)? else {
            return Ok(());
        };
        match choice.trim() {
            "1" => match read_mail(&mut input)? {
                None => {
                    out.warning("the mail has no final full stop, it was not sent");
                    return Ok(());
                }
                Some(Err(error)) => {
                    out.result("Incorrect format")?;
                    out.failure(&Failure::new(ExitStatus::BadData, error));
                }
                Some(Ok(draft)) => match client.send(draft.into_message(), out) {
                    Ok(()) => out.result("Mail sent successfully")?,
                    Err(failure) => out.failure(&failure),
                },
            },
            "2" => return Ok(()),
            "" => {}
            other => out.failure(
                &Failure::new(
                    ExitStatus::Usage,
                    format_args!("there is no option `{other}`"),
                )
                .hint("enter 1 or 2"),
            ),
        }
    }
}

/// Who is there; `None` if the input ends.
fn ask_login(
    args: &Args,
    input: &mut dyn BufRead,
    out: &mut Output,
) -> Result<Option<Login>, Failure> {
    let user = match &args.user {
        Some(user) => user.clone(),
        None => loop {
            out.write(b"Username: ")?;
            match read_text(input)? {
                None => {
                    out.write(b"\n")?;
                    return Ok(None);
                }
                Some(text) if text.trim().is_empty() => {}
                Some(text) => break text.trim().to_owned(),
            }
        },
    };
    let password = match args.password.known()? {
        Some(password) => password,
        None => match password::prompt_unseen("Password: ") {
            Ok(password) => password,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(password::cannot_ask(&error)),
        },
    };
    Ok(Some(login(&user, password)))
}

/// A mail as it is typed; `None` if the input ends before its full stop.
fn read_mail(input: &mut dyn BufRead) -> Result<Option<Result<Draft, DraftError>>, Failure> {
    let mut reader = DraftReader::default();
    while let Some(line) = read_line(input).map_err(|error| cannot_read_mail(&error))? {
        if reader.line(&line) == Progress::Complete {
            return Ok(Some(reader.finish()));
        }
    }
    Ok(None)
}

/// A server and how to talk to it.
struct Client<'a> {
    server: &'a ServerAddress,
    options: Options,
    is_dialog_shown: bool,
}

impl Client<'_> {
    /// Tries the login at once: it is better refused before a mail is typed than after.
    fn log_in(&mut self, login: Login, out: &mut Output) -> Result<(), Failure> {
        self.options.login = Some(login);
        let outcome = self.submit(None, out)?;
        match &outcome.result {
            Ok(_) => Ok(()),
            Err(failure) if failure.cause == Cause::LoginNotOffered => {
                out.warning(format_args!(
                    "the server {} offers no login, going on without one",
                    self.server
                ));
                self.options.login = None;
                Ok(())
            }
            Err(failure) => Err(self.refusal(failure, &outcome)),
        }
    }

    fn send(&self, message: Outgoing, out: &mut Output) -> Result<(), Failure> {
        let outcome = self.submit(Some(message), out)?;
        match &outcome.result {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.refusal(failure, &outcome)),
        }
    }

    /// What became of a mail that was not sent, and what the connection may have to do with it.
    fn refusal(&self, failure: &smtp::client::Failure, outcome: &Outcome) -> Failure {
        let told = refusal(failure);
        let security = &self.options.security;
        let is_clear = !outcome.is_secure && !outcome.has_login;
        match &failure.cause {
            Cause::PasswordNotAllowed => {
                told.hint(tls::unprotected_hint(security, outcome.is_secure))
            }
            Cause::Refused(reply) if is_clear && reply.code() == 530 => {
                told.hint(no_login(security))
            }
            Cause::Lost | Cause::TimedOut
                if failure.stage == Stage::Greeting && !outcome.is_secure =>
            {
                told.hint(format_args!("{}; else try again later", tls::SILENCE_HINT))
            }
            Cause::LoginNotOffered if is_clear => told.hint(format_args!(
                "{}; without `--user` the mail is sent without a login",
                no_login(security)
            )),
            _ => told,
        }
    }

    fn submit(&self, message: Option<Outgoing>, out: &mut Output) -> Result<Outcome, Failure> {
        let mut dialog = Dialog::default();
        let is_secure = self.options.security.tls == Tls::Implicit;
        let mut trace = |event: &smtp::Event| {
            if *event == smtp::Event::Silence && !is_secure {
                let server = self.server;
                out.hint(format_args!(
                    "`{server}` says nothing yet; {}",
                    tls::SILENCE_HINT
                ));
            }
            if self.is_dialog_shown {
                for line in dialog.lines(event) {
                    out.note(line);
                }
            }
        };
        Ok(submit(self.server, &self.options, message, &mut trace)?)
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        match &error {
            DialError::NoSuchHost { .. } => {
                Self::new(ExitStatus::NoHost, error).hint("`--server HOST:PORT` names the server")
            }
            DialError::CannotConnect { attempts, .. } => {
                let is_here = attempts
                    .iter()
                    .all(|(address, _)| address.ip().is_loopback());
                Self::new(ExitStatus::TryAgain, error).hint(if is_here {
                    "`minismtp serve` starts a server, `--server HOST:PORT` names another"
                } else {
                    "`--server HOST:PORT` names the server; is it running?"
                })
            }
            DialError::Tls { cause, .. } => tls::failure(cause, &error),
            DialError::Network(_) => Self::new(ExitStatus::InputOutput, error),
        }
    }
}

/// What became of a mail that was not sent.
fn refusal(failure: &smtp::client::Failure) -> Failure {
    let told = Failure::new(exit_status(failure), failure);
    let is_content = failure.stage == Stage::Content;
    match &failure.cause {
        Cause::Refused(reply) => match reply.code() {
            535 => told.hint("check the user name and the password"),
            530 => told.hint("`--user NAME` logs in"),
            553 if reply.enhanced() == Some("5.7.1") => {
                told.hint("`From:` must be the address of the user who logs in")
            }
            _ if reply.severity() == Severity::Transient => told.hint("try again later"),
            // It knows neither EHLO nor HELO.
            500..=502 if failure.stage == Stage::Hello => told.hint(
                "`--server HOST:PORT` names the server; is that its SMTP port, and not one for LMTP?",
            ),
            _ => told,
        },
        Cause::Lost | Cause::TimedOut if is_content => told.hint(
            "the server may have taken the mail all the same; sent again, it may arrive twice",
        ),
        Cause::Lost | Cause::TimedOut => told.hint("try again later"),
        Cause::Malformed(_) | Cause::Unexpected(_) => {
            told.hint("`--server HOST:PORT` names the server; is that its SMTP port?")
        }
        Cause::LoginNotOffered => told.hint("without `--user` the mail is sent without a login"),
        Cause::TlsNotOffered => told.hint(
            "without `--require-tls`, `--tls-ca` and `--tls-fingerprint` the mail is sent in clear",
        ),
        _ => told,
    }
}

/// Why a server offers no login in clear.
fn no_login(security: &Security) -> &'static str {
    match security.tls {
        Tls::Off => "many servers offer a login under TLS only, and `--tls off` was given",
        _ => {
            "many servers offer a login under TLS only, and this one has no TLS: it lacks a certificate"
        }
    }
}

fn exit_status(failure: &smtp::client::Failure) -> ExitStatus {
    match &failure.cause {
        Cause::Refused(reply) => match (reply.code(), reply.enhanced(), &failure.stage) {
            (530 | 534 | 535 | 538, _, _) => ExitStatus::Denied,
            (550, Some("5.1.1"), Stage::Recipient(_)) => ExitStatus::NoUser,
            _ if failure.is_transient() => ExitStatus::TryAgain,
            _ => ExitStatus::Unavailable,
        },
        Cause::Malformed(_)
        | Cause::Unexpected(_)
        | Cause::TlsNotOffered
        | Cause::SpokeTooEarly
        | Cause::BadChallenge => ExitStatus::Protocol,
        Cause::Lost | Cause::Stopped | Cause::TimedOut => ExitStatus::TryAgain,
        Cause::LoginNotOffered
        | Cause::NoCommonMechanism
        | Cause::NotProved
        | Cause::PasswordNotAllowed => ExitStatus::Denied,
        Cause::NoEightBitMime | Cause::NoSmtpUtf8 | Cause::TooLarge { .. } => {
            ExitStatus::Unavailable
        }
    }
}

fn login(user: &str, password: Secret) -> Login {
    Login {
        user: user.to_owned(),
        password,
    }
}

fn cannot_read_mail(error: &io::Error) -> Failure {
    Failure::new(
        ExitStatus::InputOutput,
        format_args!("cannot read the mail from standard input: {error}"),
    )
}

/// A line that a person typed, without its end; `None` at the end of input.
fn read_text(input: &mut dyn BufRead) -> Result<Option<String>, Failure> {
    let line = read_line(input).map_err(|error| {
        Failure::new(
            ExitStatus::InputOutput,
            format_args!("cannot read from the terminal: {error}"),
        )
    })?;
    Ok(line.map(|line| {
        let text = String::from_utf8_lossy(&line);
        text.trim_end_matches(['\r', '\n']).to_owned()
    }))
}

/// The next line with its end, `None` at the end of input. Of a line that is longer than any mail
/// may have, only as much as shows that.
fn read_line(input: &mut dyn BufRead) -> io::Result<Option<Vec<u8>>> {
    // Room for CRLF, and one more that tells too long from just right.
    const OCTETS_MAX: usize = draft::LINE_OCTETS_MAX + 3;
    let mut line = Vec::new();
    loop {
        let octets = match input.fill_buf() {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if octets.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = memchr(b'\n', octets).map(|at| at + 1);
        let count = end.unwrap_or(octets.len());
        let room = OCTETS_MAX - line.len();
        line.extend_from_slice(&octets[..count.min(room)]);
        input.consume(count);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_read_within_bounds() {
        let long = "x".repeat(5000);
        let text = format!("a\n\nb\r\n{long}\n{}\r\nend", &long[..998]);
        for capacity in [1, 7, 8192] {
            let mut input = BufReader::with_capacity(capacity, text.as_bytes());
            let lines: Vec<_> = std::iter::from_fn(|| read_line(&mut input).unwrap()).collect();
            let lengths: Vec<_> = lines.iter().map(Vec::len).collect();
            assert_eq!(lengths, [2, 1, 3, 1001, 1000, 3], "{capacity}");
        }
    }

    #[test]
    fn a_typed_mail_ends_at_its_full_stop_or_not_at_all() {
        let mut input = &b"From: a@b\nTo: c@d\nSubject: x\n.\n2\n"[..];
        assert!(matches!(read_mail(&mut input), Ok(Some(Ok(_)))));
        assert_eq!(read_text(&mut input), Ok(Some("2".into())));
        let mut input = &b"To: a@b\nx\n.\n2\n"[..];
        assert!(matches!(read_mail(&mut input), Ok(Some(Err(_)))));
        assert_eq!(read_text(&mut input), Ok(Some("2".into())));
        let mut input = &b"From: a@b\nTo: c@d\nSubject: x\n"[..];
        assert!(matches!(read_mail(&mut input), Ok(None)));
    }

    #[test]
    fn every_failure_has_its_exit_code() {
        use crate::address::{ForwardPath, ReversePath};
        use crate::smtp::reply::Reply;

        let recipient = || Stage::Recipient(ForwardPath::Postmaster);
        let sender = || Stage::Sender(ReversePath::Null);
        let refused = |reply: &Reply| Cause::Refused(reply.clone());
        for (stage, cause, expected) in [
            (
                recipient(),
                refused(&Reply::NO_SUCH_USER),
                ExitStatus::NoUser,
            ),
            (
                recipient(),
                refused(&Reply::RELAYING_DENIED),
                ExitStatus::Unavailable,
            ),
            (
                sender(),
                refused(&Reply::NO_SUCH_USER),
                ExitStatus::Unavailable,
            ),
            (recipient(), refused(&Reply::NO_SPACE), ExitStatus::TryAgain),
            (
                sender(),
                refused(&Reply::SENDER_NEEDS_LOGIN),
                ExitStatus::Denied,
            ),
            (
                sender(),
                refused(&Reply::NOT_YOUR_ADDRESS),
                ExitStatus::Unavailable,
            ),
            (
                Stage::Login,
                refused(&Reply::BAD_CREDENTIALS),
                ExitStatus::Denied,
            ),
            (
                Stage::Login,
                refused(&Reply::LOGIN_UNAVAILABLE),
                ExitStatus::TryAgain,
            ),
            (Stage::Login, Cause::LoginNotOffered, ExitStatus::Denied),
            (Stage::Login, Cause::PasswordNotAllowed, ExitStatus::Denied),
            (Stage::Login, Cause::NotProved, ExitStatus::Denied),
            (
                Stage::Greeting,
                refused(&Reply::TOO_MANY_CONNECTIONS),
                ExitStatus::TryAgain,
            ),
            (Stage::Greeting, Cause::TimedOut, ExitStatus::TryAgain),
            (Stage::Hello, Cause::Lost, ExitStatus::TryAgain),
            (
                Stage::Data,
                Cause::Unexpected(Reply::OK),
                ExitStatus::Protocol,
            ),
            (
                Stage::Content,
                refused(&Reply::TOO_BIG),
                ExitStatus::Unavailable,
            ),
            (sender(), Cause::NoSmtpUtf8, ExitStatus::Unavailable),
        ] {
            let failure = smtp::client::Failure { stage, cause };
            assert_eq!(refusal(&failure).code, expected, "{failure}");
        }
    }
}
