//! The server's side of a connection.
//!
//! The engine knows the protocol and nothing else: whether a user exists, a password is right or
//! a message is stored it asks its owner ([`Question`]), who answers in words ([`Answer`]). While
//! a question is open, commands that were sent ahead stay in the buffer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::address::{ForwardPath, ReversePath};
use crate::sasl::{self, Exchange, Login, Mechanism, Progress};
use crate::secret::Secret;
use crate::user::UserName;
use crate::wire::dot::Decoder;
use crate::wire::line::{Line, LineBuffer, LineEnd, printable};
use crate::wire::{Machine, Step};

use super::Event;
use super::command::{Command, MailParameters};
use super::extension::Extensions;
use super::limits;
use super::reply::{Reply, Severity};

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
}

impl Settings {
    fn extensions(&self) -> Extensions {
        Extensions {
            pipelining: true,
            size: Some(self.message_octets_max),
            eight_bit_mime: true,
            smtp_utf8: true,
            enhanced_status_codes: true,
            auth: Mechanism::ALL.to_vec(),
            has_auth: true,
        }
    }
}

/// What only the owner can know or do.
#[derive(Debug)]
pub enum Question {
    /// Is the password right? [`Answer::LoggedIn`], [`Answer::BadCredentials`].
    Login(Login),
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
    /// Forget the pieces; the message is refused. [`Answer::Accept`].
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
    /// The message has been here too often.
    Loop,
    /// No space.
    NoSpace,
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
    pub client_name: String,
    /// `ESMTP` and its kin, for the Received field (RFC 3848, RFC 6531 §4.3).
    pub protocol: &'static str,
    /// The size in octets with CRLF.
    pub octets: u64,
}

/// A session: the engine.
#[derive(Debug)]
pub struct Session {
    settings: std::sync::Arc<Settings>,
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
    deadline: Instant,
    /// Text that came since the deadline was moved.
    text_octets: usize,
    errors: u32,
    login_failures: u32,
    /// A password may be on its way: lines that are no commands are not shown.
    login_tried: bool,
    stopping: bool,
    disconnected: bool,
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
    /// The last reply is given.
    Closed,
}

#[derive(Debug)]
struct Hello {
    client_name: String,
    is_extended: bool,
}

#[derive(Debug)]
struct Transaction {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<(ForwardPath, UserName)>,
    /// RCPT was tried, so that DATA without recipients is a failure, not a mistake.
    has_tried_recipient: bool,
}

#[derive(Debug)]
struct Incoming {
    transaction: Transaction,
    decoder: Decoder,
    /// Why the message will be refused once it has come to its end.
    refusal: Option<Reply>,
}

/// What the open question was about.
#[derive(Debug)]
enum Pending {
    Deliver,
    Discard(Reply),
    Login,
    Recipient(ForwardPath),
    Sender(ReversePath, MailParameters),
    Text,
}

impl Session {
    /// Begins with the greeting.
    #[must_use]
    pub fn new(settings: std::sync::Arc<Settings>, now: Instant) -> Self {
        let mut session = Self {
            deadline: now + settings.timeout,
            settings,
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
            errors: 0,
            login_failures: 0,
            login_tried: false,
            stopping: false,
            disconnected: false,
        };
        session.reply(Reply::greeting(&session.settings.hostname));
        session
    }

