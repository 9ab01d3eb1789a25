//! The server's side of a connection.
//!
//! The engine knows the protocol and nothing else: whether a user exists, a password is right or
//! a message is stored it asks its owner ([`Question`]), who answers in words ([`Answer`]). While
//! a question is open, commands that were sent ahead stay in the buffer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::{ForwardPath, ReversePath};
use crate::sasl::{self, Exchange, Login, Mechanism, Progress, Proof, scram};
use crate::secret::Secret;
use crate::user::UserName;
use crate::wire::dot::Decoder;
use crate::wire::line::{Line, LineBuffer, LineEnd, TLS_HANDSHAKE, printable};
use crate::wire::{Channel, Machine, Step};

use super::Event;
use super::command::{self, Command, MailParameters, RcptParameters};
use super::extension::Extensions;
use super::limits;
use super::reply::{HIDDEN, Reply, Severity};

/// What a server offers and allows; the same for all its sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name in the greeting.
    pub hostname: String,
    /// The largest message, in octets with CRLF.
    pub message_octets_max: u64,
    /// The largest number of recipients of one message.
    pub recipients_max: usize,
    /// How long to wait for a command or for more text.
    pub timeout: Duration,
    /// Whether mail is taken only from users who logged in.
    pub login_required: bool,
    /// Whether there is a certificate, so that TLS can begin.
    pub has_tls: bool,
}

impl Settings {
    fn extensions(&self, channel: Channel, mechanisms: &[Mechanism]) -> Extensions {
        let auth = if channel.may_carry_passwords() {
            mechanisms.to_vec()
        } else {
            Vec::new()
        };
        Extensions {
            pipelining: true,
            size: Some(self.message_octets_max),
            chunking: true,
            eight_bit_mime: true,
            smtp_utf8: true,
            enhanced_status_codes: true,
            start_tls: self.has_tls && channel != Channel::Secure,
            has_auth: !auth.is_empty(),
            auth,
        }
    }
}

/// What only the owner can know or do.
#[derive(Debug)]
pub enum Question {
    /// Is the password right? [`Answer::LoggedIn`], [`Answer::BadCredentials`].
    Login(Login),
    /// What does this user, if there is one, prove a password with? [`Answer::Keys`].
    Keys(String),
    /// The proof was right or wrong. [`Answer::LoggedIn`], [`Answer::BadCredentials`].
    Proof(Proof),
    /// May this sender send? [`Answer::Accept`], [`Answer::LoginFirst`], [`Answer::NotYours`].
    Sender(ReversePath, Option<UserName>),
    /// Whose mailbox is this? [`Answer::Recipient`], [`Answer::NoSuchUser`],
    /// [`Answer::NotOurs`].
    Recipient(ForwardPath),
    /// Keep this piece of the message, LF line ends. [`Answer::Accept`].
    Text(Vec<u8>),
    /// Store the message made of all pieces since the last such question, for all recipients
    /// or none. [`Answer::Delivered`].
    Deliver(Delivery),
    /// Store it for each recipient by itself, whatever becomes of the others (LMTP).
    /// [`Answer::Each`].
    DeliverEach(Delivery),
    /// Forget the pieces; the message is refused or given up. [`Answer::Accept`].
    Discard,
}

/// The owner's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Accept,
    /// The password is right for this user.
    LoggedIn(UserName),
    /// Unknown user or wrong password.
    BadCredentials,
    /// With these.
    Keys(scram::Offer),
    /// The mailbox is this user's.
    Recipient(UserName),
    /// There is no such user.
    NoSuchUser,
    /// The domain is not ours.
    NotOurs,
    /// A local user's address, used by a stranger.
    LoginFirst,
    /// Another user's address.
    NotYours,
    /// Stored, durably, under this name in the log.
    Delivered(String),
    /// What became of the message for each recipient, in their order.
    Each(Vec<Self>),
    /// The message has been here too often.
    Loop,
    /// No space.
    NoSpace,
    /// Others have to be let in or turned away first.
    TooManyLogins,
    /// Something failed that may work later; nothing is stored.
    TryLater,
    /// Something failed and nobody can say whether the message is stored. The connection
    /// closes without a reply, and the client tries again.
    Unknown,
}

/// A message with all that the session knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where failures are reported to.
    pub reverse_path: ReversePath,
    /// Each accepted RCPT with the user it belongs to. One user may be here twice.
    pub recipients: Vec<(ForwardPath, UserName)>,
    /// The name that the client gave in EHLO or HELO.
    pub client_name: Arc<str>,
    /// `ESMTP` and its kin, for the Received field (RFC 3848, RFC 6531 §4.3).
    pub protocol: &'static str,
    /// The size in octets with CRLF.
    pub octets: u64,
}

/// A session: the engine.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    /// LMTP (RFC 2033) is spoken: LHLO, and in the end a reply for each recipient.
    is_lmtp: bool,
    channel: Channel,
    /// The ways to log in that are offered.
    mechanisms: &'static [Mechanism],
    input: LineBuffer,
    output: Vec<u8>,
    /// Message text not yet handed to the owner.
    text: Vec<u8>,
    events: VecDeque<Event>,
    stage: Stage,
    hello: Option<Hello>,
    login: Option<UserName>,
    question: Option<Question>,
    pending: Option<Pending>,
    began: Instant,
    deadline: Instant,
    /// When the open question was asked: the time until its answer is not the client's.
    asked: Instant,
    /// Text that came since the deadline was moved.
    text_octets: u64,
    /// When the last octets came, if they seem to end something with a bare LF.
    ended_by_lf: Option<Instant>,
    errors: u32,
    commands: u32,
    refused_recipients: u32,
    login_failures: u32,
    /// A password may be on its way: lines that are no commands are not shown.
    login_tried: bool,
    stopping: bool,
    disconnected: bool,
    /// The client has ended the session.
    has_quit: bool,
}

#[derive(Debug)]
enum Stage {
    /// No transaction.
    Idle,
    /// Within AUTH: every line is a response.
    Login(Exchange),
    /// After MAIL.
    Mail(Transaction),
    /// After 354.
    Text(Incoming),
    /// After BDAT: so many octets are text, whatever they look like.
    Chunk(Chunk),
    /// Between two chunks of a message.
    Chunks(Incoming),
    /// A chunk was refused. Others may have been sent ahead of the reply; RSET makes an end
    /// (RFC 3030 §2).
    Failed(Failed),
    /// After 220 for STARTTLS: what comes is the handshake's, none of ours.
    Securing,
    /// The last reply is given.
    Closed,
}

#[derive(Debug)]
struct Hello {
    client_name: Arc<str>,
    is_extended: bool,
}

#[derive(Debug)]
struct Transaction {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<(ForwardPath, UserName)>,
    /// RCPT was tried, so that DATA without recipients is a failure, not a mistake.
    has_tried_recipient: bool,
    /// One was refused that may be taken later: whoever looks at the last reply only must not give up.
    has_recipient_to_come: bool,
}

