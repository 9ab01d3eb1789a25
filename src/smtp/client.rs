//! The client's side: a submission (RFC 5321 §3, §4.5.3.2, §4.5.4).
//!
//! One connection carries one message, or none where only a login is to be tried. The owner
//! dials, drives the engine to [`Step::Close`] and asks for the [`Outcome`].
//!
//! ```text
//! Greeting --220--> Ehlo --250--> Login --235--> Envelope --354--> Text --> FinalReply --> Quit
//!                    |              ^  (only where asked)  |                               ^
//!                    +--> Helo -----+                      +--> Emptied (354 for nobody) --+
//! ```
//!
//! STARTTLS, where it is wanted, leads from Ehlo to a handshake and back to Ehlo; what was offered
//! before it is forgotten, and what the server said too early ends the session (RFC 3207 §6).
//!
//! Replies are matched to commands by counting, never by what they say (RFC 2920 §3.1). The
//! server's word is final where it is 4yz or 5yz; only EHLO falls back to HELO and AUTH to the
//! next mechanism.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use crate::address::{ForwardPath, ReversePath};
use crate::message::outgoing::Outgoing;
use crate::sasl::{self, Login, Mechanism, scram};
use crate::secret::Secret;
use crate::wire::dot::Encoder;
use crate::wire::line::{Line, LineBuffer};
use crate::wire::{Machine, Step};

use super::Event;
use super::command::{Body, Command, MailParameters, RcptParameters};
use super::extension::Extensions;
use super::limits;
use super::reply::{HIDDEN, MalformedReply, Reply, ReplyParser, Severity};

/// How to introduce ourselves, and what is allowed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in EHLO: a domain or an address literal, in ASCII.
    pub hostname: String,
    /// Who to log in as; `None` for no login.
    pub login: Option<Login>,
    /// Whether to begin TLS.
    pub start_tls: StartTls,
    /// Whether the connection is under TLS from its first octet.
    pub is_secure: bool,
    /// Whether a login may be tried over this connection in clear. PLAIN and LOGIN hide nothing, and
    /// with what SCRAM shows to whom it is tried on, a password can be guessed at leisure (RFC 5802
    /// §9).
    pub is_password_allowed: bool,
    /// Whether it may once there is TLS: not to a server that could be anybody.
    pub is_password_allowed_secured: bool,
    /// Random, for this connection alone: SCRAM wants it.
    pub nonce: [u8; scram::NONCE_OCTETS],
    /// Whether each command waits for the reply to the one before, even where the server has
    /// PIPELINING; for people who watch.
    pub is_step_by_step: bool,
    /// No step waits longer than this, whatever RFC 5321 §4.5.3.2 has.
    pub timeout_max: Option<Duration>,
}

/// Whether to begin TLS on a connection that is in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// No.
    Never,
    /// Where the server offers it. Where it then fails, nothing is sent in clear.
    IfOffered,
    /// In any case: a server without it gets nothing.
    Required,
}

/// What came of a submission.
#[derive(Debug)]
pub struct Outcome {
    /// What the server said to each recipient, in the order of the envelope. An accepted one
    /// gets the message only if `result` is good.
    pub recipients: Vec<Recipient>,
    /// The reply to the message, if there was one to send and the server took it for somebody;
    /// or what went wrong first.
    pub result: Result<Option<Reply>, Failure>,
    /// Whether the connection came to be under TLS.
    pub is_secure: bool,
    /// Whether the server offered a login on it, of any kind.
    pub has_login: bool,
}

/// A recipient and what the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Who.
    pub path: ForwardPath,
    /// What.
    pub verdict: Verdict,
}

/// What a server says to a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It will take the message for it.
    Accepted,
    /// Not now; trying again may help.
    Deferred(Reply),
    /// Never.
    Refused(Reply),
    /// It was not asked, or nothing came of the asking.
    Undecided,
}

/// Why nothing was sent, and how far it had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How far it had come.
    pub stage: Stage,
    /// Why it went no further.
    pub cause: Cause,
}

/// What was being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the server's first words.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Login,
    /// MAIL.
    Sender(ReversePath),
    /// RCPT.
    Recipient(ForwardPath),
    /// DATA.
    Data,
    /// The message itself.
    Content,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server said 4yz or 5yz.
    Refused(Reply),
    /// The server said what is no reply at all.
    Malformed(MalformedReply),
    /// The server's reply makes no sense here.
    Unexpected(Reply),
    /// TLS is required and the server does not offer it.
    TlsNotOffered,
    /// The server, or somebody on the way, said more after agreeing to TLS: it would be taken for
    /// said under TLS (CVE-2021-38371).
    SpokeTooEarly,
    /// A challenge of AUTH that is not base64, or one more than the mechanism has.
    BadChallenge,
    /// The server let us in without having shown that it knows the password too.
    NotProved,
    /// The server took too long.
    TimedOut,
    /// The connection ended.
    Lost,
    /// The owner wanted to stop.
    Stopped,
    /// A login was asked for and the server has none.
    LoginNotOffered,
    /// The server has a login, but none of ours.
    NoCommonMechanism,
    /// A login was asked for and the password must not go over this connection.
    PasswordNotAllowed,
    /// The message has more octets than the server takes.
    TooLarge {
        /// What it has.
        octets: u64,
        /// What the server takes.
        limit: u64,
    },
    /// The message has octets above 127 and the server has no 8BITMIME.
    NoEightBitMime,
    /// The addresses are not ASCII and the server has no SMTPUTF8.
    NoSmtpUtf8,
}

impl Failure {
    /// Whether the same may go well later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            Cause::Refused(reply) => reply.severity() == Severity::Transient,
            Cause::TimedOut | Cause::Lost | Cause::Stopped => true,
            _ => false,
        }
    }

    /// What the server said, if that is the cause.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match &self.cause {
            Cause::Refused(reply) => Some(reply),
            _ => None,
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let awaited = self.stage.awaited();
        match &self.cause {
            Cause::Refused(reply) => {
                let when = match reply.severity() {
                    Severity::Transient => " for now",
                    _ => "",
                };
                let reply = OneLine(reply);
                write!(f, "the server refused {}{when}: {reply}", self.stage)
            }
            Cause::Malformed(error) => write!(
                f,
                "the server does not speak SMTP: got `{}` for {awaited}",
                error.line
            ),
            Cause::Unexpected(reply) => {
                let reply = OneLine(reply);
                write!(
                    f,
                    "the server gave a senseless answer for {awaited}: {reply}"
                )
            }
            Cause::TlsNotOffered => f.write_str("the server offers no TLS, and it is required"),
            Cause::SpokeTooEarly => f.write_str(
                "something came in clear after the server had agreed to TLS; somebody may be \
                 tampering with the connection",
            ),
            Cause::BadChallenge => f.write_str("the server asked something senseless at login"),
            Cause::NotProved => f.write_str(
                "the server did not prove that it knows the password: it may be another that \
                 passes itself off as it",
            ),
            Cause::TimedOut => write!(f, "timed out waiting for {awaited}"),
            Cause::Lost => write!(f, "the connection was lost before {awaited} came"),
            Cause::Stopped => write!(f, "stopped before {awaited} came"),
            Cause::LoginNotOffered => f.write_str("the server offers no login"),
            Cause::NoCommonMechanism => {
                f.write_str("the server offers no way to log in that is known here")
            }
            Cause::PasswordNotAllowed => {
                f.write_str("the connection is not protected, the password was not sent over it")
            }
            Cause::TooLarge { octets, limit } => write!(
                f,
                "the message has {octets} octets, the server takes at most {limit}"
            ),
            Cause::NoEightBitMime => {
                f.write_str("the message is not ASCII and the server has no 8BITMIME to carry it")
            }
            Cause::NoSmtpUtf8 => {
                f.write_str("an address is not ASCII and the server has no SMTPUTF8 to carry it")
            }
        }
    }
}

impl Stage {
    /// What the client waits for at this stage.
    fn awaited(&self) -> &'static str {
        match self {
            Self::Greeting => "its greeting",
            Self::Hello => "its answer to EHLO",
            Self::StartTls => "its answer to STARTTLS",
            Self::Login => "its answer to AUTH",
            Self::Sender(_) => "its answer to MAIL",
            Self::Recipient(_) => "its answer to RCPT",
            Self::Data => "its answer to DATA",
            Self::Content => "its answer to the message",
        }
    }
}