    /// Does what can be done without more input or answers; whether anything was done.
    fn advance(&mut self, now: Instant) -> bool {
        if let Stage::Text(_) = self.stage {
            return self.take_text();
        }
        if self.stopping {
            self.close(Reply::STOPPING);
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
        match (std::mem::replace(&mut self.stage, Stage::Idle), line) {
            (Stage::Login(_), Line::TooLong) => self.refuse(Reply::AUTH_LINE_TOO_LONG),
            (Stage::Login(exchange), Line::Whole(line)) => {
                self.auth_response(exchange, &Secret::new(line));
            }
            (stage, line) => {
                self.stage = stage;
                self.command_line(&line);
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
            (_, Command::Ehlo(name)) => self.hello(name, true),
            (_, Command::Helo(name)) => self.hello(name, false),
            (_, Command::Rset) => self.reply(Reply::OK),
            (_, Command::Quit) => self.close(Reply::goodbye(&self.settings.hostname)),

            (stage, Command::Noop) => self.stay(stage, Reply::OK),
            (stage, Command::Help) => self.stay(stage, Reply::help()),
            (stage, Command::Vrfy(_)) if self.may_send() => self.stay(stage, Reply::CANNOT_VERIFY),
            (stage, Command::Vrfy(_)) => self.keep(stage, Reply::LOGIN_REQUIRED),

            (stage, _) if !is_greeted => self.keep(stage, Reply::HELLO_FIRST),

            (stage @ Stage::Mail(_), Command::Auth(..)) => {
                self.keep(stage, Reply::AUTH_IN_TRANSACTION);
            }
            (_, Command::Auth(..)) if self.login.is_some() => {
                self.refuse_command(Reply::ALREADY_AUTHENTICATED);
            }
            (_, Command::Auth(mechanism, initial)) => self.auth(&mechanism, initial),

            (stage, _) if !self.may_send() => self.keep(stage, Reply::LOGIN_REQUIRED),

            (Stage::Mail(transaction), Command::Mail(..)) => {
                self.keep(Stage::Mail(transaction), Reply::NESTED_MAIL);
            }
            (_, Command::Mail(path, parameters)) => self.mail(path, parameters),

            (Stage::Mail(transaction), Command::Rcpt(path)) => self.rcpt(transaction, path),
            (Stage::Mail(transaction), Command::Data) => self.data(transaction),
            (_, Command::Rcpt(_) | Command::Data) => self.refuse_command(Reply::MAIL_FIRST),
        }
    }

    fn may_send(&self) -> bool {
        !self.settings.login_required || self.login.is_some()
    }

    fn hello(&mut self, client_name: String, is_extended: bool) {
        let hostname = &self.settings.hostname;
        let reply = if is_extended {
            Reply::ehlo(
                hostname,
                &client_name,
                &self.settings.extensions().keywords(),
            )
        } else {
            Reply::helo(hostname, &client_name)
        };
        self.hello = Some(Hello {
            client_name,
            is_extended,
        });
        self.reply(reply);
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
                self.stage = Stage::Login(exchange);
                self.reply(Reply::challenge(sasl::encode(challenge)));
            }
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

    fn rcpt(&mut self, mut transaction: Transaction, path: ForwardPath) {
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
            let reply = if transaction.has_tried_recipient {
                Reply::NO_VALID_RECIPIENTS
            } else {
                Reply::RCPT_FIRST
            };
            return self.keep(Stage::Mail(transaction), reply);
        }
        let line_end = self.input.line_end().unwrap_or(LineEnd::Crlf);
        let decoder = Decoder::new(line_end);
        self.stage = Stage::Text(Incoming {
            transaction,
            decoder,
            refusal: None,
        });
        self.reply(Reply::START_DATA);
    }

    /// Takes message text from the input; whether there was any.
    fn take_text(&mut self) -> bool {
        let Stage::Text(incoming) = &mut self.stage else {
            return false;
        };
        if self.input.is_empty() {
            return false;
        }
        let (octets_max, decoder) = (self.settings.message_octets_max, &mut incoming.decoder);
        let before = decoder.octets();
        self.text.reserve(self.input.rest().len());
        let used = decoder.decode(self.input.rest(), &mut self.text);
        self.input.consume(used);
        self.events
            .push_back(Event::Content(decoder.octets() - before));
        if decoder.octets() > octets_max {
            incoming.refusal.get_or_insert(Reply::TOO_BIG);
        } else if decoder.has_bare_line_end() {
            incoming.refusal.get_or_insert(Reply::BARE_LINE_END);
        }
        if decoder.octets() / limits::OVERSIZE_FACTOR_MAX > octets_max {
            self.close(Reply::ENDLESS);
            return true;
        }
        if incoming.refusal.is_some() {
            self.text.clear();
        }
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.ask(Question::Text(text), Pending::Text);
        } else if incoming.decoder.is_finished() {
            self.end_of_text();
        }
        true
    }