#[derive(Debug)]
struct Incoming {
    transaction: Transaction,
    decoder: Decoder,
    /// Why the message will be refused once it has come to its end.
    refusal: Option<Reply>,
}

/// A chunk of BDAT that comes in.
#[derive(Debug)]
struct Chunk {
    /// Octets that are still to come.
    left: u64,
    /// It has no octets.
    is_empty: bool,
    is_last: bool,
    purpose: Purpose,
}

/// What a chunk is read for.
#[derive(Debug)]
enum Purpose {
    /// It is part of a message.
    Message(Incoming),
    /// Nothing: it goes with a message that is refused.
    Failed(Failed, Reply),
    /// Nothing: there is no transaction. It is read so that it is not taken for commands.
    Stray(Reply),
}

/// What is left of a message in chunks that was refused.
#[derive(Debug, Default)]
struct Failed {
    /// Octets announced so far.
    octets: u64,
    /// Recipients that had been accepted.
    recipients: usize,
}

impl Incoming {
    fn new(transaction: Transaction, decoder: Decoder) -> Self {
        Self {
            transaction,
            decoder,
            refusal: None,
        }
    }

    /// Takes text and says how many of the octets were used; refuses what cannot be kept.
    fn take(&mut self, octets: &[u8], octets_max: u64, text: &mut Vec<u8>) -> usize {
        let used = self.decoder.decode(octets, text);
        self.judge(octets_max, text);
        used
    }

    /// Ends text that came in chunks.
    fn finish(&mut self, octets_max: u64, text: &mut Vec<u8>) {
        self.decoder.finish(text);
        self.judge(octets_max, text);
    }

    fn judge(&mut self, octets_max: u64, text: &mut Vec<u8>) {
        if self.decoder.has_bare_line_end() {
            self.refusal.get_or_insert(Reply::BARE_LINE_END);
        }
        // Of two reasons the same one is told, however the octets came in.
        let is_bare = self.refusal == Some(Reply::BARE_LINE_END);
        if self.decoder.octets() > octets_max && (is_bare || self.refusal.is_none()) {
            self.refusal = Some(Reply::TOO_BIG);
        }
        if self.refusal.is_some() {
            text.clear();
        }
    }
}

/// What the open question was about.
#[derive(Debug)]
enum Pending {
    Deliver,
    /// The reply, and how often.
    Discard(Reply, usize),
    Keys(scram::Hello),
    Login,
    Recipient(ForwardPath),
    Sender(ReversePath, MailParameters),
    Text,
}

impl Session {
    /// Begins with the greeting.
    #[must_use]
    pub fn new(settings: Arc<Settings>, channel: Channel, now: Instant) -> Self {
        Self::begin(settings, channel, now, false)
    }

    /// Begins a session of LMTP with the greeting.
    #[must_use]
    pub fn lmtp(settings: Arc<Settings>, channel: Channel, now: Instant) -> Self {
        Self::begin(settings, channel, now, true)
    }

    fn begin(settings: Arc<Settings>, channel: Channel, now: Instant, is_lmtp: bool) -> Self {
        let mut session = Self {
            began: now,
            deadline: now + settings.timeout,
            asked: now,
            settings,
            is_lmtp,
            mechanisms: &Mechanism::WITH_PASSWORD,
            channel,
            input: LineBuffer::default(),
            output: Vec::new(),
            text: Vec::new(),
            events: VecDeque::new(),
            stage: Stage::Idle,
            hello: None,
            login: None,
            question: None,
            pending: None,
            text_octets: 0,
            ended_by_lf: None,
            errors: 0,
            commands: 0,
            refused_recipients: 0,
            login_failures: 0,
            login_tried: false,
            stopping: false,
            disconnected: false,
            has_quit: false,
        };
        let protocol = if is_lmtp { "LMTP" } else { "ESMTP" };
        session.reply(Reply::greeting(&session.settings.hostname, protocol));
        session
    }

    /// Offers these ways to log in, instead of those that any password serves for. SCRAM is taken
    /// where it is not offered too: a client may know that it has a verifier here.
    #[must_use]
    pub fn offering(mut self, mechanisms: &'static [Mechanism]) -> Self {
        self.mechanisms = mechanisms;
        self
    }

    /// Does what can be done without more input or answers; whether anything was done.
    fn advance(&mut self, now: Instant) -> bool {
        if matches!(self.stage, Stage::Securing) {
            return false;
        }
        if self.is_in_text() {
            let is_done = match self.stage {
                Stage::Text(_) => self.take_text(),
                _ => self.take_chunk(),
            };
            if !self.is_in_text() {
                self.deadline = now + self.settings.timeout;
            }
            return is_done;
        }
        if self.stopping {
            self.close(Reply::STOPPING);
            return true;
        }
        if self.commands == 0 && self.input.is_at_handshake() {
            self.events
                .push_back(Event::Malformed(TLS_HANDSHAKE.to_owned()));
            self.close(Reply::TLS_IN_CLEAR);
            return true;
        }
        let is_login = matches!(self.stage, Stage::Login(_))
            || self
                .input
                .rest()
                .get(..4)
                .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        let octets_max = if is_login {
            limits::AUTH_LINE_OCTETS_MAX
        } else {
            limits::COMMAND_LINE_OCTETS_MAX
        };
        let Some(line) = self.input.next_line(octets_max) else {
            return false;
        };
        self.deadline = now + self.settings.timeout;
        self.text_octets = 0;
        self.commands += 1;
        if self.commands > limits::COMMANDS_MAX {
            self.close(Reply::TOO_MANY_COMMANDS);
            return true;
        }
        if matches!(self.stage, Stage::Idle) && now - self.began > limits::SESSION_TIME_MAX {
            self.close(Reply::TOO_LONG_HERE);
            return true;
        }
        match (std::mem::replace(&mut self.stage, Stage::Idle), line) {
            (Stage::Login(_), Line::TooLong) => self.refuse(Reply::AUTH_LINE_TOO_LONG),
            (Stage::Login(exchange), Line::Whole(line)) => {
                self.auth_response(exchange, &Secret::new(line));
            }
            (stage, line) => {
                self.stage = stage;
                self.command_line(&line);
                if !is_login {
                    self.input.recycle(line);
                }
            }
        }
        true
    }

    fn command_line(&mut self, line: &Line) {
        if let Line::Whole(line) = line
            && starts_with_auth(line)
        {
            // Whatever comes of it, the next lines may be passwords.
            self.login_tried = true;
        }
        let parsed = match line {
            Line::TooLong => Err(Reply::LINE_TOO_LONG),
            Line::Whole(line) => Command::parse(line),
        };
        match parsed {
            Ok(command) => {
                self.events.push_back(Event::Command(command.clone()));
                self.command(command);
            }
            Err(reply) => {
                self.malformed(line);
                if self.hello.is_none() && line.is_of_another_protocol() {
                    self.close(Reply::NOT_SMTP);
                } else if is_bdat(line) {
                    // The octets behind it must not be taken for commands.
                    self.reply(reply);
                    self.close(Reply::LOST_COUNT);
                } else {
                    self.refuse_command(reply);
                }
            }
        }
    }