impl fmt::Display for Stage {
    /// Writes what a server refuses at this stage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting => f.write_str("the connection"),
            Self::Hello => f.write_str("to talk to us"),
            Self::StartTls => f.write_str("to begin TLS"),
            Self::Login => f.write_str("the login"),
            Self::Sender(ReversePath::Address(address)) => write!(f, "the sender {address}"),
            Self::Sender(ReversePath::Null) => f.write_str("the null sender"),
            Self::Recipient(ForwardPath::Address(address)) => {
                write!(f, "the recipient {address}")
            }
            Self::Recipient(ForwardPath::Postmaster) => f.write_str("the recipient postmaster"),
            Self::Data => f.write_str("to take a message"),
            Self::Content => f.write_str("the message"),
        }
    }
}

/// A reply of several lines on one.
struct OneLine<'a>(&'a Reply);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string().replace('\n', " / "))
    }
}

/// The engine.
#[derive(Debug)]
pub struct Submission {
    settings: Settings,
    message: Option<Outgoing>,
    state: State,
    input: LineBuffer,
    parser: ReplyParser,
    output: Vec<u8>,
    /// When the present wait ends; `None` until it begins.
    deadline: Option<Instant>,
    /// When the owner is told that no greeting comes; `None` until the wait for it begins.
    silence: Option<Instant>,
    is_disconnected: bool,
    is_secure: bool,
    extensions: Extensions,
    recipients: Vec<Recipient>,
    taken: Option<Reply>,
    failure: Option<Failure>,
    events: VecDeque<Event>,
}

/// What is being waited for.
#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// The server has agreed; what comes is the handshake's.
    Securing,
    Login {
        next: Response,
        /// What may be tried if this mechanism is refused.
        others: Vec<Mechanism>,
    },
    /// The commands of the envelope by number: MAIL is 0, RCPT is 1 and up, DATA the last.
    Envelope {
        sent: usize,
        answered: usize,
    },
    /// The message is being written; this much of it has been.
    Text {
        written: usize,
        encoder: Encoder,
    },
    FinalReply,
    /// An empty message was sent for nobody.
    Emptied,
    Quit,
    Closed,
}

/// What the next challenge of AUTH asks for.
#[derive(Clone, Debug)]
enum Response {
    /// The message of PLAIN.
    Plain,
    /// The first message of SCRAM, which did not fit into the command.
    ScramHello,
    /// The proof of SCRAM.
    ScramProof(scram::Client),
    /// Nothing, if the challenge is the server's proof.
    ScramProved(scram::Expected),
    /// The user name of LOGIN.
    User,
    /// The password of LOGIN.
    Password,
    /// All has been said.
    Nothing,
    /// `*` was sent.
    Cancelled,
}

impl Submission {
    /// Begins with a connection that was just made. Without a message it greets, logs in where
    /// asked and leaves.
    #[must_use]
    pub fn new(settings: Settings, message: Option<Outgoing>) -> Self {
        let paths = message
            .iter()
            .flat_map(|message| &message.envelope.forward_paths);
        let recipients = paths.map(|path| Recipient {
            path: path.clone(),
            verdict: Verdict::Undecided,
        });
        Self {
            recipients: recipients.collect(),
            is_secure: settings.is_secure,
            settings,
            message,
            state: State::Greeting,
            input: LineBuffer::any_line_end(),
            parser: ReplyParser::default(),
            output: Vec::new(),
            deadline: None,
            silence: None,
            is_disconnected: false,
            extensions: Extensions::default(),
            taken: None,
            failure: None,
            events: VecDeque::new(),
        }
    }

    /// What came of it. Asked before [`Step::Close`], the connection counts as lost.
    #[must_use]
    pub fn outcome(mut self) -> Outcome {
        if !matches!(self.state, State::Closed | State::Quit) {
            self.fail(Cause::Lost);
        }
        Outcome {
            recipients: self.recipients,
            result: self.failure.map_or(Ok(self.taken), Err),
            is_secure: self.is_secure,
            has_login: self.extensions.has_auth,
        }
    }

    /// Every transition that a reply makes.
    fn reply(&mut self, reply: Reply) {
        use Severity::{Completed, Intermediate, Permanent, Transient};

        let (code, severity) = (reply.code(), reply.severity());
        self.events.push_back(Event::Reply(self.shown(&reply)));
        self.deadline = None;
        if code == 421 && !matches!(self.state, State::Quit) {
            // The server hangs up; it will not wait for our QUIT.
            self.fail(Cause::Refused(reply));
            self.state = State::Closed;
            return;
        }
        match (&mut self.state, severity) {
            (State::Greeting, Completed) => {
                self.send(Command::Ehlo(self.settings.hostname.clone()));
                self.state = State::Ehlo;
            }
            (State::Ehlo, Completed) => {
                self.extensions = Extensions::parse(&reply);
                self.greeted();
            }
            (State::Helo, Completed) => self.greeted(),
            (State::StartTls, Completed) if self.input.is_empty() => {
                self.state = State::Securing;
            }
            (State::StartTls, Completed) => {
                self.fail(Cause::SpokeTooEarly);
                self.state = State::Closed;
            }
            // A server that has EHLO and refuses us would refuse HELO as well (RFC 5321 §3.2).
            (State::Ehlo, Permanent) if matches!(code, 500..=504) => {
                self.send(Command::Helo(self.settings.hostname.clone()));
                self.state = State::Helo;
            }
            (
                State::Login {
                    next: Response::Cancelled,
                    ..
                },
                _,
            ) => {
                self.fail(Cause::BadChallenge);
                self.quit();
            }
            (
                State::Login {
                    next: Response::ScramHello | Response::ScramProof(_) | Response::ScramProved(_),
                    ..
                },
                Completed,
            ) => {
                self.fail(Cause::NotProved);
                self.quit();
            }
            (State::Login { .. }, Completed) => self.logged_in(),
            (State::Login { next, .. }, Intermediate) => {
                let asked = std::mem::replace(next, Response::Nothing);
                self.respond(&asked, &reply);
            }
            (State::Login { others, .. }, Permanent)
                if matches!(code, 504 | 534) && !others.is_empty() =>
            {
                let others = std::mem::take(others);
                self.log_in(others);
            }
            (State::Envelope { answered, .. }, _) => {
                let number = *answered;
                self.envelope_reply(number, reply);
            }
            // The server has not heard all of it; what follows would be commands to it.
            (State::Text { .. }, _) => {
                self.fail_by(reply);
                self.state = State::Closed;
            }
            (State::FinalReply, Completed) => {
                self.taken = Some(reply);
                self.quit();
            }
            (State::Emptied, _) => self.quit(),
            (State::Securing | State::Quit | State::Closed, _) => self.state = State::Closed,
            (
                State::Greeting
                | State::Ehlo
                | State::Helo
                | State::StartTls
                | State::Login { .. }
                | State::FinalReply,
                Transient | Permanent,
            ) => {
                self.fail_by(reply);
                self.quit();
            }
            (
                State::Greeting | State::Ehlo | State::Helo | State::StartTls | State::FinalReply,
                Intermediate,
            ) => self.nonsense(reply),
        }
    }

    /// After EHLO or HELO.
    fn greeted(&mut self) {
        if !self.is_secure {
            match self.settings.start_tls {
                StartTls::IfOffered | StartTls::Required if self.extensions.start_tls => {
                    self.send(Command::StartTls);
                    self.state = State::StartTls;
                    return;
                }
                StartTls::Required => {
                    self.fail(Cause::TlsNotOffered);
                    return self.quit();
                }
                StartTls::IfOffered | StartTls::Never => {}
            }
        }
        if self.settings.login.is_none() {
            return self.logged_in();
        }
        self.state = State::Login {
            next: Response::Nothing,
            others: Vec::new(),
        };
        if !self.extensions.has_auth {
            self.fail(Cause::LoginNotOffered);
            return self.quit();
        }
        let is_password_allowed = self.settings.is_password_allowed
            || self.is_secure && self.settings.is_password_allowed_secured;
        if !is_password_allowed {
            self.fail(Cause::PasswordNotAllowed);
            return self.quit();
        }
        let offered = |mechanism: &Mechanism| self.extensions.auth.contains(mechanism);
        let mechanisms = Mechanism::ALL.into_iter().filter(offered).collect();
        self.log_in(mechanisms);
    }