    fn end_of_text(&mut self) {
        let Stage::Text(incoming) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return;
        };
        if let Some(reply) = incoming.refusal {
            return self.ask(Question::Discard, Pending::Discard(reply));
        }
        let Some(hello) = &self.hello else { return };
        let delivery = Delivery {
            protocol: protocol(
                hello.is_extended,
                self.login.is_some(),
                incoming.transaction.parameters.smtp_utf8,
            ),
            client_name: hello.client_name.clone(),
            reverse_path: incoming.transaction.reverse_path,
            recipients: incoming.transaction.recipients,
            octets: incoming.decoder.octets(),
        };
        self.ask(Question::Deliver(delivery), Pending::Deliver);
    }

    fn ask(&mut self, question: Question, pending: Pending) {
        self.question = Some(question);
        self.pending = Some(pending);
    }

    fn reply(&mut self, reply: Reply) {
        reply.encode(&mut self.output);
        self.events.push_back(Event::Reply(reply));
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
                self.reply(Reply::RECIPIENT_OK);
            }
            (_, Answer::NoSuchUser) => self.refuse(Reply::NO_SUCH_USER),
            (_, Answer::NotOurs) => self.refuse(Reply::RELAYING_DENIED),
            _ => self.refuse(Reply::TRY_LATER),
        }
    }

    fn text_taken(&mut self, answer: &Answer) {
        let Stage::Text(incoming) = &mut self.stage else {
            return;
        };
        match answer {
            Answer::Accept => {}
            Answer::NoSpace => incoming.refusal = Some(Reply::NO_SPACE),
            _ => incoming.refusal = Some(Reply::TRY_LATER),
        }
        if incoming.decoder.is_finished() {
            self.end_of_text();
        }
    }

    fn delivered(&mut self, answer: &Answer) {
        match answer {
            Answer::Delivered(id) => {
                self.errors = 0;
                self.reply(Reply::queued(id));
            }
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
        self.input.push(octets);
        // Text may take as long as it keeps coming; a command has to arrive whole in time.
        if matches!(self.stage, Stage::Text(_)) {
            self.text_octets += octets.len();
            if self.text_octets >= limits::TEXT_PROGRESS_OCTETS {
                self.text_octets = 0;
                self.deadline = now + self.settings.timeout;
            }
        }
    }

    fn disconnected(&mut self, _now: Instant) {
        self.disconnected = true;
    }

    fn answer(&mut self, now: Instant, answer: Answer) {
        self.deadline = now + self.settings.timeout;
        match self.pending.take() {
            None => {}
            Some(Pending::Login) => match answer {
                Answer::LoggedIn(user) => {
                    self.login = Some(user);
                    self.reply(Reply::AUTHENTICATED);
                }
                Answer::BadCredentials => self.login_failed(),
                _ => self.refuse(Reply::LOGIN_UNAVAILABLE),
            },
            Some(Pending::Sender(path, parameters)) => self.sender(path, parameters, &answer),
            Some(Pending::Recipient(path)) => self.recipient(path, answer),
            Some(Pending::Text) => self.text_taken(&answer),
            Some(Pending::Deliver) => self.delivered(&answer),
            Some(Pending::Discard(reply)) => self.refuse(reply),
        }
    }

    fn stop(&mut self, _now: Instant) {
        self.stopping = true;
    }

    fn step(&mut self, now: Instant) -> Step<Question> {
        loop {
            if let Some(question) = self.question.take() {
                return Step::Ask(question);
            }
            if self.pending.is_some() {
                return Step::Wait(self.deadline);
            }
            let is_closed = matches!(self.stage, Stage::Closed);
            // Replies to commands sent ahead go out together (RFC 2920 §3.2), but not without
            // bound.
            if !is_closed && self.output.len() < limits::TEXT_CHUNK_OCTETS && self.advance(now) {
                continue;
            }
            if !self.output.is_empty() {
                return Step::Send(std::mem::take(&mut self.output));
            }
            if is_closed || self.disconnected {
                return Step::Close;
            }
            if now < self.deadline {
                return Step::Wait(self.deadline);
            }
            self.close(Reply::TIMED_OUT);
        }
    }

    fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

fn protocol(is_extended: bool, is_logged_in: bool, is_utf8: bool) -> &'static str {
    match (is_utf8, is_extended, is_logged_in) {
        (true, _, false) => "UTF8SMTP",
        (true, _, true) => "UTF8SMTPA",
        (false, false, _) => "SMTP",
        (false, true, false) => "ESMTP",
        (false, true, true) => "ESMTPA",
    }
}

fn starts_with_auth(line: &[u8]) -> bool {
    line.trim_ascii_start()
        .get(..4)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"))
}