    /// The state machine of RFC 5321 §4.1.4.
    fn command(&mut self, command: Command) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let is_greeted = self.hello.is_some();
        match (stage, command) {
            (stage, Command::Ehlo(_) | Command::Helo(_)) if self.is_lmtp => {
                self.keep(stage, Reply::UNRECOGNISED);
            }
            (stage, Command::Lhlo(_)) if !self.is_lmtp => self.keep(stage, Reply::UNRECOGNISED),
            (stage, Command::Ehlo(name) | Command::Lhlo(name)) => self.hello(&stage, name, true),
            (stage, Command::Helo(name)) => self.hello(&stage, name, false),
            (stage, Command::Rset) => self.abandon(&stage, Reply::OK),
            (_, Command::Quit) => {
                self.close(Reply::goodbye(&self.settings.hostname));
                self.has_quit = true;
            }

            (stage, Command::Noop) => self.stay(stage, Reply::OK),
            (stage, Command::Help) => {
                self.stay(
                    stage,
                    Reply::help(if self.is_lmtp { "LHLO" } else { "EHLO" }),
                );
            }
            (stage, Command::Vrfy(_)) if self.may_send() => self.stay(stage, Reply::CANNOT_VERIFY),
            (stage, Command::Vrfy(_)) => self.keep(stage, Reply::LOGIN_REQUIRED),

            (stage, Command::Bdat(chunk)) => self.bdat(stage, chunk),

            (stage, _) if !is_greeted => self.keep(stage, self.hello_first()),

            (stage, Command::StartTls) => self.start_tls(stage),

            (stage, Command::Auth(..)) if !self.channel.may_carry_passwords() => {
                self.keep(
                    stage,
                    if self.settings.has_tls {
                        Reply::NEEDS_TLS
                    } else {
                        Reply::NO_LOGIN_WITHOUT_TLS
                    },
                );
            }
            (stage @ Stage::Mail(_), Command::Auth(..)) => {
                self.keep(stage, Reply::AUTH_IN_TRANSACTION);
            }
            (Stage::Chunks(incoming), Command::Data) => {
                // Whoever mixes the two has lost track of what is in the message.
                self.fail(incoming, Reply::BDAT_GOES_ON);
            }
            (stage @ Stage::Chunks(_), _) => self.keep(stage, Reply::BDAT_GOES_ON),
            (stage @ Stage::Failed(_), _) => self.keep(stage, Reply::RSET_FIRST),
            (_, Command::Auth(..)) if self.login.is_some() => {
                self.refuse_command(Reply::ALREADY_AUTHENTICATED);
            }
            (_, Command::Auth(mechanism, initial)) => self.auth(&mechanism, initial),

            (stage, _) if !self.may_send() => self.keep(stage, Reply::LOGIN_REQUIRED),

            (Stage::Mail(transaction), Command::Mail(..)) => {
                self.keep(Stage::Mail(transaction), Reply::NESTED_MAIL);
            }
            (_, Command::Mail(path, parameters)) => self.mail(path, parameters),

            (Stage::Mail(transaction), Command::Rcpt(path, parameters)) => {
                self.rcpt(transaction, path, &parameters);
            }
            (Stage::Mail(transaction), Command::Data) => self.data(transaction),
            (_, Command::Rcpt(..) | Command::Data) => self.refuse_command(Reply::MAIL_FIRST),
        }
    }

    /// Whether octets are text, not lines.
    fn is_in_text(&self) -> bool {
        matches!(self.stage, Stage::Text(_) | Stage::Chunk(_))
    }

    fn may_send(&self) -> bool {
        !self.settings.login_required || self.login.is_some()
    }

    fn hello(&mut self, stage: &Stage, client_name: String, is_extended: bool) {
        let hostname = &self.settings.hostname;
        let reply = if is_extended {
            Reply::ehlo(
                hostname,
                &client_name,
                &self
                    .settings
                    .extensions(self.channel, self.mechanisms)
                    .keywords(),
            )
        } else {
            Reply::helo(hostname, &client_name)
        };
        self.hello = Some(Hello {
            client_name: client_name.into(),
            is_extended,
        });
        self.abandon(stage, reply);
    }

    /// Forgets the transaction, if there is one.
    fn abandon(&mut self, stage: &Stage, reply: Reply) {
        if matches!(stage, Stage::Chunks(_)) {
            self.ask(Question::Discard, Pending::Discard(reply, 1));
        } else {
            self.reply(reply);
        }
    }

    /// RFC 3207 §4.
    fn start_tls(&mut self, stage: Stage) {
        if self.channel == Channel::Secure {
            self.keep(stage, Reply::ALREADY_SECURE);
        } else if !self.settings.has_tls {
            self.keep(stage, Reply::NO_TLS);
        } else if !matches!(stage, Stage::Idle) {
            self.keep(stage, Reply::TLS_IN_TRANSACTION);
        } else if !self.input.is_empty() {
            // Somebody on the way may have added it, to have it obeyed under the client's name
            // (CVE-2011-0411).
            self.close(Reply::PIPELINED_TLS);
        } else {
            self.reply(Reply::START_TLS);
            self.stage = Stage::Securing;
        }
    }

    fn auth(&mut self, mechanism: &str, initial: Option<Secret>) {
        let Some(mechanism) = Mechanism::parse(mechanism) else {
            return self.refuse_command(Reply::NO_SUCH_MECHANISM);
        };
        let initial = match initial {
            None => None,
            // `=` is how an empty initial response is written (RFC 4954 §4).
            Some(text) if text.expose() == b"=" => Some(Secret::new("")),
            Some(text) => match sasl::decode(text.expose()) {
                Some(decoded) => Some(decoded),
                None => return self.refuse_command(Reply::NOT_BASE64),
            },
        };
        self.progress(Exchange::start(mechanism, initial));
    }

    fn auth_response(&mut self, exchange: Exchange, line: &Secret) {
        self.events.push_back(Event::AuthResponse);
        if line.expose() == b"*" {
            return self.refuse_command(Reply::AUTH_CANCELLED);
        }
        match sasl::decode(line.expose()) {
            Some(response) => self.progress(exchange.respond(&response)),
            None => self.refuse_command(Reply::NOT_BASE64),
        }
    }

    fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Challenge(exchange, challenge) => {
                let is_private = exchange.is_private();
                self.stage = Stage::Login(exchange);
                let reply = Reply::challenge(sasl::encode(&challenge));
                reply.encode(&mut self.output);
                self.events.push_back(Event::Reply(if is_private {
                    Reply::challenge(HIDDEN.to_owned())
                } else {
                    reply
                }));
            }
            Progress::Keys(hello) => {
                self.ask(Question::Keys(hello.user.clone()), Pending::Keys(hello));
            }
            Progress::Proved(proof) => self.ask(Question::Proof(proof), Pending::Login),
            Progress::Finished(login) => self.ask(Question::Login(login), Pending::Login),
            Progress::Refused => self.login_failed(),
        }
    }

    fn login_failed(&mut self) {
        self.login_failures += 1;
        if self.login_failures >= limits::LOGIN_FAILURES_MAX {
            self.reply(Reply::BAD_CREDENTIALS);
            self.close(Reply::TOO_MANY_LOGINS);
        } else {
            self.refuse(Reply::BAD_CREDENTIALS);
        }
    }

    /// Nobody can say whether the password is right. Asking again and again is no better than a
    /// wrong command.
    fn no_login(&mut self, answer: &Answer) {
        self.refuse_command(match answer {
            Answer::TooManyLogins => Reply::LOGINS_WAIT,
            _ => Reply::LOGIN_UNAVAILABLE,
        });
    }

    fn mail(&mut self, path: ReversePath, parameters: MailParameters) {
        let is_extended = self.hello.as_ref().is_some_and(|hello| hello.is_extended);
        if !is_extended && !parameters.is_empty() {
            return self.refuse_command(Reply::UNKNOWN_PARAMETER);
        }
        if parameters
            .size
            .is_some_and(|size| size > self.settings.message_octets_max)
        {
            return self.refuse(Reply::TOO_BIG);
        }
        let question = Question::Sender(path.clone(), self.login.clone());
        self.ask(question, Pending::Sender(path, parameters));
    }

    fn rcpt(
        &mut self,
        mut transaction: Transaction,
        path: ForwardPath,
        parameters: &RcptParameters,
    ) {
        let is_extended = self.hello.as_ref().is_some_and(|hello| hello.is_extended);
        if !is_extended && !parameters.is_empty() {
            return self.keep(Stage::Mail(transaction), Reply::UNKNOWN_PARAMETER);
        }
        let is_full = transaction.recipients.len() >= self.settings.recipients_max;
        let needs_utf8 = !transaction.parameters.smtp_utf8
            && path.address().is_some_and(|address| !address.is_ascii());
        transaction.has_tried_recipient = true;
        self.stage = Stage::Mail(transaction);
        if needs_utf8 {
            self.refuse(Reply::RECIPIENT_NEEDS_UTF8);
        } else if is_full {
            self.refuse(Reply::TOO_MANY_RECIPIENTS);
        } else {
            self.ask(Question::Recipient(path.clone()), Pending::Recipient(path));
        }
    }

    fn data(&mut self, transaction: Transaction) {
        if transaction.recipients.is_empty() {
            let reply = self.no_recipients(&transaction);
            return self.keep(Stage::Mail(transaction), reply);
        }
        let decoder = Decoder::new(self.line_end());
        self.stage = Stage::Text(Incoming::new(transaction, decoder));
        self.reply(Reply::START_DATA);
    }

    fn no_recipients(&self, transaction: &Transaction) -> Reply {
        // LMTP has one answer for both (RFC 2033 §4.2).
        if !transaction.has_tried_recipient || self.is_lmtp {
            Reply::RCPT_FIRST
        } else if transaction.has_recipient_to_come {
            Reply::NO_RECIPIENTS_NOW
        } else {
            Reply::NO_VALID_RECIPIENTS
        }
    }

    /// Whether a client that mixes line ends may think that it has said something.
    fn seems_ended_by_lf(&self) -> bool {
        let rest = self.input.rest();
        self.input.line_end() == Some(LineEnd::Crlf)
            && match &self.stage {
                Stage::Chunk(_) => false,
                Stage::Text(_) => rest == b".\n" || rest.ends_with(b"\n.\n"),
                _ => rest.ends_with(b"\n") && !rest.ends_with(b"\r\n"),
            }
    }

    fn line_end(&self) -> LineEnd {
        self.input.line_end().unwrap_or(LineEnd::Crlf)
    }

    /// Begins to read a chunk, be it wanted or not: its octets follow in any case.
    fn bdat(&mut self, stage: Stage, chunk: command::Chunk) {
        let octets_max = self.settings.message_octets_max;
        let before = match &stage {
            Stage::Chunks(incoming) => incoming.decoder.octets(),
            Stage::Failed(failed) => failed.octets,
            _ => 0,
        };
        let octets = before.saturating_add(chunk.octets);
        if octets / limits::OVERSIZE_FACTOR_MAX > octets_max {
            self.reply(Reply::TOO_BIG);
            return self.close(Reply::ENDLESS);
        }
        let purpose = match stage {
            _ if self.hello.is_none() => Purpose::Stray(self.hello_first()),
            _ if !self.may_send() => Purpose::Stray(Reply::LOGIN_REQUIRED),
            Stage::Mail(transaction) if transaction.recipients.is_empty() => {
                let reply = self.no_recipients(&transaction);
                let recipients = 0;
                Purpose::Failed(Failed { octets, recipients }, reply)
            }
            Stage::Mail(transaction) => {
                let decoder = Decoder::counted(self.line_end());
                Purpose::Message(Incoming::new(transaction, decoder))
            }
            Stage::Chunks(incoming) => Purpose::Message(incoming),
            Stage::Failed(Failed { recipients, .. }) => {
                Purpose::Failed(Failed { octets, recipients }, Reply::RSET_FIRST)
            }
            _ => Purpose::Stray(Reply::MAIL_FIRST),
        };
        let mut chunk = Chunk {
            left: chunk.octets,
            is_empty: chunk.octets == 0,
            is_last: chunk.is_last,
            purpose,
        };
        if let Purpose::Message(incoming) = &mut chunk.purpose
            && octets > octets_max
        {
            incoming.refusal.get_or_insert(Reply::TOO_BIG);
        }
        self.stage = Stage::Chunk(chunk);
    }

    /// Takes octets of a chunk from the input; whether there was anything to do.
    fn take_chunk(&mut self) -> bool {
        let Stage::Chunk(chunk) = &mut self.stage else {
            return false;
        };
        if self.input.is_empty() && chunk.left > 0 {
            return false;
        }
        let left = usize::try_from(chunk.left).unwrap_or(usize::MAX);
        let octets = self.input.rest();
        let octets = &octets[..octets.len().min(left)];
        let count = octets.len();
        chunk.left -= count as u64;
        if let Purpose::Message(incoming) = &mut chunk.purpose {
            let octets_max = self.settings.message_octets_max;
            self.text.reserve(count);
            incoming.take(octets, octets_max, &mut self.text);
            if chunk.left == 0 && chunk.is_last {
                incoming.finish(octets_max, &mut self.text);
            }
        }
        self.input.consume(count);
        self.events.push_back(Event::Content(count as u64));
        self.ask_text_or_go_on();
        true
    }

    /// Gives the text to the owner, or does what is next if there is none.
    fn ask_text_or_go_on(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            return self.ask(Question::Text(text), Pending::Text);
        }
        match &self.stage {
            Stage::Text(incoming) if incoming.decoder.is_finished() => self.end_of_text(),
            Stage::Chunk(chunk) if chunk.left == 0 => self.end_of_chunk(),
            _ => {}
        }
    }

    fn end_of_chunk(&mut self) {
        let Stage::Chunk(chunk) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return;
        };
        match chunk.purpose {
            Purpose::Message(incoming) if chunk.is_last => self.deliver(incoming),
            Purpose::Message(mut incoming) => match incoming.refusal.take() {
                Some(reply) => self.fail(incoming, reply),
                None => {
                    if !chunk.is_empty {
                        self.commands = self.commands.saturating_sub(1);
                    }
                    self.stage = Stage::Chunks(incoming);
                    self.reply(Reply::CHUNK_OK);
                }
            },
            // The transaction ends here as it would have with a message (RFC 2033 §4.3).
            Purpose::Failed(failed, reply) if chunk.is_last && self.is_lmtp => {
                self.reply_to_each(&reply, failed.recipients);
            }
            Purpose::Failed(failed, reply) => {
                self.stage = Stage::Failed(failed);
                self.refuse(reply);
            }
            Purpose::Stray(reply) => self.refuse_command(reply),
        }
    }

    /// Refuses a message in the middle of its chunks.
    fn fail(&mut self, incoming: Incoming, reply: Reply) {
        self.stage = Stage::Failed(Failed {
            octets: incoming.decoder.octets(),
            recipients: incoming.transaction.recipients.len(),
        });
        self.ask(Question::Discard, Pending::Discard(reply, 1));
    }

    /// Takes message text from the input; whether there was any.
    fn take_text(&mut self) -> bool {
        let Stage::Text(incoming) = &mut self.stage else {
            return false;
        };
        if self.input.is_empty() {
            return false;
        }
        let octets_max = self.settings.message_octets_max;
        let before = incoming.decoder.octets();
        self.text.reserve(self.input.rest().len());
        let used = incoming.take(self.input.rest(), octets_max, &mut self.text);
        let octets = incoming.decoder.octets();
        self.input.consume(used);
        self.events.push_back(Event::Content(octets - before));
        if octets / limits::OVERSIZE_FACTOR_MAX > octets_max {
            self.close(Reply::ENDLESS);
        } else {
            self.ask_text_or_go_on();
        }
        true
    }

    fn end_of_text(&mut self) {
        if let Stage::Text(incoming) = std::mem::replace(&mut self.stage, Stage::Idle) {
            self.deliver(incoming);
        }
    }

    /// Has a message stored that has come to its end.
    fn deliver(&mut self, incoming: Incoming) {
        if let Some(reply) = incoming.refusal {
            let replies = if self.is_lmtp {
                incoming.transaction.recipients.len()
            } else {
                1
            };
            return self.ask(Question::Discard, Pending::Discard(reply, replies));
        }
        let Some(hello) = &self.hello else { return };
        let delivery = Delivery {
            protocol: protocol(
                self.is_lmtp,
                hello.is_extended,
                self.channel,
                self.login.is_some(),
                incoming.transaction.parameters.smtp_utf8,
            ),
            client_name: Arc::clone(&hello.client_name),
            reverse_path: incoming.transaction.reverse_path,
            recipients: incoming.transaction.recipients,
            octets: incoming.decoder.octets(),
        };
        let question = if self.is_lmtp {
            Question::DeliverEach(delivery)
        } else {
            Question::Deliver(delivery)
        };
        self.ask(question, Pending::Deliver);
    }

    fn ask(&mut self, question: Question, pending: Pending) {
        self.question = Some(question);
        self.pending = Some(pending);
    }

    fn hello_first(&self) -> Reply {
        if self.is_lmtp {
            Reply::LHLO_FIRST
        } else {
            Reply::HELLO_FIRST
        }
    }

    fn reply(&mut self, reply: Reply) {
        if self.output.is_empty() {
            // Those to commands that were sent ahead go out together.
            self.output.reserve(limits::REPLIES_ROOM);
        }
        reply.encode(&mut self.output);
        self.events.push_back(Event::Reply(reply));
    }

    fn reply_to_each(&mut self, reply: &Reply, recipients: usize) {
        for _ in 0..recipients {
            self.reply(reply.clone());
        }
    }

    /// Gives a reply that says no, to a command that was fine.
    fn refuse(&mut self, reply: Reply) {
        debug_assert!(matches!(
            reply.severity(),
            Severity::Transient | Severity::Permanent
        ));
        self.reply(reply);
    }

    /// Gives a reply that says the command was wrong; too many of these end the session.
    fn refuse_command(&mut self, reply: Reply) {
        self.errors += 1;
        if self.errors > limits::ERRORS_MAX {
            self.close(Reply::TOO_MANY_ERRORS);
        } else {
            self.refuse(reply);
        }
    }

    /// Refuses a command that does not belong here, and goes on as before.
    fn keep(&mut self, stage: Stage, reply: Reply) {
        self.stage = stage;
        self.refuse_command(reply);
    }

    /// Answers a command that changes nothing.
    fn stay(&mut self, stage: Stage, reply: Reply) {
        self.stage = stage;
        self.reply(reply);
    }

    fn close(&mut self, reply: Reply) {
        self.reply(reply);
        self.stage = Stage::Closed;
    }

    fn malformed(&mut self, line: &Line) {
        let shown = match line {
            Line::Whole(line) if !self.login_tried && !starts_with_auth(line) => {
                printable(&line[..line.len().min(80)])
            }
            _ => String::new(),
        };
        self.events.push_back(Event::Malformed(shown));
    }

    fn sender(&mut self, reverse_path: ReversePath, parameters: MailParameters, answer: &Answer) {
        match answer {
            Answer::Accept => {
                self.stage = Stage::Mail(Transaction {
                    reverse_path,
                    parameters,
                    recipients: Vec::new(),
                    has_tried_recipient: false,
                    has_recipient_to_come: false,
                });
                self.reply(Reply::SENDER_OK);
            }
            Answer::LoginFirst => self.refuse(Reply::SENDER_NEEDS_LOGIN),
            Answer::NotYours => self.refuse(Reply::NOT_YOUR_ADDRESS),
            _ => self.refuse(Reply::TRY_LATER),
        }
    }

    fn recipient(&mut self, path: ForwardPath, answer: Answer) {
        match (&mut self.stage, answer) {
            (Stage::Mail(transaction), Answer::Recipient(user)) => {
                transaction.recipients.push((path, user));
                self.commands = self.commands.saturating_sub(1);
                self.reply(Reply::RECIPIENT_OK);
            }
            (_, Answer::NoSuchUser) => self.refuse_recipient(Reply::NO_SUCH_USER),
            (_, Answer::NotOurs) => self.refuse_recipient(Reply::RELAYING_DENIED),
            (stage, _) => {
                if let Stage::Mail(transaction) = stage {
                    transaction.has_recipient_to_come = true;
                }
                self.refuse(Reply::TRY_LATER);
            }
        }
    }

    fn refuse_recipient(&mut self, reply: Reply) {
        self.refused_recipients += 1;
        if self.refused_recipients > limits::REFUSED_RECIPIENTS_MAX {
            self.close(Reply::TOO_MANY_REFUSED);
        } else {
            self.refuse(reply);
        }
    }

    fn text_taken(&mut self, answer: &Answer) {
        let (Stage::Text(incoming)
        | Stage::Chunk(Chunk {
            purpose: Purpose::Message(incoming),
            ..
        })) = &mut self.stage
        else {
            return;
        };
        match answer {
            Answer::Accept => {}
            Answer::NoSpace => incoming.refusal = Some(Reply::NO_SPACE),
            _ => incoming.refusal = Some(Reply::TRY_LATER),
        }
        self.ask_text_or_go_on();
    }

    fn delivered(&mut self, answer: &Answer) {
        match answer {
            Answer::Delivered(id) => {
                self.errors = 0;
                self.commands = 0;
                self.refused_recipients = 0;
                self.reply(Reply::queued(id));
            }
            // Whoever hands mail over tries again; there is no reply left out in LMTP, because
            // the next one would be taken for it.
            Answer::Unknown if self.is_lmtp => self.refuse(Reply::TRY_LATER),
            Answer::Each(answers) => answers.iter().for_each(|answer| self.delivered(answer)),
            Answer::Loop => self.refuse(Reply::LOOP),
            Answer::NoSpace => self.refuse(Reply::NO_SPACE),
            Answer::Unknown => self.stage = Stage::Closed,
            _ => self.refuse(Reply::TRY_LATER),
        }
    }
}