    /// Tries the first of these.
    fn log_in(&mut self, mut mechanisms: Vec<Mechanism>) {
        let Some(login) = &self.settings.login else {
            return self.logged_in();
        };
        if mechanisms.is_empty() {
            self.fail(Cause::NoCommonMechanism);
            return self.quit();
        }
        let mechanism = mechanisms.remove(0);
        let (initial, next) = match mechanism {
            Mechanism::Login => (None, Response::User),
            Mechanism::Plain => {
                let message = base64(sasl::plain_message(login).expose());
                (initial(mechanism, message), Response::Plain)
            }
            Mechanism::ScramSha256 => {
                let (client, first) = scram::Client::start(&login.user, &self.settings.nonce);
                match initial(mechanism, base64(first.expose())) {
                    None => (None, Response::ScramHello),
                    first => (first, Response::ScramProof(client)),
                }
            }
        };
        self.send(Command::Auth(mechanism.name().to_owned(), initial));
        self.state = State::Login {
            next,
            others: mechanisms,
        };
    }

    /// Answers a challenge. In PLAIN and LOGIN, which ask in a fixed order, what it says does not
    /// matter.
    fn respond(&mut self, asked: &Response, challenge: &Reply) {
        let text = challenge.lines().next();
        let text = text.and_then(|text| sasl::decode(text.as_bytes()));
        let is_base64 = text.is_some();
        let text = text.as_ref().map(Secret::expose).unwrap_or_default();
        let refused = (Secret::new("*"), Response::Cancelled);
        let (response, then) = match (asked, &self.settings.login) {
            (Response::ScramHello, Some(login)) if is_base64 => {
                let (client, first) = scram::Client::start(&login.user, &self.settings.nonce);
                (base64(first.expose()), Response::ScramProof(client))
            }
            (Response::ScramProof(client), Some(login)) => {
                match client.prove(&login.password, text) {
                    Some((expected, last)) => {
                        (base64(last.expose()), Response::ScramProved(expected))
                    }
                    None => refused,
                }
            }
            (Response::ScramProved(expected), _) => {
                if expected.is_in(text) {
                    (Secret::new(""), Response::Nothing)
                } else {
                    // Whoever the server is, the password is not known there.
                    self.fail(Cause::NotProved);
                    refused
                }
            }
            (Response::Plain, Some(login)) if is_base64 => (
                base64(sasl::plain_message(login).expose()),
                Response::Nothing,
            ),
            (Response::User, Some(login)) if is_base64 => {
                (base64(login.user.as_bytes()), Response::Password)
            }
            (Response::Password, Some(login)) if is_base64 => {
                (base64(login.password.expose()), Response::Nothing)
            }
            _ => refused,
        };
        self.output.extend_from_slice(response.expose());
        self.output.extend_from_slice(b"\r\n");
        self.events.push_back(Event::AuthResponse);
        if let State::Login { next, .. } = &mut self.state {
            *next = then;
        }
    }

    /// A reply as it may be shown: with what SCRAM's challenges hold, passwords can be guessed.
    fn shown(&self, reply: &Reply) -> Reply {
        match &self.state {
            State::Login {
                next: Response::ScramProof(_) | Response::ScramProved(_),
                ..
            } if reply.severity() == Severity::Intermediate => Reply::challenge(HIDDEN.to_owned()),
            _ => reply.clone(),
        }
    }

    /// After the login, if there was to be one.
    fn logged_in(&mut self) {
        let Some(message) = &self.message else {
            return self.quit();
        };
        let octets = message.octets();
        let refusal = match self.extensions.size {
            Some(limit) if limit > 0 && octets > limit => Some(Cause::TooLarge { octets, limit }),
            _ if message.needs_smtp_utf8() && !self.extensions.smtp_utf8 => Some(Cause::NoSmtpUtf8),
            _ if message.needs_eight_bit_mime() && !self.extensions.eight_bit_mime => {
                Some(Cause::NoEightBitMime)
            }
            _ => None,
        };
        self.state = State::Envelope {
            sent: 0,
            answered: 0,
        };
        match refusal {
            None => self.send_envelope(),
            Some(cause) => {
                self.fail(cause);
                self.quit();
            }
        }
    }

    /// Sends the next command of the envelope, or the next few at once.
    fn send_envelope(&mut self) {
        let State::Envelope { mut sent, answered } = self.state else {
            return;
        };
        while let Some(command) = self.envelope_command(sent) {
            // A group must fit the sockets' buffers, or both sides may end up writing
            // (RFC 2920 §3.1).
            let may_follow = self.extensions.pipelining
                && !self.settings.is_step_by_step
                && self.output.len() < limits::PIPELINE_OCTETS_MAX;
            if sent > answered && !may_follow {
                break;
            }
            self.send(command);
            sent += 1;
        }
        self.state = State::Envelope { sent, answered };
    }

    fn envelope_command(&self, number: usize) -> Option<Command> {
        let message = self.message.as_ref()?;
        let paths = &message.envelope.forward_paths;
        if number == 0 {
            let parameters = MailParameters {
                size: self.extensions.size.map(|_| message.octets()),
                body: message.needs_eight_bit_mime().then_some(Body::EightBitMime),
                smtp_utf8: message.needs_smtp_utf8(),
                ..MailParameters::default()
            };
            let path = message.envelope.reverse_path.clone();
            return Some(Command::Mail(path, parameters));
        }
        match paths.get(number - 1) {
            Some(path) => Some(Command::Rcpt(path.clone(), RcptParameters::default())),
            None if number == paths.len() + 1 => Some(Command::Data),
            None => None,
        }
    }

    /// Takes the reply to a command of the envelope.
    fn envelope_reply(&mut self, number: usize, reply: Reply) {
        let is_data = number == self.recipients.len() + 1;
        let is_senseless = match reply.severity() {
            Severity::Completed => is_data,
            Severity::Intermediate => !is_data,
            Severity::Transient | Severity::Permanent => false,
        };
        if is_senseless {
            return self.nonsense(reply);
        }
        if is_data {
            return self.data_reply(reply);
        }
        if number == 0 {
            if reply.severity() != Severity::Completed {
                self.fail_by(reply);
            }
        } else if self.failure.is_none() {
            self.recipients[number - 1].verdict = self.verdict(reply);
        }
        let State::Envelope { sent, answered } = &mut self.state else {
            return;
        };
        *answered += 1;
        if *answered < *sent {
            return;
        }
        if *answered > self.recipients.len() && !self.any_accepted() {
            self.fail_for_recipients();
        }
        if self.failure.is_some() {
            self.quit();
        } else {
            self.send_envelope();
        }
    }

    fn data_reply(&mut self, reply: Reply) {
        if !self.any_accepted() {
            self.fail_for_recipients();
        }
        match (reply.severity(), &self.failure) {
            (Severity::Intermediate, None) => {
                self.state = State::Text {
                    written: 0,
                    encoder: Encoder::wire(),
                };
            }
            // The server wants a message that nobody is to get (RFC 2920 §3.1).
            (Severity::Intermediate, Some(_)) => {
                self.events.push_back(Event::Text(Vec::new()));
                self.output.extend_from_slice(b".\r\n");
                self.state = State::Emptied;
            }
            _ => {
                self.fail_by(reply);
                self.quit();
            }
        }
    }

    fn verdict(&self, reply: Reply) -> Verdict {
        match reply.severity() {
            Severity::Completed | Severity::Intermediate => Verdict::Accepted,
            Severity::Transient => Verdict::Deferred(reply),
            // "Too many" in the words of older servers (RFC 5321 §4.5.3.1.10).
            Severity::Permanent if reply.code() == 552 && self.any_accepted() => {
                Verdict::Deferred(reply)
            }
            Severity::Permanent => Verdict::Refused(reply),
        }
    }

    fn any_accepted(&self) -> bool {
        let mut verdicts = self.recipients.iter().map(|recipient| &recipient.verdict);
        verdicts.any(|verdict| *verdict == Verdict::Accepted)
    }

    /// Nobody is left to get the message.
    fn fail_for_recipients(&mut self) {
        let refusal = self.recipients.iter().find_map(|recipient| {
            let (Verdict::Deferred(reply) | Verdict::Refused(reply)) = &recipient.verdict else {
                return None;
            };
            Some(Failure {
                stage: Stage::Recipient(recipient.path.clone()),
                cause: Cause::Refused(reply.clone()),
            })
        });
        if self.failure.is_none() {
            self.failure = refusal;
        }
    }

    /// The next piece of the message, as it goes over the wire.
    fn text(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let (State::Text { written, encoder }, Some(message)) = (&mut self.state, &self.message)
        else {
            return out;
        };
        let rest = &message.text[*written..];
        let piece = &rest[..rest.len().min(limits::TEXT_CHUNK_OCTETS)];
        out.reserve(piece.len() + piece.len() / 16);
        encoder.encode(piece, &mut out);
        self.events.push_back(Event::Text(piece.to_vec()));
        *written += piece.len();
        if *written == message.text.len()
            && let State::Text { encoder, .. } =
                std::mem::replace(&mut self.state, State::FinalReply)
        {
            encoder.finish(&mut out);
        }
        out
    }