impl Machine for Session {
    type Question = Question;
    type Answer = Answer;
    type Event = Event;

    fn receive(&mut self, now: Instant, octets: &[u8]) {
        if octets.is_empty() || matches!(self.stage, Stage::Securing) {
            return;
        }
        self.input.push(octets);
        self.ended_by_lf = self.seems_ended_by_lf().then_some(now);
        // Text may take as long as it keeps coming; a command has to arrive whole in time.
        if self.is_in_text() {
            self.text_octets += octets.len() as u64;
            let seconds = self.settings.timeout.as_secs().max(1);
            if self.text_octets >= limits::TEXT_OCTETS_PER_SECOND_MIN * seconds {
                self.text_octets = 0;
                self.deadline = now + self.settings.timeout;
            }
        }
    }

    fn disconnected(&mut self, _now: Instant) {
        self.disconnected = true;
    }

    fn answer(&mut self, now: Instant, answer: Answer) {
        if self.is_in_text() {
            self.deadline += now - self.asked;
        } else {
            self.deadline = now + self.settings.timeout;
        }
        match self.pending.take() {
            None => {}
            Some(Pending::Keys(hello)) => match answer {
                Answer::Keys(offer) => self.progress(Exchange::offer(hello, &offer)),
                answer => self.no_login(&answer),
            },
            Some(Pending::Login) => match answer {
                Answer::LoggedIn(user) => {
                    self.login = Some(user);
                    self.reply(Reply::AUTHENTICATED);
                }
                Answer::BadCredentials => self.login_failed(),
                answer => self.no_login(&answer),
            },
            Some(Pending::Sender(path, parameters)) => self.sender(path, parameters, &answer),
            Some(Pending::Recipient(path)) => self.recipient(path, answer),
            Some(Pending::Text) => self.text_taken(&answer),
            Some(Pending::Deliver) => self.delivered(&answer),
            Some(Pending::Discard(reply, replies)) => self.reply_to_each(&reply, replies),
        }
    }

    fn secured(&mut self, now: Instant, version: &'static str) {
        self.channel = Channel::Secure;
        self.events.push_back(Event::Secured(version));
        self.input = LineBuffer::default();
        self.stage = Stage::Idle;
        self.hello = None;
        self.login = None;
        self.deadline = now + self.settings.timeout;
    }

    fn stop(&mut self, _now: Instant) {
        self.stopping = true;
    }

    fn step(&mut self, now: Instant) -> Step<Question> {
        loop {
            if let Some(question) = self.question.take() {
                self.asked = now;
                return Step::Ask(question);
            }
            if self.pending.is_some() {
                return Step::Wait(self.deadline);
            }
            let is_closed = matches!(self.stage, Stage::Closed);
            // Replies to commands sent ahead go out together (RFC 2920 §3.2), but not without
            // bound.
            if !is_closed && self.output.len() < limits::REPLIES_OCTETS && self.advance(now) {
                continue;
            }
            if !self.output.is_empty() {
                return Step::Send(std::mem::take(&mut self.output));
            }
            if is_closed || self.disconnected {
                return Step::Close;
            }
            if matches!(self.stage, Stage::Securing) {
                return Step::StartTls;
            }
            let given_up = self.ended_by_lf.map(|at| at + limits::BARE_LF_TIMEOUT);
            let deadline = given_up.map_or(self.deadline, |at| at.min(self.deadline));
            if now < deadline {
                return Step::Wait(deadline);
            }
            self.close(if deadline < self.deadline {
                Reply::LINE_NOT_ENDED
            } else if self.text_octets > 0 {
                Reply::TOO_SLOW
            } else {
                Reply::TIMED_OUT
            });
        }
    }