    fn send(&mut self, command: Command) {
        command.encode(&mut self.output);
        self.events.push_back(Event::Command(command));
    }

    fn quit(&mut self) {
        self.send(Command::Quit);
        self.state = State::Quit;
    }

    fn fail_by(&mut self, reply: Reply) {
        self.fail(match reply.severity() {
            Severity::Transient | Severity::Permanent => Cause::Refused(reply),
            Severity::Completed | Severity::Intermediate => Cause::Unexpected(reply),
        });
    }

    /// From here on the server's replies cannot be told apart.
    fn nonsense(&mut self, reply: Reply) {
        self.fail(Cause::Unexpected(reply));
        self.state = State::Closed;
    }

    /// Notes what went wrong first. After the message was taken nothing can.
    fn fail(&mut self, cause: Cause) {
        if self.failure.is_none()
            && self.taken.is_none()
            && let Some(stage) = self.stage()
        {
            self.failure = Some(Failure { stage, cause });
        }
    }

    fn stage(&self) -> Option<Stage> {
        Some(match &self.state {
            State::Greeting => Stage::Greeting,
            State::Ehlo | State::Helo => Stage::Hello,
            State::StartTls | State::Securing => Stage::StartTls,
            State::Login { .. } => Stage::Login,
            State::Envelope { answered, .. } => match self.envelope_command(*answered) {
                Some(Command::Mail(path, _)) => Stage::Sender(path),
                Some(Command::Rcpt(path, _)) => Stage::Recipient(path),
                _ => Stage::Data,
            },
            State::Text { .. } | State::FinalReply | State::Emptied => Stage::Content,
            State::Quit | State::Closed => return None,
        })
    }
    fn timeout(&self) -> Duration {
        let usual = match &self.state {
            State::Greeting => limits::GREETING_TIMEOUT,
            State::Envelope { answered, .. } if *answered > self.recipients.len() => {
                limits::DATA_TIMEOUT
            }
            State::Ehlo
            | State::Helo
            | State::StartTls
            | State::Securing
            | State::Login { .. }
            | State::Envelope { .. } => limits::COMMAND_TIMEOUT,
            State::Text { .. } => limits::BLOCK_TIMEOUT,
            State::FinalReply | State::Emptied => limits::FINAL_TIMEOUT,
            State::Quit | State::Closed => limits::QUIT_TIMEOUT,
        };
        self.settings.timeout_max.unwrap_or(usual).min(usual)
    }

    /// The next whole reply, if it has come.
    fn next_reply(&mut self) -> Result<Option<Reply>, MalformedReply> {
        while let Some(line) = self.input.next_line(limits::REPLY_LINE_OCTETS_MAX) {
            let reply = match line {
                Line::Whole(line) => self.parser.line(&line)?,
                Line::TooLong => {
                    let line = "a line that never ends".to_owned();
                    return Err(MalformedReply { line });
                }
            };
            if reply.is_some() {
                return Ok(reply);
            }
        }
        Ok(None)
    }
}

impl Machine for Submission {
    type Question = Infallible;
    type Answer = Infallible;
    type Event = Event;

    fn receive(&mut self, _now: Instant, octets: &[u8]) {
        if !matches!(self.state, State::Securing) {
            self.input.push(octets);
        }
    }

    fn disconnected(&mut self, _now: Instant) {
        self.is_disconnected = true;
    }

    fn answer(&mut self, _now: Instant, answer: Infallible) {
        match answer {}
    }

    fn secured(&mut self, _now: Instant, version: &'static str) {
        self.events.push_back(Event::Secured(version));
        self.is_secure = true;
        self.input = LineBuffer::any_line_end();
        self.parser = ReplyParser::default();
        self.extensions = Extensions::default();
        self.deadline = None;
        self.send(Command::Ehlo(self.settings.hostname.clone()));
        self.state = State::Ehlo;
    }

    fn stop(&mut self, _now: Instant) {
        match self.state {
            // Nearly done; whether the message was taken is worth knowing.
            State::FinalReply | State::Emptied | State::Quit | State::Closed => {}
            _ => {
                self.fail(Cause::Stopped);
                self.state = State::Closed;
            }
        }
    }

    fn step(&mut self, now: Instant) -> Step<Infallible> {
        loop {
            if matches!(self.state, State::Closed) {
                return Step::Close;
            }
            if !self.output.is_empty() {
                self.deadline = None;
                return Step::Send(std::mem::take(&mut self.output));
            }
            if matches!(self.state, State::Securing) && !self.is_disconnected {
                return Step::StartTls;
            }
            match self.next_reply() {
                Ok(Some(reply)) => {
                    self.reply(reply);
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    self.fail(Cause::Malformed(error));
                    self.state = State::Closed;
                    continue;
                }
            }
            let timeout = self.timeout();
            let deadline = *self.deadline.get_or_insert(now + timeout);
            if now >= deadline || self.is_disconnected {
                let is_late = now >= deadline;
                self.fail(if is_late {
                    Cause::TimedOut
                } else {
                    Cause::Lost
                });
                self.state = State::Closed;
                continue;
            }
            if matches!(self.state, State::Text { .. }) {
                let piece = self.text();
                let is_last = !matches!(self.state, State::Text { .. });
                self.deadline = (!is_last).then_some(now + timeout);
                return Step::Send(piece);
            }
            if matches!(self.state, State::Greeting) {
                let silence = self.silence.get_or_insert(now + limits::SILENCE_TIME);
                if *silence < deadline && now >= *silence {
                    self.events.push_back(Event::Silence);
                    *silence = deadline;
                }
                return Step::Wait(deadline.min(*silence));
            }
            return Step::Wait(deadline);
        }
    }

    fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// The initial response of AUTH, where the command is not too long with it (RFC 4954 §4).
fn initial(mechanism: Mechanism, response: Secret) -> Option<Secret> {
    let octets = "AUTH  \r\n".len() + mechanism.name().len() + response.expose().len();
    (octets <= limits::AUTH_COMMAND_OCTETS_MAX).then_some(response)
}

fn base64(octets: &[u8]) -> Secret {
    Secret::new(sasl::encode(octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::message::envelope::Envelope;

    fn settings() -> Settings {
        Settings {
            hostname: "c.example".into(),
            login: None,
            start_tls: StartTls::IfOffered,
            is_secure: false,
            is_password_allowed: true,
            nonce: [7; scram::NONCE_OCTETS],
            is_password_allowed_secured: true,
            is_step_by_step: false,
            timeout_max: None,
        }
    }

    fn with_login() -> Settings {
        Settings {
            login: Some(Login {
                user: "alice".into(),
                password: Secret::new("wonderland"),
            }),
            ..settings()
        }
    }

    fn message(to: &[&str], text: &str) -> Option<Outgoing> {
        let address = |text| Address::parse(text).unwrap();
        Some(Outgoing {
            envelope: Envelope {
                reverse_path: ReversePath::Address(address("a@b")),
                forward_paths: to
                    .iter()
                    .map(|to| ForwardPath::Address(address(to)))
                    .collect(),
            },
            text: text.into(),
            has_utf8_header: false,
        })
    }

    /// What the client sends until it waits or closes; `true` if it closes.
    fn drain(client: &mut Submission, now: Instant) -> (Vec<u8>, bool) {
        let mut sent = Vec::new();
        loop {
            match client.step(now) {
                Step::Send(octets) => sent.extend(octets),
                Step::Wait(deadline) => {
                    assert!(deadline > now);
                    return (sent, false);
                }
                Step::Close => return (sent, true),
                Step::StartTls => {
                    sent.extend(b"(handshake)\r\n");
                    client.secured(now, "1.3");
                }
                Step::Ask(_) => panic!("a client has nothing to ask"),
            }
        }
    }

    /// Plays a dialog: `S:` lines are fed, `C:` lines must come; `S: (closes)` ends the
    /// connection. The replies are fed whole and octet by octet, and both must end alike.
    fn play(settings: &Settings, message: Option<&Outgoing>, dialog: &str) -> Outcome {
        let whole = play_in_chunks(settings, message, dialog, usize::MAX);
        let single = play_in_chunks(settings, message, dialog, 1);
        assert_eq!(whole.recipients, single.recipients, "{dialog}");
        assert_eq!(whole.result, single.result, "{dialog}");
        whole
    }

    fn play_in_chunks(
        settings: &Settings,
        message: Option<&Outgoing>,
        dialog: &str,
        size: usize,
    ) -> Outcome {
        let now = Instant::now();
        let mut client = Submission::new(settings.clone(), message.cloned());
        let lines = dialog.lines().map(str::trim_start);
        let mut lines = lines.filter(|line| !line.is_empty()).peekable();
        let mut wanted = String::new();
        let (mut sent, mut is_closed) = (Vec::new(), false);
        while lines.peek().is_some() {
            let mut fed = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with("S:")) {
                match &line[3..] {
                    "(closes)" => client.disconnected(now),
                    line => fed += &format!("{line}\r\n"),
                }
            }
            for chunk in fed.as_bytes().chunks(size.min(fed.len().max(1))) {
                client.receive(now, chunk);
                let (more, closed) = drain(&mut client, now);
                sent.extend(more);
                is_closed |= closed;
            }
            let (more, closed) = drain(&mut client, now);
            sent.extend(more);
            is_closed |= closed;
            while let Some(line) = lines.next_if(|line| line.starts_with("C:")) {
                wanted += &format!("{}\r\n", line.get(3..).unwrap_or(""));
            }
            assert_eq!(String::from_utf8_lossy(&sent), wanted, "{dialog}");
        }
        assert!(is_closed, "the client still waits after\n{dialog}");
        client.outcome()
    }

    fn failure(outcome: Outcome) -> Failure {
        outcome.result.expect_err("a failure")
    }

    const TEXT: &str = "Subject: x\n\n.\n..a\nend";

    #[test]
    fn a_message_goes_step_by_step() {
        let outcome = play(
            &settings(),
            message(&["c@d"], TEXT).as_ref(),
            "S: 220-mx.example ESMTP
             S: 220 hello
             C: EHLO c.example
             S: 250-mx.example
             S: 250 SIZE
             C: MAIL FROM:<a@b> SIZE=27
             S: 250 ok
             C: RCPT TO:<c@d>
             S: 250 ok
             C: DATA
             S: 354 go
             C: Subject: x
             C:
             C: ..
             C: ...a
             C: end
             C: .
             S: 250 2.0.0 Ok: queued as 1
             C: QUIT
             S: 221 bye",
        );
        assert_eq!(outcome.recipients[0].verdict, Verdict::Accepted);
        assert_eq!(outcome.result.unwrap().unwrap().enhanced(), Some("2.0.0"));
    }

    #[test]
    fn tls_begins_where_it_is_offered_and_all_is_forgotten() {
        let outcome = play(
            &settings(),
            message(&["c@d"], "x").as_ref(),
            "S: 220 mx.example ESMTP
             C: EHLO c.example
             S: 250-mx.example
             S: 250-PIPELINING
             S: 250 STARTTLS
             C: STARTTLS
             S: 220 go
             C: (handshake)
             C: EHLO c.example
             S: 250 mx.example
             C: MAIL FROM:<a@b>
             S: 250 ok
             C: RCPT TO:<c@d>
             S: 250 ok
             C: DATA
             S: 354 go
             C: x
             C: .
             S: 250 ok
             C: QUIT
             S: 221 bye",
        );
        assert!(outcome.result.is_ok());
    }

    #[test]
    fn tls_that_does_not_begin_ends_it() {
        let required = Settings {
            start_tls: StartTls::Required,
            ..settings()
        };
        let outcome = play(
            &required,
            message(&["c@d"], "x").as_ref(),
            "S: 220 mx.example ESMTP
             C: EHLO c.example
             S: 250 mx.example
             C: QUIT
             S: 221 bye",
        );
        assert_eq!(failure(outcome).cause, Cause::TlsNotOffered);
        let outcome = play(
            &settings(),
            message(&["c@d"], "x").as_ref(),
            "S: 220 mx.example ESMTP
             C: EHLO c.example
             S: 250-mx.example
             S: 250 STARTTLS
             C: STARTTLS
             S: 454 4.7.0 not now
             C: QUIT
             S: 221 bye",
        );
        assert_eq!(failure(outcome).stage, Stage::StartTls);
    }

    #[test]
    fn a_server_that_speaks_too_early_gets_nothing() {
        let outcome = play_in_chunks(
            &settings(),
            message(&["c@d"], "x").as_ref(),
            "S: 220 mx.example ESMTP
             C: EHLO c.example
             S: 250-mx.example
             S: 250 STARTTLS
             C: STARTTLS
             S: 220 go
             S: 250 said by somebody on the way",
            usize::MAX,
        );
        assert_eq!(failure(outcome).cause, Cause::SpokeTooEarly);
    }

    #[test]
    fn a_password_goes_under_tls_to_whom_one_knows() {
        for (is_password_allowed_secured, expected) in [(true, None), (false, Some(()))] {
            let settings = Settings {
                is_password_allowed: false,
                is_password_allowed_secured,
                is_secure: true,
                ..with_login()
            };
            let dialog = if expected.is_none() {
                "S: 220 mx
                 C: EHLO c.example
                 S: 250-mx
                 S: 250 AUTH PLAIN
                 C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=
                 S: 235 ok
                 C: QUIT
                 S: 221 bye"
            } else {
                "S: 220 mx
                 C: EHLO c.example
                 S: 250-mx
                 S: 250 AUTH PLAIN
                 C: QUIT
                 S: 221 bye"
            };
            let cause = play(&settings, None, dialog)
                .result
                .err()
                .map(|failure| failure.cause);
            assert_eq!(cause, expected.map(|()| Cause::PasswordNotAllowed));
        }
    }

    #[test]
    fn a_pipelining_server_gets_the_envelope_at_once() {
        let outcome = play(
            &settings(),
            message(&["c@d", "e@f", "g@h", "i@j"], "x\n").as_ref(),
            "S: 220 mx
             C: EHLO c.example
             S: 250-mx
             S: 250 PIPELINING
             C: MAIL FROM:<a@b>
             C: RCPT TO:<c@d>
             C: RCPT TO:<e@f>
             C: RCPT TO:<g@h>
             C: RCPT TO:<i@j>
             C: DATA
             S: 250 ok
             S: 550 5.1.1 no
             S: 250 ok
             S: 451 later
             S: 552 too many
             S: 354 go
             C: x
             C: .
             S: 250 ok
             C: QUIT
             S: (closes)",
        );
        let verdicts = outcome.recipients.iter().map(|r| match &r.verdict {
            Verdict::Accepted => 0,
            Verdict::Deferred(reply) | Verdict::Refused(reply) => reply.code(),
            Verdict::Undecided => 1,
        });
        assert_eq!(verdicts.collect::<Vec<_>>(), [550, 0, 451, 552]);
        assert!(matches!(
            outcome.recipients[3].verdict,
            Verdict::Deferred(_)
        ));
        assert!(
            outcome.result.is_ok(),
            "what follows the 250 does not matter"
        );
    }

    #[test]
    fn who_watches_sees_one_step_at_a_time() {
        let settings = Settings {
            is_step_by_step: true,
            ..settings()
        };
        let outcome = play(
            &settings,
            message(&["c@d"], "x\n").as_ref(),
            "S: 220 mx
             C: EHLO c.example
             S: 250-mx
             S: 250 PIPELINING
             C: MAIL FROM:<a@b>
             S: 250 ok
             C: RCPT TO:<c@d>
             S: 250 ok
             C: DATA
             S: 354 go
             C: x
             C: .
             S: 250 ok
             C: QUIT
             S: 221 bye",
        );
        assert!(outcome.result.is_ok());
    }

    #[test]
    fn a_long_envelope_goes_in_groups() {
        let to: Vec<String> = (0..600).map(|n| format!("user{n}@d.example")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let message = message(&to, "x\n");
        let now = Instant::now();
        let mut client = Submission::new(settings(), message);
        client.receive(now, b"220 mx\r\n");
        drain(&mut client, now);
        client.receive(now, b"250-mx\r\n250 PIPELINING\r\n");
        let (mut commands, mut groups) = (0, 0);
        loop {
            let (sent, _) = drain(&mut client, now);
            assert!(sent.len() < limits::PIPELINE_OCTETS_MAX + 300);
            let lines = sent.iter().filter(|&&octet| octet == b'\n').count();
            (commands, groups) = (commands + lines, groups + 1);
            let is_last = sent.ends_with(b"DATA\r\n");
            client.receive(
                now,
                "250 ok\r\n".repeat(lines - usize::from(is_last)).as_bytes(),
            );
            if is_last {
                break;
            }
        }
        assert_eq!((commands, groups), (602, 3));
        client.receive(now, b"354 go\r\n");
        assert_eq!(drain(&mut client, now).0, b"x\r\n.\r\n");
    }

    #[test]
    fn a_354_for_nobody_gets_a_lone_full_stop() {
        for (mail, rcpt, stage) in [
            ("250 ok", "550 5.1.1 no", "the recipient c@d"),
            ("553 no", "503 MAIL first", "the sender a@b"),
        ] {
            let dialog = format!(
                "S: 220 mx
                 C: EHLO c.example
                 S: 250-mx
                 S: 250 PIPELINING
                 C: MAIL FROM:<a@b>
                 C: RCPT TO:<c@d>
                 C: DATA
                 S: {mail}
                 S: {rcpt}
                 S: 354 go
                 C: .
                 S: 554 no valid recipients
                 C: QUIT
                 S: 221 bye"
            );
            let failure = failure(play(
                &settings(),
                message(&["c@d"], "x\n").as_ref(),
                &dialog,
            ));
            assert_eq!(failure.stage.to_string(), stage);
            assert!(matches!(failure.cause, Cause::Refused(reply) if reply.code() / 10 == 55));
        }
    }

    #[test]
    fn without_ehlo_there_is_helo() {
        let outcome = play(
            &settings(),
            message(&["c@d"], "").as_ref(),
            "S: 220 mx
             C: EHLO c.example
             S: 502 what
             C: HELO c.example
             S: 250 mx
             C: MAIL FROM:<a@b>
             S: 250 ok
             C: RCPT TO:<c@d>
             S: 251 will forward
             C: DATA
             S: 354 go
             C: .
             S: 250
             C: QUIT
             S: 221 bye",
        );
        assert!(outcome.result.is_ok());
        let failure = failure(play(
            &with_login(),
            None,
            "S: 220 mx
             C: EHLO c.example
             S: 500 what
             C: HELO c.example
             S: 250 mx
             C: QUIT
             S: 221 bye",
        ));
        assert_eq!(failure.cause, Cause::LoginNotOffered);
    }

    /// Logs in with what the server offers.
    fn log_in(offer: &str, exchange: &str) -> Result<Option<Reply>, Failure> {
        let dialog = format!(
            "S: 220 mx\nC: EHLO c.example\nS: 250-mx\nS: 250 {offer}\n{exchange}\nC: QUIT\nS: 221 bye"
        );
        play(&with_login(), None, &dialog).result
    }

    #[test]
    fn logins_that_go_well() {
        for (what, offer, exchange) in [
            (
                "the better mechanism first",
                "AUTH LOGIN PLAIN",
                "C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=
                 S: 235 2.7.0 ok",
            ),
            (
                "a server that overlooks the initial response",
                "AUTH PLAIN",
                "C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=
                 S: 334 \n\
                 C: AGFsaWNlAHdvbmRlcmxhbmQ=
                 S: 235 ok",
            ),
            (
                "LOGIN",
                "AUTH=LOGIN",
                "C: AUTH LOGIN
                 S: 334 VXNlcm5hbWU6
                 C: YWxpY2U=
                 S: 334 UGFzc3dvcmQ6
                 C: d29uZGVybGFuZA==
                 S: 235 ok",
            ),
            (
                "the next mechanism",
                "AUTH PLAIN LOGIN",
                "C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=
                 S: 504 5.5.4 not that one
                 C: AUTH LOGIN
                 S: 334 VXNlcm5hbWU6
                 C: YWxpY2U=
                 S: 334 UGFzc3dvcmQ6
                 C: d29uZGVybGFuZA==
                 S: 235 ok",
            ),
        ] {
            assert_eq!(log_in(offer, exchange), Ok(None), "{what}");
        }
    }

    #[test]
    fn logins_that_do_not() {
        for (what, offer, exchange, expected, is_transient) in [
            ("no AUTH", "SIZE", "", "the server offers no login", false),
            (
                "no mechanism of ours",
                "AUTH GSSAPI",
                "",
                "the server offers no way to log in that is known here",
                false,
            ),
            (
                "wrong password, no second try",
                "AUTH PLAIN LOGIN",
                "C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\nS: 535 5.7.8 no",
                "the server refused the login: 535 5.7.8 no",
                false,
            ),
            (
                "not now",
                "AUTH PLAIN",
                "C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\nS: 454 4.7.0 later",
                "the server refused the login for now: 454 4.7.0 later",
                true,
            ),
            (
                "a challenge that is not base64",
                "AUTH LOGIN",
                "C: AUTH LOGIN\nS: 334 Username:\nC: *\nS: 501 cancelled",
                "the server asked something senseless at login",
                false,
            ),
            (
                "a challenge too many",
                "AUTH LOGIN",
                "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\n\
                 C: d29uZGVybGFuZA==\nS: 334 \nC: *\nS: 501 cancelled",
                "the server asked something senseless at login",
                false,
            ),
        ] {
            let failure = log_in(offer, exchange).expect_err(what);
            assert_eq!(failure.stage, Stage::Login, "{what}");
            assert_eq!(failure.to_string(), expected, "{what}");
            assert_eq!(failure.is_transient(), is_transient, "{what}");
        }
    }

    #[test]
    fn a_password_stays_here_unless_it_may_go() {
        let settings = Settings {
            is_password_allowed: false,
            ..with_login()
        };
        // Nor is it proved: whoever is there could guess.
        for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
            let dialog = format!(
                "S: 220 mx
                 C: EHLO c.example
                 S: 250-mx
                 S: 250 AUTH {mechanism}
                 C: QUIT
                 S: 221 bye"
            );
            let failure = failure(play(&settings, None, &dialog));
            assert_eq!(failure.cause, Cause::PasswordNotAllowed, "{mechanism}");
        }
    }

    /// A login by SCRAM with a server that knows `known`, up to the client's proof; and the
    /// server's proof.
    fn scram(offer: &str, known: &str) -> (String, String) {
        let alice = with_login().login.unwrap();
        let (client, first) = scram::Client::start(&alice.user, &settings().nonce);
        let keys = scram::Keys::derive(&Secret::new(known), b"salt", 4096);
        let nonce = [9; scram::NONCE_OCTETS];
        let hello = scram::Hello::parse(first.expose()).unwrap();
        let (server, server_first) = hello.offer(&scram::Offer { keys, nonce });
        let (_, last) = client.prove(&alice.password, &server_first).unwrap();
        let proof = server.verify(&last).unwrap_or_else(|| b"v=AAAA".to_vec());
        let [first, server_first, last, proof] =
            [first.expose(), &server_first, last.expose(), &proof].map(sasl::encode);
        let dialog = format!(
            "S: 220 mx\nC: EHLO c.example\nS: 250-mx\nS: 250 {offer}\n\
             C: AUTH SCRAM-SHA-256 {first}\nS: 334 {server_first}\nC: {last}\n"
        );
        (dialog, proof)
    }

    #[test]
    fn scram_is_preferred_and_proves_both_sides() {
        let (dialog, proof) = scram("AUTH PLAIN LOGIN SCRAM-SHA-256", "wonderland");
        let rest = format!("S: 334 {proof}\nC:\nS: 235 ok\nC: QUIT\nS: 221 bye");
        let dialog = dialog + &rest;
        assert_eq!(play(&with_login(), None, &dialog).result, Ok(None));
    }

    #[test]
    fn a_server_that_proves_nothing_gets_nothing() {
        let not_proved = "the server did not prove that it knows the password: it may be another \
                          that passes itself off as it";
        let quit = "C: QUIT\nS: 221 bye";
        let (right, _) = scram("AUTH SCRAM-SHA-256 PLAIN", "wonderland");
        let (wrong, no_proof) = scram("AUTH SCRAM-SHA-256 PLAIN", "looking-glass");
        for (what, dialog, rest, expected) in [
            (
                "let in at once",
                &right,
                format!("S: 235 ok\n{quit}"),
                not_proved,
            ),
            (
                "a false proof",
                &wrong,
                format!("S: 334 {no_proof}\nC: *\nS: 501 cancelled\n{quit}"),
                not_proved,
            ),
            (
                "a false proof, and let in",
                &wrong,
                format!("S: 334 {no_proof}\nC: *\nS: 235 ok\n{quit}"),
                not_proved,
            ),
            (
                "wrong password, and not tried by PLAIN",
                &wrong,
                format!("S: 535 5.7.8 no\n{quit}"),
                "the server refused the login: 535 5.7.8 no",
            ),
        ] {
            let outcome = play(&with_login(), None, &format!("{dialog}{rest}"));
            assert_eq!(outcome.result.unwrap_err().to_string(), expected, "{what}");
        }
        let weak = sasl::encode(b"r=x,s=AA==,i=1");
        let begin: String = right.split_inclusive('\n').take(5).collect();
        let weak = format!("{begin}S: 334 {weak}\nC: *\nS: 501 cancelled\n{quit}");
        let failure = play(&with_login(), None, &weak).result.unwrap_err();
        assert_eq!(failure.cause, Cause::BadChallenge);
    }

    #[test]
    fn what_helps_to_guess_a_password_is_not_shown() {
        let (dialog, proof) = scram("AUTH SCRAM-SHA-256", "wonderland");
        let mut client = Submission::new(with_login(), None);
        let mut shown = String::new();
        for line in (dialog + &format!("S: 334 {proof}\nS: 235 ok")).lines() {
            if let Some(line) = line.strip_prefix("S: ") {
                client.receive(Instant::now(), format!("{line}\r\n").as_bytes());
                drain(&mut client, Instant::now());
                while let Some(event) = client.event() {
                    shown += &format!("{event:?}\n");
                }
            }
        }
        assert_eq!(shown.matches("<redacted>").count(), 3, "{shown}");
        assert!(
            !shown.contains(&proof) && shown.contains("AuthResponse"),
            "{shown}"
        );
    }

    #[test]
    fn a_long_login_waits_for_the_challenge() {
        let mut settings = with_login();
        settings.login.as_mut().unwrap().password = Secret::new("x".repeat(400));
        let login = settings.login.clone().unwrap();
        let response = sasl::encode(sasl::plain_message(&login).expose());
        let dialog = format!(
            "S: 220 mx\nC: EHLO c.example\nS: 250-mx\nS: 250 AUTH PLAIN\nC: AUTH PLAIN\n\
             S: 334 \nC: {response}\nS: 235 ok\nC: QUIT\nS: 221 bye"
        );
        assert_eq!(play(&settings, None, &dialog).result, Ok(None));
    }

    #[test]
    fn what_a_server_cannot_carry_is_not_sent() {
        for (what, offer, to, text, expected) in [
            (
                "too large",
                "SIZE 10",
                "c@d",
                "123456789\n",
                "the message has 11 octets, the server takes at most 10",
            ),
            (
                "8-bit text",
                "SIZE 0",
                "c@d",
                "ä\n",
                "the message is not ASCII and the server has no 8BITMIME to carry it",
            ),
            (
                "a non-ASCII address",
                "8BITMIME",
                "ä@d",
                "x\n",
                "an address is not ASCII and the server has no SMTPUTF8 to carry it",
            ),
        ] {
            let dialog = format!(
                "S: 220 mx\nC: EHLO c.example\nS: 250-mx\nS: 250 {offer}\nC: QUIT\nS: 221 bye"
            );
            let failure = failure(play(&settings(), message(&[to], text).as_ref(), &dialog));
            assert_eq!(failure.to_string(), expected, "{what}");
        }
        let outcome = play(
            &settings(),
            message(&["ä@d"], "ä\n").as_ref(),
            "S: 220 mx
             C: EHLO c.example
             S: 250-mx
             S: 250-8BITMIME
             S: 250 SMTPUTF8
             C: MAIL FROM:<a@b> BODY=8BITMIME SMTPUTF8
             S: 250 ok
             C: RCPT TO:<ä@d>
             S: 250 ok
             C: DATA
             S: 354 go
             C: ä
             C: .
             S: 250 ok
             C: QUIT
             S: 221 bye",
        );
        assert!(outcome.result.is_ok());
    }

    /// The dialog up to, and without, the reply of each stage.
    fn dialog_up_to(stage: usize) -> String {
        let steps = [
            "S: 220 mx\nC: EHLO c.example\n",
            "S: 250-mx\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\n",
            "S: 235 ok\nC: MAIL FROM:<a@b>\n",
            "S: 250 ok\nC: RCPT TO:<c@d>\n",
            "S: 250 ok\nC: DATA\n",
            "S: 354 go\nC: x\nC: .\n",
        ];
        steps[..stage].concat()
    }

    /// RFC 7504: 521 in the place of a greeting, 556 for a recipient.
    #[test]
    fn a_host_or_domain_that_takes_no_mail_is_no_use_trying_again() {
        for (number, reply, refused) in [
            (0, "521 5.3.2 no mail here", "the connection"),
            (4, "556 5.1.10 no mail there", "the recipient c@d"),
        ] {
            for end in ["C: QUIT\nS: 221 bye", "C: QUIT\nS: (closes)"] {
                let dialog = format!("{}S: {reply}\n{end}", dialog_up_to(number));
                let message = message(&["c@d"], "x\n");
                let failure = failure(play(&with_login(), message.as_ref(), &dialog));
                let expected = format!("the server refused {refused}: {reply}");
                assert_eq!(failure.to_string(), expected);
                assert!(!failure.is_transient());
            }
        }
    }

    #[test]
    fn each_stage_fails_in_its_own_way() {
        let stages = [
            ("the connection", "its greeting"),
            ("to talk to us", "its answer to EHLO"),
            ("the login", "its answer to AUTH"),
            ("the sender a@b", "its answer to MAIL"),
            ("the recipient c@d", "its answer to RCPT"),
            ("to take a message", "its answer to DATA"),
            ("the message", "its answer to the message"),
        ];
        let message = message(&["c@d"], "x\n");
        for (number, (refused, awaited)) in stages.into_iter().enumerate() {
            let before = dialog_up_to(number);
            let run = |end: &str| {
                let dialog = format!("{before}{end}");
                failure(play(&with_login(), message.as_ref(), &dialog))
            };
            let permanent = run("S: 554 no\nC: QUIT\nS: 221 bye");
            assert_eq!(
                permanent.to_string(),
                format!("the server refused {refused}: 554 no")
            );
            assert!(!permanent.is_transient());
            let transient = run("S: 450 no\nC: QUIT\nS: (closes)");
            assert_eq!(
                transient.to_string(),
                format!("the server refused {refused} for now: 450 no")
            );
            assert!(transient.is_transient());
            let closing = run("S: 421-4.3.2 going\nS: 421 4.3.2 down");
            assert_eq!(
                closing.to_string(),
                format!("the server refused {refused} for now: 421-4.3.2 going / 421 4.3.2 down")
            );
            let lost = run("S: (closes)");
            assert_eq!(
                lost.to_string(),
                format!("the connection was lost before {awaited} came")
            );
            let nonsense = run("S: HTTP/1.1 400 Bad Request");
            assert_eq!(
                nonsense.to_string(),
                format!(
                    "the server does not speak SMTP: got `HTTP/1.1 400 Bad Request` for {awaited}"
                )
            );
            assert!(!nonsense.is_transient());
        }
    }

    #[test]
    fn each_stage_waits_as_long_as_it_may() {
        let timeouts = [300, 300, 300, 300, 300, 120, 600];
        for (number, seconds) in timeouts.into_iter().enumerate() {
            for (timeout_max, expected) in [
                (None, Duration::from_secs(seconds)),
                (Some(Duration::from_secs(7)), Duration::from_secs(7)),
            ] {
                let settings = Settings {
                    timeout_max,
                    ..with_login()
                };
                let start = Instant::now();
                let mut client = Submission::new(settings, message(&["c@d"], "x\n"));
                for line in dialog_up_to(number).lines().filter(|l| l.starts_with("S:")) {
                    client.receive(start, format!("{}\r\n", &line[3..]).as_bytes());
                    drain(&mut client, start);
                }
                let Step::Wait(mut deadline) = client.step(start) else {
                    panic!("stage {number} does not wait")
                };
                // The owner hears of it when no greeting comes, and once.
                if number == 0 && expected > limits::SILENCE_TIME {
                    assert_eq!(deadline - start, limits::SILENCE_TIME);
                    assert_eq!(client.event(), None);
                    let Step::Wait(next) = client.step(deadline) else {
                        panic!("silence ends the wait")
                    };
                    deadline = next;
                    assert_eq!(client.event(), Some(Event::Silence));
                    assert_eq!(client.event(), None);
                }
                assert_eq!(deadline - start, expected, "stage {number}");
                // Octets that are no reply yet win no time.
                client.receive(deadline, b"25");
                assert!(matches!(client.step(deadline), Step::Close));
                let failure = failure(client.outcome());
                assert_eq!(failure.cause, Cause::TimedOut, "stage {number}");
                assert!(failure.is_transient());
            }
        }
    }

    #[test]
    fn replies_that_make_no_sense() {
        for (stage, reply) in [(0, "354 go"), (3, "354 go"), (5, "250 ok"), (6, "354 go")] {
            let dialog = format!("{}S: {reply}", dialog_up_to(stage));
            let message = message(&["c@d"], "x\n");
            let failure = failure(play(&with_login(), message.as_ref(), &dialog));
            assert!(matches!(failure.cause, Cause::Unexpected(_)), "{failure}");
        }
        let codes = "S: 220-mx\nS: 221 mx";
        let cause = failure(play(&settings(), None, codes)).cause;
        assert!(matches!(cause, Cause::Malformed(_)));
    }

    #[test]
    fn a_large_message_goes_in_pieces() {
        let text = "0123456789abcde\n".repeat(10_000);
        let now = Instant::now();
        let mut client = Submission::new(settings(), message(&["c@d"], &text));
        for reply in ["220 mx", "250 mx", "250 ok", "250 ok"] {
            client.receive(now, format!("{reply}\r\n").as_bytes());
            drain(&mut client, now);
        }
        client.receive(now, b"354 go\r\n");
        let mut sent = Vec::new();
        let mut pieces = 0;
        while let Step::Send(octets) = client.step(now) {
            assert!(octets.len() <= 2 * limits::TEXT_CHUNK_OCTETS);
            sent.extend(octets);
            pieces += 1;
        }
        assert_eq!(pieces, 3);
        assert_eq!(sent, (text.replace('\n', "\r\n") + ".\r\n").into_bytes());
    }

    #[test]
    fn a_server_that_refuses_in_mid_message_is_heard() {
        let now = Instant::now();
        let mut client = Submission::new(settings(), message(&["c@d"], &"x\n".repeat(100_000)));
        for reply in ["220 mx", "250 mx", "250 ok", "250 ok"] {
            client.receive(now, format!("{reply}\r\n").as_bytes());
            drain(&mut client, now);
        }
        client.receive(now, b"354 go\r\n");
        assert!(matches!(client.step(now), Step::Send(_)));
        client.receive(now, b"552 5.3.4 Message too big\r\n");
        assert!(matches!(client.step(now), Step::Close));
        let failure = failure(client.outcome());
        assert_eq!(failure.stage, Stage::Content);
        assert_eq!(failure.reply().unwrap().code(), 552);
    }

    #[test]
    fn the_owner_may_stop() {
        let now = Instant::now();
        let mut client = Submission::new(settings(), None);
        client.stop(now);
        assert!(matches!(client.step(now), Step::Close));
        assert_eq!(failure(client.outcome()).cause, Cause::Stopped);
    }

    #[test]
    fn events_tell_the_dialog_and_no_secret() {
        let now = Instant::now();
        let mut client = Submission::new(with_login(), message(&["c@d"], "x\n"));
        for step in dialog_up_to(6).lines().filter(|l| l.starts_with("S:")) {
            client.receive(now, format!("{}\r\n", &step[3..]).as_bytes());
            drain(&mut client, now);
        }
        let events: Vec<String> = std::iter::from_fn(|| client.event())
            .map(|event| match event {
                Event::Command(command) => command.to_string(),
                Event::Reply(reply) => reply.code().to_string(),
                Event::Text(text) => String::from_utf8(text).unwrap(),
                other => format!("{other:?}"),
            })
            .collect();
        let expected = [
            "220",
            "EHLO c.example",
            "250",
            "AUTH PLAIN <redacted>",
            "235",
            "MAIL FROM:<a@b>",
            "250",
            "RCPT TO:<c@d>",
            "250",
            "DATA",
            "354",
            "x\n",
        ];
        assert_eq!(events, expected);
    }

    /// A client and a server with memory for a store, and a wire that passes a few octets at a
    /// time.
    fn talk(settings: Settings, message: Outgoing, size: usize) -> (Outcome, Vec<Vec<u8>>) {
        use crate::smtp::server::{self, Answer, Question, Session};
        use crate::wire::Channel;

        let now = Instant::now();
        let server_settings = server::Settings {
            hostname: "mx.example".into(),
            message_octets_max: 1_000_000,
            recipients_max: 100,
            timeout: Duration::from_secs(300),
            login_required: false,
            has_tls: true,
        };
        let server_settings = std::sync::Arc::new(server_settings);
        let mut server =
            Session::new(server_settings, Channel::Private, now).offering(&Mechanism::ALL);
        let mut client = Submission::new(settings, Some(message));
        let (mut stored, mut text) = (Vec::new(), Vec::new());
        let user = || "Andrew".parse().unwrap();
        loop {
            let mut to_client = Vec::new();
            let is_over = loop {
                match server.step(now) {
                    Step::Send(octets) => to_client.extend(octets),
                    Step::Ask(question) => {
                        let answer = match question {
                            Question::Login(login)
                                if login.password == Secret::new("wonderland") =>
                            {
                                Answer::LoggedIn(user())
                            }
                            Question::Login(_) => Answer::BadCredentials,
                            Question::Keys(_) => {
                                let keys =
                                    scram::Keys::derive(&Secret::new("wonderland"), b"salt", 4096);
                                let nonce = [9; scram::NONCE_OCTETS];
                                Answer::Keys(scram::Offer { keys, nonce })
                            }
                            Question::Proof(proof) if proof.is_right => Answer::LoggedIn(user()),
                            Question::Proof(_) => Answer::BadCredentials,
                            Question::Recipient(path) if path.to_string() == "<nobody@d>" => {
                                Answer::NoSuchUser
                            }
                            Question::Recipient(_) => Answer::Recipient(user()),
                            Question::Text(piece) => {
                                text.extend(piece);
                                Answer::Accept
                            }
                            Question::Deliver(_) => {
                                stored.push(std::mem::take(&mut text));
                                Answer::Delivered("1".into())
                            }
                            Question::DeliverEach(_) => Answer::TryLater,
                            Question::Sender(..) | Question::Discard => Answer::Accept,
                        };
                        server.answer(now, answer);
                    }
                    Step::StartTls => {
                        server.secured(now, "1.3");
                        break false;
                    }
                    Step::Wait(_) => break false,
                    Step::Close => break true,
                }
            };
            let mut is_finished = false;
            let mut to_server = Vec::new();
            for chunk in to_client.chunks(size) {
                client.receive(now, chunk);
                let (octets, closed) = drain(&mut client, now);
                to_server.extend(octets);
                is_finished |= closed;
            }
            // What the client says to a handshake, the server's driver keeps to itself.
            let handshake = b"(handshake)\r\n";
            let to_server = to_server.strip_prefix(handshake).unwrap_or(&to_server);
            for chunk in to_server.chunks(size) {
                server.receive(now, chunk);
            }
            if is_over || is_finished {
                return (client.outcome(), stored);
            }
        }
    }

    #[test]
    fn client_and_server_understand_each_other() {
        for size in [1, 7, 65536] {
            let message = message(&["c@d", "nobody@d", "ä@d"], "Subject: x\n\n.\n..ä\n").unwrap();
            let text = message.text.clone();
            let (outcome, stored) = talk(with_login(), message, size);
            assert!(outcome.result.is_ok(), "{:?}", outcome.result);
            assert_eq!(outcome.recipients[0].verdict, Verdict::Accepted);
            assert!(
                matches!(&outcome.recipients[1].verdict, Verdict::Refused(r) if r.code() == 550)
            );
            assert_eq!(outcome.recipients[2].verdict, Verdict::Accepted);
            assert_eq!(stored, [text]);
        }
        let mut wrong = with_login();
        wrong.login.as_mut().unwrap().password = Secret::new("x");
        let (outcome, stored) = talk(wrong, message(&["c@d"], "x\n").unwrap(), 7);
        assert_eq!(failure(outcome).reply().unwrap().code(), 535);
        assert!(stored.is_empty());
        let nobody = message(&["nobody@d"], "x\n").unwrap();
        let (outcome, stored) = talk(settings(), nobody, 7);
        assert!(matches!(failure(outcome).stage, Stage::Recipient(_)));
        assert!(stored.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn what_goes_in_comes_out(text in "([.a-zä ]{0,6}\n){0,12}", size in 1_usize..100) {
            let message = message(&["c@d"], &text).unwrap();
            let (outcome, stored) = talk(settings(), message, size);
            proptest::prop_assert!(outcome.result.is_ok());
            proptest::prop_assert_eq!(stored, [text.into_bytes()]);
        }

        #[test]
        fn no_server_panics_us(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let now = Instant::now();
            for stage in 0..7 {
                let mut client = Submission::new(with_login(), message(&["c@d"], "x\n"));
                for step in dialog_up_to(stage).lines().filter(|l| l.starts_with("S:")) {
                    client.receive(now, format!("{}\r\n", &step[3..]).as_bytes());
                    drain(&mut client, now);
                }
                client.receive(now, &octets);
                drain(&mut client, now);
                client.disconnected(now);
                assert!(drain(&mut client, now).1);
            }
        }
    }
}