    fn has_peer_left(&self) -> bool {
        self.has_quit && self.input.is_empty()
    }

    fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// What a trace field calls it (RFC 3848, RFC 6531 §4.3). HELO has one name for all.
fn protocol(
    is_lmtp: bool,
    is_extended: bool,
    channel: Channel,
    is_logged_in: bool,
    is_utf8: bool,
) -> &'static str {
    let is_secure = channel == Channel::Secure;
    match (is_lmtp, is_utf8, is_secure, is_logged_in) {
        (false, false, ..) if !is_extended => "SMTP",
        (false, false, false, false) => "ESMTP",
        (false, false, false, true) => "ESMTPA",
        (false, false, true, false) => "ESMTPS",
        (false, false, true, true) => "ESMTPSA",
        (false, true, false, false) => "UTF8SMTP",
        (false, true, false, true) => "UTF8SMTPA",
        (false, true, true, false) => "UTF8SMTPS",
        (false, true, true, true) => "UTF8SMTPSA",
        (true, false, false, false) => "LMTP",
        (true, false, false, true) => "LMTPA",
        (true, false, true, false) => "LMTPS",
        (true, false, true, true) => "LMTPSA",
        (true, true, false, false) => "UTF8LMTP",
        (true, true, false, true) => "UTF8LMTPA",
        (true, true, true, false) => "UTF8LMTPS",
        (true, true, true, true) => "UTF8LMTPSA",
    }
}

fn starts_with_auth(line: &[u8]) -> bool {
    starts_with(line, b"AUTH")
}

fn is_bdat(line: &Line) -> bool {
    matches!(line, Line::Whole(line) if starts_with(line, b"BDAT"))
}

fn starts_with(line: &[u8], verb: &[u8; 4]) -> bool {
    line.trim_ascii_start()
        .get(..4)
        .is_some_and(|word| word.eq_ignore_ascii_case(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(300);

    /// A session with an owner who knows Andrew, and a clock that the test moves.
    struct Play {
        session: Session,
        now: Instant,
        /// How long the owner takes to keep text.
        disk: Duration,
    }

    impl Play {
        fn new() -> Self {
            Self::over(Channel::Private)
        }

        fn over(channel: Channel) -> Self {
            let settings = Settings {
                hostname: "mx.example".to_owned(),
                message_octets_max: 1_000_000,
                recipients_max: 100,
                timeout: TIMEOUT,
                login_required: false,
                has_tls: true,
            };
            let now = Instant::now();
            let session = Session::new(Arc::new(settings), channel, now);
            let mut play = Self {
                session,
                now,
                disk: Duration::ZERO,
            };
            assert!(play.say("EHLO client.example\r\n").starts_with("220 "));
            play
        }

        /// Hands octets over; gives what is said to that, and `(closes)` at the end.
        fn say(&mut self, octets: &str) -> String {
            self.session.receive(self.now, octets.as_bytes());
            let mut said = String::new();
            loop {
                match self.session.step(self.now) {
                    Step::Send(octets) => said += std::str::from_utf8(&octets).unwrap(),
                    Step::Ask(question) => {
                        let answer = match question {
                            Question::Recipient(path) if path.to_string() == "<andrew@b>" => {
                                Answer::Recipient("Andrew".parse().unwrap())
                            }
                            Question::Recipient(_) => Answer::NoSuchUser,
                            Question::Text(_) => {
                                self.now += self.disk;
                                Answer::Accept
                            }
                            Question::Deliver(_) => Answer::Delivered("1".to_owned()),
                            _ => Answer::Accept,
                        };
                        self.session.answer(self.now, answer);
                    }
                    Step::StartTls => return said + "(handshake)",
                    Step::Wait(_) => return said,
                    Step::Close => return said + "(closes)",
                }
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        fn begin(&mut self, verb: &str) {
            let said = self.say("MAIL FROM:<a@b>\r\nRCPT TO:<andrew@b>\r\n");
            assert!(said.ends_with("250 2.1.5 Ok\r\n"), "{said}");
            self.say(&format!("{verb}\r\n"));
        }
    }

    #[test]
    fn passwords_are_for_tls_only() {
        let mut play = Play::over(Channel::Open);
        let settings = Settings {
            has_tls: false,
            ..(*play.session.settings).clone()
        };
        let with_tls = std::mem::replace(&mut play.session.settings, settings.into());
        // Nobody is sent to what there is not.
        assert_eq!(
            play.say("AUTH PLAIN\r\nSTARTTLS\r\n"),
            "538 5.7.11 Logins from other machines need TLS, and there is none here\r\n\
             502 5.5.1 TLS is not available\r\n"
        );
        play.session.settings = with_tls;
        let said = play.say("EHLO client.example\r\n");
        assert!(
            said.contains("STARTTLS") && !said.contains("AUTH"),
            "{said}"
        );
        let refused = "538 5.7.11 Encryption required to log in, STARTTLS first\r\n";
        for line in ["AUTH PLAIN", "AUTH PLAIN AGEAYg==", "AUTH SCRAM-SHA-256"] {
            assert_eq!(play.say(&format!("{line}\r\n")), refused, "{line}");
        }
        assert_eq!(
            play.say("STARTTLS now\r\n"),
            "501 5.5.4 Syntax: no argument allowed\r\n"
        );
        assert_eq!(
            play.say("STARTTLS\r\n"),
            "220 2.0.0 Ready to start TLS\r\n(handshake)"
        );
        // What comes in clear now is the handshake's, whoever sent it.
        play.session.receive(play.now, b"EHLO attacker.example\r\n");
        play.session.secured(play.now, "1.3");
        assert_eq!(play.say(""), "", "there is no second greeting");
        let said = play.say("MAIL FROM:<a@b>\r\n");
        assert!(said.starts_with("503 5.5.1"), "EHLO is forgotten: {said}");
        let said = play.say("EHLO client.example\r\n");
        assert!(
            !said.contains("STARTTLS") && said.contains("AUTH PLAIN LOGIN"),
            "{said}"
        );
        assert_eq!(
            play.say("STARTTLS\r\n"),
            "503 5.5.1 TLS is active already\r\n"
        );
        assert!(play.say("AUTH PLAIN\r\n").starts_with("334"));
    }

    #[test]
    fn what_stands_behind_starttls_ends_the_session() {
        for more in ["NOOP\r\n", "\n", "N", "\x16\x03\x01"] {
            let mut play = Play::over(Channel::Open);
            assert_eq!(
                play.say(&format!("STARTTLS\r\n{more}")),
                "503 5.5.1 Nothing may follow STARTTLS before its reply, closing\r\n(closes)",
                "{more:?}"
            );
        }
    }

    #[test]
    fn tls_does_not_begin_within_a_transaction() {
        for lines in [
            "MAIL FROM:<a@b>\r\n",
            "MAIL FROM:<a@b>\r\nRCPT TO:<andrew@b>\r\nBDAT 1\r\nx",
            "MAIL FROM:<a@b>\r\nBDAT 1\r\nx",
        ] {
            let mut play = Play::new();
            play.say(lines);
            let said = play.say("STARTTLS\r\n");
            let expected = "503 5.5.1 STARTTLS is not allowed within a mail transaction\r\n";
            assert_eq!(said, expected, "{lines:?}");
            play.say("RSET\r\n");
            assert!(
                play.say("STARTTLS\r\n").ends_with("(handshake)"),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn replies_to_a_flood_come_in_pieces() {
        let mut play = Play::new();
        let flood = "NOOP\r\n".repeat(1000);
        play.session.receive(play.now, flood.as_bytes());
        let mut pieces = 0;
        while let Step::Send(octets) = play.session.step(play.now) {
            assert!(
                octets.len() < 2 * limits::REPLIES_OCTETS,
                "{}",
                octets.len()
            );
            pieces += 1;
        }
        assert!(pieces >= 5, "{pieces}");
    }

    #[test]
    fn text_has_to_come_at_a_rate() {
        for verb in ["DATA", "BDAT 1000000 LAST"] {
            let mut play = Play::new();
            play.begin(verb);
            let mut seconds = 0;
            let said = loop {
                play.pass(Duration::from_secs(1));
                seconds += 1;
                let said = play.say(&"x".repeat(500));
                if !said.is_empty() {
                    break said;
                }
            };
            let expected = "421 4.4.2 Message comes too slowly, closing\r\n(closes)";
            assert_eq!((said.as_str(), seconds), (expected, TIMEOUT.as_secs()));

            let mut play = Play::new();
            play.begin(verb);
            for second in 0..1500 {
                play.pass(Duration::from_secs(1));
                assert_eq!(play.say(&"x".repeat(600)), "", "{verb}, second {second}");
            }
            play.pass(TIMEOUT);
            assert!(play.say("").starts_with("421 4.4.2 "), "{verb}");
        }
    }

    /// As students' programs do whose first line has CRLF by luck.
    #[test]
    fn who_ends_a_line_with_a_bare_lf_is_told_of_it() {
        let told = "421 4.5.2 Lines end with CRLF here, as the first one did, closing\r\n(closes)";
        let almost = limits::BARE_LF_TIMEOUT - Duration::from_secs(1);
        for (what, heard) in [
            ("a command", &["NOOP\r\n", "MAIL FROM:<a@b>\n"][..]),
            ("the end of a text", &["DATA\r\n", "x\r\n", ".\n"]),
            ("a text", &["DATA\r\n", "x\n.\n"]),
        ] {
            let mut play = Play::new();
            play.begin("NOOP");
            for said in heard {
                play.say(said);
            }
            play.pass(almost);
            assert_eq!(play.say(""), "", "{what}");
            play.pass(Duration::from_secs(1));
            assert_eq!(play.say(""), told, "{what}");
        }
        for (what, heard) in [
            ("the rest of an end", &["NOOP\r", "\n"][..]),
            ("more of a line", &["NOOP\n", " x\r\n"]),
            ("a chunk", &["BDAT 5\r\n", "\n.\n"]),
            ("a line of text", &["DATA\r\n", "x\n"]),
        ] {
            let mut play = Play::new();
            play.begin("NOOP");
            for said in heard {
                play.say(said);
            }
            play.pass(2 * almost);
            assert_eq!(play.say(""), "", "{what}");
        }
    }

    #[test]
    fn of_two_reasons_the_same_is_told_however_the_text_is_cut() {
        let text = format!("a\nb{}\r\n.\r\n", "x".repeat(1_000_000));
        for cut in [0, 2, 3, 999_999] {
            let mut play = Play::new();
            play.begin("DATA");
            let (head, tail) = text.split_at(cut);
            let said = play.say(head) + &play.say(tail);
            assert_eq!(said, "552 5.3.4 Message too big\r\n", "cut at {cut}");
        }
    }

    #[test]
    fn text_that_does_not_come_is_not_waited_for() {
        let mut play = Play::new();
        play.begin("DATA");
        play.pass(TIMEOUT - Duration::from_secs(1));
        assert_eq!(play.say(""), "");
        play.pass(Duration::from_secs(1));
        assert!(play.say("").starts_with("421 4.4.2 Idle for too long"));
    }

    #[test]
    fn a_slow_disk_is_not_the_clients_fault() {
        let mut play = Play::new();
        play.disk = 2 * TIMEOUT;
        play.begin("DATA");
        for _ in 0..5 {
            assert_eq!(play.say("text\r\n"), "");
        }
        assert!(play.say(".\r\n").starts_with("250 2.0.0 Ok: queued"));
        play.pass(TIMEOUT - Duration::from_secs(1));
        assert!(play.say("NOOP\r\n").starts_with("250 "));
    }

    #[test]
    fn commands_come_to_an_end_unless_there_is_mail() {
        let mut play = Play::new();
        let many = "NOOP\r\n".repeat(limits::COMMANDS_MAX as usize - 10);
        play.say(&many);
        play.begin("DATA");
        assert!(play.say(".\r\n").starts_with("250 "));
        let said = play.say(&many);
        assert!(said.ends_with("250 2.0.0 Ok\r\n"));
        let said = play.say(&"NOOP\r\n".repeat(11));
        assert!(said.ends_with("421 4.7.0 Too many commands and no message, closing\r\n(closes)"));
        assert_eq!(said.lines().count(), 12);
    }

    #[test]
    fn logins_that_nobody_can_judge_come_to_an_end() {
        let mut play = Play::new();
        let said = play.say(&"AUTH PLAIN AGEAYg==\r\n".repeat(30));
        assert_eq!(said.lines().count(), limits::ERRORS_MAX as usize + 2);
        assert!(said.starts_with("454 4.7.0 Temporary authentication failure"));
        assert!(said.ends_with("421 4.7.0 Too many errors, closing\r\n(closes)"));
    }

    #[test]
    fn accepted_recipients_and_chunks_are_no_idle_commands() {
        let mut play = Play::new();
        play.begin("BDAT 1");
        assert!(play.say("x").starts_with("250 "));
        for _ in 0..2 * limits::COMMANDS_MAX {
            assert!(play.say("BDAT 1\r\nx").starts_with("250 "));
        }
        let said = play.say(&"BDAT 0\r\n".repeat(limits::COMMANDS_MAX as usize));
        assert!(said.ends_with("(closes)"));
    }

    #[test]
    fn who_tries_names_is_sent_away() {
        let mut play = Play::new();
        play.say("MAIL FROM:<a@b>\r\n");
        for _ in 0..limits::REFUSED_RECIPIENTS_MAX {
            assert!(play.say("RCPT TO:<x@b>\r\n").starts_with("550 5.1.1"));
        }
        let said = play.say("RCPT TO:<x@b>\r\n");
        assert_eq!(
            said,
            "421 4.7.0 Too many refused recipients, closing\r\n(closes)"
        );
    }

    #[test]
    fn a_session_ends_between_two_messages() {
        let mut play = Play::new();
        let step = TIMEOUT - Duration::from_secs(1);
        let steps = limits::SESSION_TIME_MAX.as_secs() / step.as_secs();
        for _ in 0..steps {
            play.pass(step);
            assert!(play.say("NOOP\r\n").starts_with("250 "));
        }
        play.begin("DATA");
        play.pass(step);
        assert!(play.say(".\r\n").starts_with("250 "));
        let said = play.say("NOOP\r\n");
        assert_eq!(
            said,
            "421 4.4.2 Session lasts too long, closing\r\n(closes)"
        );
    }

    proptest::proptest! {
        /// However the octets are cut, the same is said.
        #[test]
        fn chunks_and_commands_are_told_apart_in_any_pieces(
            parts in proptest::collection::vec((0_usize..30, proptest::bool::ANY), 1..8),
            size in 1_usize..50,
        ) {
            let mut wire = String::from("MAIL FROM:<a@b>\r\nRCPT TO:<andrew@b>\r\n");
            for (octets, is_last) in parts {
                let last = if is_last { " LAST" } else { "" };
                let text = "QUIT\r\n.\r\n\n".repeat(3);
                wire += &format!("BDAT {octets}{last}\r\n{}", &text[..octets]);
            }
            wire += "NOOP\r\n";
            let whole = Play::new().say(&wire);
            let mut play = Play::new();
            let octets = wire.as_bytes().chunks(size);
            let said: String = octets.map(|o| play.say(std::str::from_utf8(o).unwrap())).collect();
            proptest::prop_assert_eq!(&whole, &said);
            proptest::prop_assert!(whole.ends_with("250 2.0.0 Ok\r\n"), "{}", whole);
        }
    }
}
