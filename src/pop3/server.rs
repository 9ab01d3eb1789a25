//! The server's side of a connection.
//!
//! The engine knows the protocol and nothing else: whether a password is right, what a message
//! says and whether one is stored it asks its owner ([`Question`]), who answers in words
//! ([`Answer`]). While a question is open, commands that were sent ahead stay in the buffer.
//!
//! Answers of many lines are made piece by piece, as the peer takes them: neither a message nor a
//! list is ever in memory whole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memchr;

use crate::sasl::{self, Exchange, Login, Mechanism, Progress, Proof, scram};
use crate::secret::Secret;
use crate::user::UserName;
use crate::wire::dot::Encoder;
use crate::wire::line::{Line, LineBuffer, TLS_HANDSHAKE, printable};
use crate::wire::{Channel, Machine, Step};

use super::Event;
use super::command::{Command, Text};
use super::limits;
use super::maildrop::Maildrop;
use super::reply::{HIDDEN, Reply};

/// What ends the text after SEND.
const TEXT_END: &[u8] = b"###";

/// What a server offers and allows; the same for all its sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name in the greeting.
    pub hostname: String,
    /// Whether this is Teena's lab: no passwords, and users are added over the wire.
    pub is_lab: bool,
    /// Whether there is a certificate, so that TLS can begin.
    pub has_tls: bool,
    /// The largest message that SEND takes, in octets with CRLF.
    pub message_octets_max: u64,
    /// How long to wait for a command before a mailbox is open.
    pub login_timeout: Duration,
    /// How long to wait for a command once one is; RFC 1939 §3 wants ten minutes at least.
    pub idle_timeout: Duration,
}

/// What only the owner can know or do. Message numbers are those of the opened mailbox; they
/// stay as they are whatever is removed.
#[derive(Debug)]
pub enum Question {
    /// Is the password right? Then take the maildrop. [`Answer::Opened`],
    /// [`Answer::BadCredentials`], [`Answer::InUse`].
    Login(Login),
    /// What does this user, if there is one, prove a password with? [`Answer::Keys`].
    Keys(String),
    /// The proof was right or wrong. If right, take the maildrop. Answers as to
    /// [`Question::Login`].
    Proof(Proof),
    /// Take the maildrop of this user, who needs no password. [`Answer::Opened`],
    /// [`Answer::NoSuchUser`], [`Answer::InUse`].
    Open(String),
    /// Who are the users? [`Answer::Users`].
    Users,
    /// Add a user and make the mailbox. [`Answer::Accept`], [`Answer::Exists`],
    /// [`Answer::Reserved`].
    Add(UserName),
    /// What are the unique-ids of these messages? [`Answer::UniqueIds`], as many.
    UniqueIds(Vec<usize>),
    /// Begin to read this message. [`Answer::Text`].
    Read(usize),
    /// Go on reading it. [`Answer::Text`].
    ReadOn,
    /// Look at the open maildrop again: mail may have come. The messages that are left keep their
    /// order, and are numbered anew. [`Answer::Opened`].
    Reopen,
    /// Remove this message, now and durably. [`Answer::Accept`].
    Remove(usize),
    /// Remove these messages, durably, then let go of the maildrop. If they cannot be removed,
    /// let go all the same. [`Answer::Accept`].
    Close(Vec<usize>),
    /// Whose mailbox is this? [`Answer::Recipient`], [`Answer::NoSuchUser`].
    Recipient(String),
    /// Keep this piece of a text that goes on. [`Answer::Accept`].
    Text(Letter),
    /// Deliver the text made of all pieces and this last one. [`Answer::Delivered`].
    Deliver(Letter),
    /// Forget the pieces; the text is refused. [`Answer::Accept`].
    Discard,
}

/// The owner's answer. [`Answer::TryLater`] answers any question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, done.
    Accept,
    /// The maildrop is taken.
    Opened {
        /// Whose it is.
        user: UserName,
        /// The size of each message, in octets with CRLF.
        octets: Vec<u64>,
    },
    /// Unknown user or wrong password.
    BadCredentials,
    /// With these.
    Keys(scram::Offer),
    /// Another session has the maildrop.
    InUse,
    /// There is no such user.
    NoSuchUser,
    /// All users.
    Users(Vec<UserName>),
    /// The user is there already, so spelled.
    Exists(UserName),
    /// No user can be called so.
    Reserved,
    /// Unique-ids, in the order of the question.
    UniqueIds(Vec<String>),
    /// A piece of the message, LF line ends.
    Text {
        /// The piece.
        text: Vec<u8>,
        /// Whether nothing follows it.
        is_last: bool,
    },
    /// The mailbox is this user's.
    Recipient(UserName),
    /// Stored, durably.
    Delivered,
    /// No space.
    NoSpace,
    /// Others have to be let in or turned away first.
    TooManyLogins,
    /// Something failed that may work later; nothing is changed.
    TryLater,
    /// Something failed and nobody can say whether the text is stored. The connection closes
    /// without a reply.
    Unknown,
}

/// A piece of a text after SEND, with all that the session knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Who wrote it.
    pub sender: UserName,
    /// Who gets it.
    pub recipient: UserName,
    /// What its first line said, if that was `Subject: …`; no control characters.
    pub subject: Option<String>,
    /// What of it the owner does not have yet, LF line ends.
    pub text: Vec<u8>,
    /// The size of all lines so far in octets with CRLF.
    pub octets: u64,
}

/// A session: the engine.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    /// The ways to log in that are offered.
    mechanisms: &'static [Mechanism],
    channel: Channel,
    input: LineBuffer,
    output: Vec<u8>,
    events: VecDeque<Event>,
    stage: Stage,
    question: Option<Question>,
    pending: Option<Pending>,
    began: Instant,
    /// When the login began: with the connection, or when a mailbox was closed.
    login_began: Instant,
    deadline: Instant,
    errors: u32,
    /// Commands since then.
    login_commands: u32,
    login_failures: u32,
    /// A command was understood.
    has_spoken: bool,
    /// A password or message text may be on its way: lines that are no commands are not shown.
    may_be_private: bool,
    stopping: bool,
    disconnected: bool,
}

#[derive(Debug)]
enum Stage {
    /// No mailbox is open; the name is there right after USER.
    Authorization(Option<String>),
    /// Within AUTH: every line is a response.
    Login(Exchange),
    /// A mailbox is open.
    Transaction(Maildrop),
    /// In the middle of LIST or UIDL for all messages.
    Listing(Maildrop, Listing),
    /// In the middle of RETR, TOP or READM.
    Transfer(Maildrop, Transfer),
    /// After SEND: every line is text.
    Incoming(Maildrop, Incoming),
    /// After the answer to STLS: what comes is the handshake's, none of ours.
    Securing,
    /// The last reply is given.
    Closed,
}

/// What a list has come to: the message that it listed last, 0 before the first.
#[derive(Clone, Copy, Debug)]
enum Listing {
    Sizes(usize),
    UniqueIds(usize),
}

#[derive(Debug)]
struct Transfer {
    number: usize,
    /// The first line, until it is given.
    reply: Option<Reply>,
    encoder: Encoder,
    /// Where TOP ends.
    top: Option<Top>,
    is_readm: bool,
}

/// Counts lines up to the end of what TOP wants.
#[derive(Debug)]
struct Top {
    lines: u64,
    in_header: bool,
    at_line_start: bool,
}

#[derive(Debug)]
struct Incoming {
    /// `None` if nobody was found: the text only has to be read to its end.
    recipient: Option<UserName>,
    subject: Option<String>,
    place: Place,
    /// Text not yet handed to the owner.
    text: Vec<u8>,
    octets: u64,
    /// Why the text will be refused once it has come to its end.
    refusal: Option<Reply>,
}

/// Where in the text the next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    AfterSubject,
    Body,
}

/// What the open question was about.
#[derive(Debug)]
enum Pending {
    Add(UserName),
    Deliver,
    Discard(Reply),
    Done(Reply),
    Keys(scram::Hello),
    Login,
    Open,
    Quit,
    Read,
    Recipient(Option<Text>),
    Remove(usize),
    Reopen,
    Text,
    UniqueId(usize),
    UniqueIds(Vec<usize>),
    Users,
}

impl Session {
    /// Begins with the greeting.
    #[must_use]
    pub fn new(settings: Arc<Settings>, channel: Channel, now: Instant) -> Self {
        let mut session = Self {
            began: now,
            login_began: now,
            deadline: now + settings.login_timeout,
            settings,
            mechanisms: &Mechanism::WITH_PASSWORD,
            channel,
            input: LineBuffer::default(),
            output: Vec::new(),
            events: VecDeque::new(),
            stage: Stage::Authorization(None),
            question: None,
            pending: None,
            errors: 0,
            login_commands: 0,
            login_failures: 0,
            has_spoken: false,
            may_be_private: false,
            stopping: false,
            disconnected: false,
        };
        session.reply(Reply::greeting(&session.settings.hostname));
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
        match self.take_stage() {
            Stage::Listing(maildrop, listing) => self.list(maildrop, listing),
            Stage::Transfer(maildrop, transfer) => {
                self.stage = Stage::Transfer(maildrop, transfer);
                self.ask(Question::ReadOn, Pending::Read);
            }
            Stage::Securing => {
                self.stage = Stage::Securing;
                return false;
            }
            stage => {
                let is_text = matches!(stage, Stage::Incoming(..));
                self.stage = stage;
                if self.stopping && !is_text {
                    self.stage = Stage::Closed;
                    return true;
                }
                return self.take_line(now);
            }
        }
        true
    }

    /// Takes the next line of the input; whether there was one.
    fn take_line(&mut self, now: Instant) -> bool {
        if !self.has_spoken && self.input.is_at_handshake() {
            self.events
                .push_back(Event::Malformed(TLS_HANDSHAKE.to_owned()));
            self.close(Reply::TLS_IN_CLEAR);
            return true;
        }
        let Some(line) = self.input.next_line(self.line_octets_max()) else {
            // A text on its way may come to its end.
            let is_over = self.stopping && !matches!(self.stage, Stage::Incoming(..));
            if is_over {
                self.stage = Stage::Closed;
            }
            return is_over;
        };
        if let Some(reply) = self.overdue(now) {
            self.close(reply);
            return true;
        }
        match (self.take_stage(), line) {
            (Stage::Login(_), Line::TooLong) => self.refuse_command(Reply::LINE_TOO_LONG),
            (Stage::Login(exchange), Line::Whole(line)) => {
                self.auth_response(exchange, &Secret::new(line));
            }
            (Stage::Incoming(maildrop, incoming), line) => {
                self.text_line(maildrop, incoming, &line);
            }
            (stage, line) => {
                self.stage = stage;
                self.command_line(&line);
            }
        }
        self.set_deadline(now);
        true
    }

    /// Why the line that came is one too many.
    fn overdue(&mut self, now: Instant) -> Option<Reply> {
        if matches!(self.stage, Stage::Authorization(_) | Stage::Login(_)) {
            self.login_commands += 1;
            if self.login_commands > limits::COMMANDS_BEFORE_LOGIN_MAX && !self.settings.is_lab {
                return Some(Reply::TOO_MANY_COMMANDS);
            }
        } else {
            self.login_commands = 0;
        }
        let is_over = now - self.began > limits::SESSION_TIME_MAX;
        is_over.then_some(Reply::TOO_LONG_HERE)
    }

    fn set_deadline(&mut self, now: Instant) {
        self.deadline = now + self.timeout();
        if !matches!(self.stage, Stage::Authorization(_) | Stage::Login(_)) {
            self.login_began = now;
        } else if !self.settings.is_lab {
            let login_time = self.settings.login_timeout * limits::LOGIN_TIMEOUTS_MAX;
            self.deadline = self.deadline.min(self.login_began + login_time);
        }
    }

    fn line_octets_max(&self) -> usize {
        match self.stage {
            Stage::Login(_) => return limits::AUTH_LINE_OCTETS_MAX,
            Stage::Incoming(..) => return limits::TEXT_LINE_OCTETS_MAX,
            _ => {}
        }
        let verb = self.input.rest().get(..4).unwrap_or_default();
        match verb.to_ascii_uppercase().as_slice() {
            b"AUTH" => limits::AUTH_LINE_OCTETS_MAX,
            b"PASS" => limits::PASS_LINE_OCTETS_MAX,
            b"SEND" => limits::TEXT_LINE_OCTETS_MAX,
            _ => limits::COMMAND_LINE_OCTETS_MAX,
        }
    }

    fn timeout(&self) -> Duration {
        match self.stage {
            Stage::Authorization(_) | Stage::Login(_) | Stage::Securing | Stage::Closed => {
                self.settings.login_timeout
            }
            Stage::Transaction(_)
            | Stage::Listing(..)
            | Stage::Transfer(..)
            | Stage::Incoming(..) => self.settings.idle_timeout,
        }
    }

    fn command_line(&mut self, line: &Line) {
        let parsed = match line {
            Line::TooLong => Err(Reply::LINE_TOO_LONG),
            Line::Whole(line) => Command::parse(line),
        };
        match parsed {
            Ok(command) => {
                self.has_spoken = true;
                self.may_be_private = matches!(
                    command,
                    Command::User(_) | Command::Pass(_) | Command::Auth(..) | Command::Send(..)
                );
                self.events.push_back(Event::Command(command.clone()));
                self.command(command);
            }
            Err(reply) => {
                self.malformed(line);
                if !self.has_spoken && line.is_of_another_protocol() {
                    return self.close(Reply::NOT_POP3);
                }
                if let Stage::Authorization(user) = &mut self.stage {
                    *user = None;
                }
                self.refuse_command(reply);
            }
        }
    }

    /// The state machine of RFC 1939, with the lab's verbs.
    fn command(&mut self, command: Command) {
        let is_lab = self.settings.is_lab;
        match (self.take_stage(), command) {
            (Stage::Authorization(_), Command::Stls) => self.start_tls(),
            (Stage::Authorization(_), Command::User(_) | Command::Pass(_) | Command::Auth(..))
                if !self.may_log_in() =>
            {
                self.refuse_command(if self.settings.has_tls {
                    Reply::NEEDS_TLS
                } else {
                    Reply::NO_LOGIN_WITHOUT_TLS
                });
            }
            (Stage::Authorization(Some(user)), Command::Pass(password)) => {
                self.ask(Question::Login(Login { user, password }), Pending::Login);
            }
            (Stage::Authorization(_), Command::User(name)) if is_lab => {
                self.ask(Question::Open(name), Pending::Open);
            }
            (Stage::Authorization(_), Command::User(name)) => {
                self.stay(Stage::Authorization(Some(name)), Reply::SEND_PASS);
            }
            (Stage::Authorization(_), Command::Auth(mechanism, initial)) => {
                self.auth(&mechanism, initial);
            }
            (Stage::Authorization(_), Command::Utf8) => self.reply(Reply::OK),
            (Stage::Authorization(_), Command::Quit) => self.close(Reply::GOODBYE),

            (stage, Command::Capa) => {
                self.stay(stage.without_user(), Reply::CAPABILITIES);
                self.capabilities();
            }
            (stage @ Stage::Authorization(_), Command::Lstu) if !is_lab => {
                self.keep(stage.without_user(), Reply::LSTU_NEEDS_LOGIN);
            }
            (stage, Command::Lstu) => {
                self.stage = stage;
                self.ask(Question::Users, Pending::Users);
            }
            (stage, Command::Addu(name)) if is_lab => {
                self.stage = stage;
                self.ask(Question::Add(name.clone()), Pending::Add(name));
            }
            (stage, Command::Addu(_)) => {
                self.keep(stage.without_user(), Reply::ADDU_IN_LAB_ONLY);
            }

            (Stage::Transaction(maildrop), Command::Pass(_)) if is_lab => {
                let reply = Reply::opened(maildrop.user(), maildrop.stat().0);
                self.stay(Stage::Transaction(maildrop), reply);
            }
            (
                stage @ Stage::Transaction(_),
                Command::User(_)
                | Command::Pass(_)
                | Command::Auth(..)
                | Command::Stls
                | Command::Utf8,
            ) => self.keep(stage, Reply::ALREADY_OPEN),
            (Stage::Transaction(maildrop), command) => self.transaction(maildrop, command),

            (stage, _) if is_lab => self.keep(stage.without_user(), Reply::USER_FIRST),
            (stage, _) => self.keep(stage.without_user(), Reply::LOGIN_FIRST),
        }
    }

    /// The commands that need a mailbox.
    fn transaction(&mut self, mut maildrop: Maildrop, command: Command) {
        let reply = match command {
            Command::Stat => {
                let (messages, octets) = maildrop.stat();
                Ok(Reply::stat(messages, octets))
            }
            Command::List(None) => {
                self.reply(Reply::LIST_FOLLOWS);
                self.stage = Stage::Listing(maildrop, Listing::Sizes(0));
                return;
            }
            Command::List(Some(number)) => match maildrop.size(number) {
                Some(octets) => Ok(Reply::size(number, octets)),
                None => Err(Reply::NO_SUCH_MESSAGE),
            },
            Command::Uidl(None) => {
                return self.list(maildrop, Listing::UniqueIds(0));
            }
            Command::Uidl(Some(number)) => match maildrop.size(number) {
                Some(_) => {
                    self.stage = Stage::Transaction(maildrop);
                    let question = Question::UniqueIds(vec![number]);
                    return self.ask(question, Pending::UniqueId(number));
                }
                None => Err(Reply::NO_SUCH_MESSAGE),
            },
            Command::Retr(number) => match maildrop.size(number) {
                Some(octets) => {
                    return self.transfer(maildrop, Transfer::new(number, Reply::message(octets)));
                }
                None => Err(Reply::NO_SUCH_MESSAGE),
            },
            Command::Top(number, lines) => match maildrop.size(number) {
                Some(_) => {
                    let mut transfer = Transfer::new(number, Reply::TOP_FOLLOWS);
                    transfer.top = Some(Top::new(lines));
                    return self.transfer(maildrop, transfer);
                }
                None => Err(Reply::NO_SUCH_MESSAGE),
            },
            Command::Readm => match maildrop.advance() {
                Some(number) => return self.show(maildrop, number),
                // What is marked goes by its number.
                None if maildrop.marked() > 0 => Err(Reply::NO_MORE_MAIL),
                None => {
                    self.stage = Stage::Transaction(maildrop);
                    return self.ask(Question::Reopen, Pending::Reopen);
                }
            },
            Command::Dele(number) if maildrop.mark(number) => Ok(Reply::marked(number)),
            Command::Dele(_) => Err(Reply::NO_SUCH_MESSAGE),
            Command::Delm => match maildrop.shown() {
                Some(number) => {
                    self.stage = Stage::Transaction(maildrop);
                    return self.ask(Question::Remove(number), Pending::Remove(number));
                }
                None => Err(Reply::NOTHING_SHOWN),
            },
            Command::Rset => {
                maildrop.reset();
                Ok(Reply::reset(maildrop.stat().0))
            }
            Command::Send(receiver, text) => {
                self.stage = Stage::Transaction(maildrop);
                return self.ask(Question::Recipient(receiver), Pending::Recipient(text));
            }
            Command::Doneu => {
                let reply = Reply::done(maildrop.user(), maildrop.marked());
                return self.ask(Question::Close(Vec::new()), Pending::Done(reply));
            }
            Command::Quit => return self.ask(Question::Close(maildrop.marks()), Pending::Quit),
            // What is left is NOOP: the others do not come here.
            _ => Ok(Reply::OK),
        };
        self.stage = Stage::Transaction(maildrop);
        match reply {
            Ok(reply) | Err(reply) => self.reply(reply),
        }
    }

    /// RFC 2449 §6. What holds before the login is listed after it too.
    fn capabilities(&mut self) {
        self.output.extend_from_slice(b"TOP\r\n");
        if self.may_log_in() {
            // LOGIN is not for POP3, which has USER and PASS; in the lab, nobody has anything to
            // prove.
            let has_scram = self.mechanisms.contains(&Mechanism::ScramSha256);
            let scram = if has_scram && !self.settings.is_lab {
                " SCRAM-SHA-256"
            } else {
                ""
            };
            self.line(format_args!("USER\r\nSASL{scram} PLAIN"));
        }
        let is_authorization = matches!(self.stage, Stage::Authorization(_));
        if is_authorization && self.settings.has_tls && self.channel != Channel::Secure {
            self.output.extend_from_slice(b"STLS\r\n");
        }
        self.output.extend_from_slice(
            b"RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nUIDL\r\n\
              UTF8 USER\r\nIMPLEMENTATION minismtp\r\n.\r\n",
        );
    }

    /// Whether a login is taken on this connection. The lab has none that could be overheard.
    fn may_log_in(&self) -> bool {
        self.settings.is_lab || self.channel.may_carry_passwords()
    }

    /// RFC 2595 §4.
    fn start_tls(&mut self) {
        if self.channel == Channel::Secure {
            self.refuse_command(Reply::ALREADY_SECURE);
        } else if !self.settings.has_tls {
            self.refuse_command(Reply::NO_STLS);
        } else if !self.input.is_empty() {
            // Somebody on the way may have added it, to have it obeyed under the client's name.
            self.close(Reply::PIPELINED_STLS);
        } else {
            self.stay(Stage::Securing, Reply::BEGIN_TLS);
        }
    }

    fn auth(&mut self, mechanism: &str, initial: Option<Secret>) {
        let mechanism = match Mechanism::parse(mechanism) {
            Some(Mechanism::Plain) => Mechanism::Plain,
            Some(Mechanism::ScramSha256) if !self.settings.is_lab => Mechanism::ScramSha256,
            _ => return self.refuse_command(Reply::NO_SUCH_MECHANISM),
        };
        let initial = match initial {
            None => None,
            // `=` is how an empty initial response is written (RFC 5034 §4).
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
            Progress::Finished(login) if self.settings.is_lab => {
                self.ask(Question::Open(login.user), Pending::Open);
            }
            Progress::Finished(login) => self.ask(Question::Login(login), Pending::Login),
            Progress::Refused => self.login_failed(),
        }
    }

    fn login_failed(&mut self) {
        self.login_failures += 1;
        if self.login_failures >= limits::LOGIN_FAILURES_MAX {
            self.close(Reply::TOO_MANY_LOGINS);
        } else {
            self.reply(Reply::BAD_CREDENTIALS);
        }
    }

    fn opened(&mut self, answer: Answer) {
        match answer {
            Answer::Opened { user, octets } => {
                let maildrop = Maildrop::new(user, &octets);
                let reply = Reply::opened(maildrop.user(), maildrop.count());
                self.errors = 0;
                self.stay(Stage::Transaction(maildrop), reply);
            }
            Answer::BadCredentials => self.login_failed(),
            Answer::InUse => self.reply(Reply::IN_USE),
            Answer::NoSuchUser => self.reply(Reply::NO_SUCH_USER),
            // Asking again and again is no better than a wrong command.
            Answer::TooManyLogins => self.refuse_command(Reply::LOGINS_WAIT),
            _ => self.refuse_command(Reply::TRY_LATER),
        }
    }

    /// Goes on with a list of all messages, for as much as may wait to be written.
    fn list(&mut self, maildrop: Maildrop, listing: Listing) {
        match listing {
            Listing::Sizes(mut last) => {
                let mut is_more = false;
                for (number, octets) in maildrop.after(last) {
                    is_more = self.output.len() >= limits::OUTPUT_OCTETS;
                    if is_more {
                        break;
                    }
                    self.line(format_args!("{number} {octets}"));
                    last = number;
                }
                if is_more {
                    self.stage = Stage::Listing(maildrop, Listing::Sizes(last));
                    return;
                }
            }
            Listing::UniqueIds(last) => {
                let numbers = maildrop.after(last).map(|(number, _)| number);
                let numbers: Vec<usize> = numbers.take(limits::UNIQUE_IDS_MAX).collect();
                if !numbers.is_empty() {
                    self.stage = Stage::Listing(maildrop, listing);
                    let question = Question::UniqueIds(numbers.clone());
                    return self.ask(question, Pending::UniqueIds(numbers));
                }
                if last == 0 {
                    self.reply(Reply::LIST_FOLLOWS);
                }
            }
        }
        self.line(format_args!("."));
        self.stage = Stage::Transaction(maildrop);
    }

    fn unique_ids(&mut self, numbers: &[usize], answer: Answer) {
        let (maildrop, last) = match self.take_stage() {
            Stage::Listing(maildrop, Listing::UniqueIds(last)) => (maildrop, last),
            stage => return self.stage = stage,
        };
        match answer {
            Answer::UniqueIds(unique_ids) if unique_ids.len() == numbers.len() => {
                if last == 0 {
                    self.reply(Reply::LIST_FOLLOWS);
                }
                for (number, unique_id) in numbers.iter().zip(unique_ids) {
                    self.line(format_args!("{number} {unique_id}"));
                }
                let last = numbers.last().copied().unwrap_or(usize::MAX);
                self.stage = Stage::Listing(maildrop, Listing::UniqueIds(last));
            }
            _ if last == 0 => self.stay(Stage::Transaction(maildrop), Reply::TRY_LATER),
            // A list that is cut short must not look whole.
            _ => self.stage = Stage::Closed,
        }
    }

    fn unique_id(&mut self, number: usize, answer: &Answer) {
        match answer {
            Answer::UniqueIds(unique_ids) if unique_ids.len() == 1 => {
                self.reply(Reply::unique_id(number, &unique_ids[0]));
            }
            _ => self.reply(Reply::TRY_LATER),
        }
    }

    fn transfer(&mut self, maildrop: Maildrop, transfer: Transfer) {
        let question = Question::Read(transfer.number);
        self.stage = Stage::Transfer(maildrop, transfer);
        self.ask(question, Pending::Read);
    }

    /// Gives out the next piece of a message.
    fn read(&mut self, answer: &Answer) {
        let (mut maildrop, mut transfer) = match self.take_stage() {
            Stage::Transfer(maildrop, transfer) => (maildrop, transfer),
            stage => return self.stage = stage,
        };
        let Answer::Text { text, is_last } = answer else {
            if transfer.reply.is_none() {
                // A message that is cut short must not look whole.
                self.stage = Stage::Closed;
                return;
            }
            if transfer.is_readm {
                maildrop.step_back(transfer.number);
            }
            return self.stay(Stage::Transaction(maildrop), Reply::TRY_LATER);
        };
        if let Some(reply) = transfer.reply.take() {
            self.reply(reply);
        }
        let (text, is_enough) = match &mut transfer.top {
            None => (text.as_slice(), false),
            Some(top) => top.take(text),
        };
        transfer.encoder.encode(text, &mut self.output);
        if !is_last && !is_enough {
            self.stage = Stage::Transfer(maildrop, transfer);
            return;
        }
        transfer.encoder.finish(&mut self.output);
        if transfer.is_readm {
            maildrop.has_shown(transfer.number);
        }
        self.stage = Stage::Transaction(maildrop);
    }

    /// Shows a message to who asked for the next one.
    fn show(&mut self, maildrop: Maildrop, number: usize) {
        let octets = maildrop.size(number).unwrap_or_default();
        let reply = Reply::shown(number, maildrop.count(), octets);
        let mut transfer = Transfer::new(number, reply);
        transfer.is_readm = true;
        self.transfer(maildrop, transfer);
    }

    /// Shows what has come since the mailbox was opened: who reads one message after the other has no
    /// other way to see it.
    fn reopened(&mut self, answer: &Answer) {
        let mut maildrop = match self.take_stage() {
            Stage::Transaction(maildrop) => maildrop,
            stage => return self.stage = stage,
        };
        if let Answer::Opened { octets, .. } = answer
            && let Some(number) = maildrop.renew(octets)
        {
            return self.show(maildrop, number);
        }
        self.stay(Stage::Transaction(maildrop), Reply::NO_MORE_MAIL);
    }

    fn removed(&mut self, number: usize, answer: &Answer) {
        match (&mut self.stage, answer) {
            (Stage::Transaction(maildrop), Answer::Accept) => {
                maildrop.removed(number);
                self.reply(Reply::REMOVED);
            }
            _ => self.reply(Reply::TRY_LATER),
        }
    }

    fn recipient(&mut self, text: Option<Text>, answer: Answer) {
        let maildrop = match self.take_stage() {
            Stage::Transaction(maildrop) => maildrop,
            stage => return self.stage = stage,
        };
        let (recipient, refusal) = match answer {
            Answer::Recipient(user) => (Some(user), None),
            Answer::NoSuchUser if self.settings.is_lab => (None, Some(Reply::NO_SUCH_USER)),
            Answer::NoSuchUser => (None, Some(Reply::NO_SUCH_RECEIVER)),
            _ => (None, Some(Reply::TRY_LATER)),
        };
        match (text, refusal) {
            // The client waits for our word before it sends text, and gets it.
            (None, Some(reply)) => self.stay(Stage::Transaction(maildrop), reply),
            (None, None) => {
                let stage = Stage::Incoming(maildrop, Incoming::new(recipient, None));
                self.stay(stage, Reply::TYPE_MESSAGE);
            }
            // The text has begun: it gets one answer, at its end.
            (Some(Text(line)), refusal) => {
                let incoming = Incoming::new(recipient, refusal);
                self.text_line(maildrop, incoming, &Line::Whole(line));
            }
        }
    }

    /// Takes a line of the text after SEND.
    fn text_line(&mut self, maildrop: Maildrop, mut incoming: Incoming, line: &Line) {
        let (line, is_last) = match line {
            Line::TooLong => {
                incoming.refuse(Reply::TEXT_LINE_TOO_LONG);
                (None, false)
            }
            Line::Whole(line) => match line.strip_suffix(TEXT_END) {
                Some(b"") => (None, true),
                Some(line) => (Some(line), true),
                None => (Some(line.as_slice()), false),
            },
        };
        if let Some(line) = line {
            incoming.line(line);
            self.events.push_back(Event::Content(line.len() as u64 + 2));
        }
        let octets_max = self.settings.message_octets_max;
        if incoming.octets > octets_max {
            incoming.refuse(Reply::TOO_BIG);
        }
        if incoming.octets / limits::OVERSIZE_FACTOR_MAX > octets_max {
            return self.close(Reply::ENDLESS);
        }
        if is_last {
            self.end_of_text(maildrop, incoming);
        } else if incoming.text.len() >= limits::TEXT_CHUNK_OCTETS {
            let piece = incoming.piece(maildrop.user());
            self.stage = Stage::Incoming(maildrop, incoming);
            if let Some(piece) = piece {
                self.ask(Question::Text(piece), Pending::Text);
            }
        } else {
            self.stage = Stage::Incoming(maildrop, incoming);
        }
    }

    fn end_of_text(&mut self, maildrop: Maildrop, mut incoming: Incoming) {
        let piece = incoming.piece(maildrop.user());
        self.stage = Stage::Transaction(maildrop);
        match (piece, incoming.refusal) {
            (Some(letter), None) => self.ask(Question::Deliver(letter), Pending::Deliver),
            (_, refusal) => {
                let reply = refusal.unwrap_or(Reply::TRY_LATER);
                self.ask(Question::Discard, Pending::Discard(reply));
            }
        }
    }

    fn text_taken(&mut self, answer: &Answer) {
        if let Stage::Incoming(_, incoming) = &mut self.stage {
            match answer {
                Answer::Accept => {}
                Answer::NoSpace => incoming.refuse(Reply::NO_SPACE),
                _ => incoming.refuse(Reply::TRY_LATER),
            }
        }
    }

    fn delivered(&mut self, answer: &Answer) {
        match answer {
            Answer::Delivered => {
                self.errors = 0;
                self.reply(Reply::DELIVERED);
            }
            Answer::NoSpace => self.reply(Reply::NO_SPACE),
            Answer::Unknown => self.stage = Stage::Closed,
            _ => self.reply(Reply::TRY_LATER),
        }
    }

    fn users(&mut self, answer: &Answer) {
        match answer {
            Answer::Users(users) => self.reply(Reply::users(users)),
            _ => self.reply(Reply::TRY_LATER),
        }
    }

    fn added(&mut self, name: &UserName, answer: &Answer) {
        match answer {
            Answer::Accept => self.reply(Reply::added(name)),
            Answer::Exists(name) => self.reply(Reply::already_present(name)),
            Answer::Reserved => self.reply(Reply::reserved_user_name(name)),
            _ => self.reply(Reply::TRY_LATER),
        }
    }

    /// The stage, to be put back or replaced; what is left is that nobody is logged in.
    fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Authorization(None))
    }

    fn ask(&mut self, question: Question, pending: Pending) {
        self.question = Some(question);
        self.pending = Some(pending);
    }

    fn reply(&mut self, reply: Reply) {
        reply.encode(&mut self.output);
        self.events.push_back(Event::Reply(reply));
    }

    /// Writes a line of an answer that has many; none of them begins with a full stop but the
    /// last.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.output.extend_from_slice(line.to_string().as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Gives a reply that says the command was wrong; too many of these end the session.
    fn refuse_command(&mut self, reply: Reply) {
        self.errors += 1;
        if self.errors > limits::ERRORS_MAX {
            self.close(Reply::TOO_MANY_ERRORS);
        } else {
            self.reply(reply);
        }
    }

    /// Refuses a command that does not belong here, and goes on as before.
    fn keep(&mut self, stage: Stage, reply: Reply) {
        self.stage = stage;
        self.refuse_command(reply);
    }

    /// Answers a command and goes on in this stage.
    fn stay(&mut self, stage: Stage, reply: Reply) {
        self.stage = stage;
        self.reply(reply);
    }

    fn close(&mut self, reply: Reply) {
        self.reply(reply);
        self.stage = Stage::Closed;
    }

    fn malformed(&mut self, line: &Line) {
        // Whatever comes of it, the next lines may be passwords or text.
        self.may_be_private |= match line {
            Line::Whole(line) => begins_private(line),
            Line::TooLong => true,
        };
        let shown = match line {
            Line::Whole(line) if !self.may_be_private => printable(&line[..line.len().min(80)]),
            _ => String::new(),
        };
        self.events.push_back(Event::Malformed(shown));
    }
}

impl Machine for Session {
    type Question = Question;
    type Answer = Answer;
    type Event = Event;

    fn receive(&mut self, _now: Instant, octets: &[u8]) {
        if !matches!(self.stage, Stage::Securing) {
            self.input.push(octets);
        }
    }

    fn disconnected(&mut self, _now: Instant) {
        self.disconnected = true;
    }

    fn answer(&mut self, now: Instant, answer: Answer) {
        match self.pending.take() {
            None => {}
            Some(Pending::Add(name)) => self.added(&name, &answer),
            Some(Pending::Deliver) => self.delivered(&answer),
            Some(Pending::Discard(reply)) => self.reply(reply),
            Some(Pending::Done(reply)) => self.reply(reply),
            Some(Pending::Keys(hello)) => match answer {
                Answer::Keys(offer) => self.progress(Exchange::offer(hello, &offer)),
                answer => self.opened(answer),
            },
            Some(Pending::Login | Pending::Open) => self.opened(answer),
            Some(Pending::Quit) => match answer {
                Answer::Accept => self.close(Reply::GOODBYE),
                _ => self.close(Reply::NOT_REMOVED),
            },
            Some(Pending::Read) => self.read(&answer),
            Some(Pending::Recipient(text)) => self.recipient(text, answer),
            Some(Pending::Remove(number)) => self.removed(number, &answer),
            Some(Pending::Reopen) => self.reopened(&answer),
            Some(Pending::Text) => self.text_taken(&answer),
            Some(Pending::UniqueId(number)) => self.unique_id(number, &answer),
            Some(Pending::UniqueIds(numbers)) => self.unique_ids(&numbers, answer),
            Some(Pending::Users) => self.users(&answer),
        }
        self.set_deadline(now);
    }

    fn secured(&mut self, now: Instant, version: &'static str) {
        self.channel = Channel::Secure;
        self.events.push_back(Event::Secured(version));
        self.input = LineBuffer::default();
        self.stage = Stage::Authorization(None);
        self.deadline = now + self.timeout();
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
            // Answers to commands sent ahead go out together, but not without bound.
            if !is_closed && self.output.len() < limits::OUTPUT_OCTETS && self.advance(now) {
                continue;
            }
            if !self.output.is_empty() {
                self.set_deadline(now);
                return Step::Send(std::mem::take(&mut self.output));
            }
            if is_closed || self.disconnected {
                return Step::Close;
            }
            if matches!(self.stage, Stage::Securing) {
                return Step::StartTls;
            }
            if now < self.deadline {
                return Step::Wait(self.deadline);
            }
            // Idle for too long: nothing is deleted and nothing said (RFC 1939 §3).
            self.stage = Stage::Closed;
        }
    }

    fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

impl Stage {
    /// What USER said counts for the very next command only.
    fn without_user(self) -> Self {
        match self {
            Self::Authorization(_) => Self::Authorization(None),
            stage => stage,
        }
    }
}

impl Transfer {
    fn new(number: usize, reply: Reply) -> Self {
        Self {
            number,
            reply: Some(reply),
            encoder: Encoder::wire(),
            top: None,
            is_readm: false,
        }
    }
}

impl Top {
    fn new(lines: u64) -> Self {
        Self {
            lines,
            in_header: true,
            at_line_start: true,
        }
    }

    /// What of the next piece belongs to it, and whether that is all.
    fn take<'a>(&mut self, text: &'a [u8]) -> (&'a [u8], bool) {
        let mut at = 0;
        while self.in_header || self.lines > 0 {
            let Some(length) = memchr(b'\n', &text[at..]) else {
                self.at_line_start &= at == text.len();
                return (text, false);
            };
            if !self.in_header {
                self.lines -= 1;
            } else if length == 0 && self.at_line_start {
                self.in_header = false;
            }
            self.at_line_start = true;
            at += length + 1;
        }
        (&text[..at], true)
    }
}

impl Incoming {
    fn new(recipient: Option<UserName>, refusal: Option<Reply>) -> Self {
        Self {
            recipient,
            subject: None,
            place: Place::Start,
            text: Vec::new(),
            octets: 0,
            refusal,
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.octets += line.len() as u64 + 2;
        if line.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
            self.refuse(Reply::BARE_LINE_END);
        }
        if self.refusal.is_some() {
            return;
        }
        let place = std::mem::replace(&mut self.place, Place::Body);
        match (place, subject(line)) {
            (Place::Start, Some(subject)) => {
                self.subject = Some(subject);
                self.place = Place::AfterSubject;
            }
            // An empty line sets the subject off from the text, as in a message.
            (Place::AfterSubject, _) if line.is_empty() => {}
            _ => {
                self.text.extend_from_slice(line);
                self.text.push(b'\n');
            }
        }
    }

    /// What the owner does not have yet; `None` if there is nobody to send it to.
    fn piece(&mut self, sender: &UserName) -> Option<Letter> {
        Some(Letter {
            sender: sender.clone(),
            recipient: self.recipient.clone()?,
            subject: self.subject.clone(),
            text: std::mem::take(&mut self.text),
            octets: self.octets,
        })
    }

    /// The first reason is the one that is told.
    fn refuse(&mut self, reply: Reply) {
        self.refusal.get_or_insert(reply);
        self.text = Vec::new();
    }
}

/// What follows `Subject:`, on one line that a header field can hold.
fn subject(line: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"Subject:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) || line.len() > limits::SUBJECT_LINE_OCTETS_MAX {
        return None;
    }
    let value = String::from_utf8_lossy(value);
    let value = value.trim().chars();
    Some(
        value
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    )
}

fn begins_private(line: &[u8]) -> bool {
    let verb = line.trim_ascii_start().get(..4).unwrap_or_default();
    [&b"AUTH"[..], b"PASS", b"SEND"]
        .iter()
        .any(|private| verb.eq_ignore_ascii_case(private))
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;

    use std::collections::BTreeSet;

    use super::*;

    /// An owner with two users; every mailbox holds the same three messages.
    #[derive(Debug, Default)]
    struct Office {
        is_in_use: bool,
        is_broken: bool,
        is_crowded: bool,
        messages: Vec<Vec<u8>>,
        /// What is removed of them; that is seen when they are looked at again.
        removed: BTreeSet<usize>,
        coming: Vec<Vec<u8>>,
        reading: Vec<Vec<u8>>,
        pieces: Vec<u8>,
        /// What was changed, a line a change.
        changes: Vec<String>,
        largest: usize,
    }

    fn name(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    impl Office {
        fn new() -> Self {
            Self {
                messages: vec![
                    b"Subject: one\n\nfirst\nsecond\nthird\n".to_vec(),
                    b"Subject: two\n\n.\n..dots\n".to_vec(),
                    b"Subject: three\n\n".to_vec(),
                ],
                ..Self::default()
            }
        }

        fn find(name: &str) -> Option<UserName> {
            let users = [self::name("Andrew"), self::name("Bob")];
            users.into_iter().find(|user| user.is(name))
        }

        fn open(&self, user: Option<UserName>) -> Answer {
            match user {
                None => Answer::NoSuchUser,
                Some(_) if self.is_in_use => Answer::InUse,
                Some(_) if self.is_crowded => Answer::TooManyLogins,
                Some(_) if self.is_broken => Answer::TryLater,
                Some(user) => Answer::Opened {
                    user,
                    octets: self.messages.iter().map(|text| size(text)).collect(),
                },
            }
        }

        fn piece(&mut self) -> Answer {
            match self.reading.pop() {
                None => Answer::TryLater,
                Some(text) => Answer::Text {
                    text,
                    is_last: self.reading.is_empty(),
                },
            }
        }

        fn answer(&mut self, question: Question) -> Answer {
            match question {
                Question::Login(login) => match Self::find(&login.user) {
                    Some(user) if login.password.expose() == b"two  words " => {
                        self.open(Some(user))
                    }
                    _ => Answer::BadCredentials,
                },
                Question::Keys(_) => Answer::Keys(scram::Offer {
                    keys: scram::Keys::derive(&Secret::new("two  words "), b"salt", 4096),
                    nonce: [9; scram::NONCE_OCTETS],
                }),
                Question::Proof(proof) => match Self::find(&proof.user) {
                    Some(user) if proof.is_right => self.open(Some(user)),
                    _ => Answer::BadCredentials,
                },
                Question::Open(name) => self.open(Self::find(&name)),
                Question::Users => Answer::Users(vec![name("Andrew"), name("Bob")]),
                Question::Add(name) if name.is("Carol") => {
                    self.changes.push(format!("add {name}"));
                    Answer::Accept
                }
                Question::Add(name) => {
                    Self::find(name.as_str()).map_or(Answer::Reserved, Answer::Exists)
                }
                Question::UniqueIds(numbers) => {
                    Answer::UniqueIds(numbers.iter().map(|n| format!("id{n}")).collect())
                }
                Question::Read(number) => {
                    // Pieces of seven octets: edges everywhere.
                    let text = &self.messages[number - 1];
                    self.reading = text.chunks(7).rev().map(<[u8]>::to_vec).collect();
                    self.piece()
                }
                Question::ReadOn => self.piece(),
                Question::Reopen => {
                    for number in std::mem::take(&mut self.removed).into_iter().rev() {
                        self.messages.remove(number - 1);
                    }
                    self.messages.append(&mut self.coming);
                    self.open(Self::find("andrew"))
                }
                Question::Remove(_) | Question::Close(_) if self.is_broken => Answer::TryLater,
                Question::Remove(number) => {
                    self.changes.push(format!("remove {number}"));
                    self.removed.insert(number);
                    Answer::Accept
                }
                Question::Close(numbers) => {
                    self.changes.push(format!("close {numbers:?}"));
                    Answer::Accept
                }
                Question::Recipient(name) => {
                    Self::find(&name).map_or(Answer::NoSuchUser, Answer::Recipient)
                }
                Question::Text(letter) => {
                    self.pieces.extend_from_slice(&letter.text);
                    Answer::Accept
                }
                Question::Deliver(letter) => {
                    let mut text = std::mem::take(&mut self.pieces);
                    text.extend_from_slice(&letter.text);
                    let (from, to, subject) = (letter.sender, letter.recipient, letter.subject);
                    let text = String::from_utf8_lossy(&text);
                    let change = format!("{from} to {to}: {subject:?} {text:?}");
                    self.changes.push(change);
                    Answer::Delivered
                }
                Question::Discard => {
                    self.pieces.clear();
                    Answer::Accept
                }
            }
        }

        /// Steps until there is nothing to do; whether the session closed.
        fn drive(&mut self, session: &mut Session, now: Instant, out: &mut Vec<u8>) -> bool {
            loop {
                match session.step(now) {
                    Step::Send(octets) => {
                        self.largest = self.largest.max(octets.len());
                        out.extend_from_slice(&octets);
                    }
                    Step::Ask(question) => {
                        let answer = self.answer(question);
                        session.answer(now, answer);
                    }
                    Step::StartTls => session.secured(now, "1.3"),
                    Step::Wait(_) => return false,
                    Step::Close => return true,
                }
            }
        }
    }

    fn size(text: &[u8]) -> u64 {
        let line_feeds = text.iter().filter(|&&octet| octet == b'\n').count();
        (text.len() + line_feeds) as u64
    }

    fn settings(is_lab: bool) -> Arc<Settings> {
        Arc::new(Settings {
            hostname: "mx.example".to_owned(),
            is_lab,
            has_tls: false,
            message_octets_max: 1000,
            login_timeout: Duration::from_secs(60),
            idle_timeout: limits::IDLE_TIMEOUT,
        })
    }

    fn session(is_lab: bool) -> (Session, Instant) {
        let now = Instant::now();
        (Session::new(settings(is_lab), Channel::Private, now), now)
    }

    /// Plays what a client sends, in pieces of this size; gives what the server said, whether it
    /// closed, and what was changed.
    fn play(
        office: fn() -> Office,
        is_lab: bool,
        input: &[u8],
        size: usize,
    ) -> (String, bool, Vec<String>) {
        let (mut session, now) = session(is_lab);
        let (mut office, mut out) = (office(), Vec::new());
        let mut is_closed = office.drive(&mut session, now, &mut out);
        for octets in input.chunks(size) {
            if is_closed {
                break;
            }
            session.receive(now, octets);
            is_closed = office.drive(&mut session, now, &mut out);
            while session.event().is_some() {}
        }
        let out = String::from_utf8(out).unwrap();
        let out = out
            .strip_prefix("+OK mx.example POP3 server ready\r\n")
            .unwrap();
        (out.to_owned(), is_closed, office.changes)
    }

    /// A dialog: what the client says, line by line, and all that the server answers to it, lines
    /// ended by LF here. Whole, octet by octet and with LF line ends it must be the same.
    fn dialog(what: &str, is_lab: bool, lines: &[(&str, &str)]) -> Vec<String> {
        dialog_with(what, Office::new, is_lab, lines)
    }

    fn dialog_with(
        what: &str,
        office: fn() -> Office,
        is_lab: bool,
        lines: &[(&str, &str)],
    ) -> Vec<String> {
        let said: String = lines
            .iter()
            .map(|(line, _)| format!("{line}\r\n"))
            .collect();
        let expected: String = lines.iter().map(|(_, answer)| *answer).collect();
        let whole = play(office, is_lab, said.as_bytes(), said.len());
        assert_eq!(whole.0.replace("\r\n", "\n"), expected, "{what}");
        assert_eq!(
            whole.0.matches('\n').count(),
            whole.0.matches("\r\n").count()
        );
        assert_eq!(
            play(office, is_lab, said.as_bytes(), 1),
            whole,
            "{what}, octets"
        );
        let typed = said.replace("\r\n", "\n");
        assert_eq!(
            play(office, is_lab, typed.as_bytes(), 5),
            whole,
            "{what}, LF"
        );
        whole.2
    }

    const USER: (&str, &str) = ("USER andrew", "+OK send PASS\n");
    const PASS: (&str, &str) = ("PASS two  words ", "+OK Andrew has 3 messages\n");
    const OPEN: (&str, &str) = ("USER andrew", "+OK Andrew has 3 messages\n");
    const SEND: (&str, &str) = ("SEND bob", "+OK Type Message, end with ###\n");
    const DELIVERED: (&str, &str) = ("###", "+OK delivered\n");
    const FIRST: &str = "Subject: one\n\nfirst\nsecond\nthird\n.\n";

    #[test]
    fn a_session_of_a_mail_program() {
        let capabilities = "+OK capabilities follow\nTOP\nUSER\nSASL PLAIN\nRESP-CODES\n\
                            AUTH-RESP-CODE\nPIPELINING\nEXPIRE NEVER\nUIDL\nUTF8 USER\n\
                            IMPLEMENTATION minismtp\n.\n";
        let first = format!("+OK 38 octets\n{FIRST}");
        let changes = dialog(
            "all of RFC 1939",
            false,
            &[
                ("CAPA", capabilities),
                ("UTF8", "+OK\n"),
                USER,
                PASS,
                ("capa", capabilities),
                ("STAT", "+OK 3 83\n"),
                ("LIST", "+OK list follows\n1 38\n2 27\n3 18\n.\n"),
                ("LIST 2", "+OK 2 27\n"),
                ("UIDL", "+OK list follows\n1 id1\n2 id2\n3 id3\n.\n"),
                ("UIDL 3", "+OK 3 id3\n"),
                ("RETR 1", &first),
                ("RETR 2", "+OK 27 octets\nSubject: two\n\n..\n...dots\n.\n"),
                ("RETR 3", "+OK 18 octets\nSubject: three\n\n.\n"),
                ("TOP 1 0", "+OK top of message follows\nSubject: one\n\n.\n"),
                (
                    "TOP 1 2",
                    "+OK top of message follows\nSubject: one\n\nfirst\nsecond\n.\n",
                ),
                (
                    "TOP 3 9",
                    "+OK top of message follows\nSubject: three\n\n.\n",
                ),
                (
                    "TOP 1 99",
                    "+OK top of message follows\nSubject: one\n\nfirst\nsecond\nthird\n.\n",
                ),
                ("DELE 1", "+OK message 1 deleted\n"),
                ("DELE 1", "-ERR no such message\n"),
                ("RETR 1", "-ERR no such message\n"),
                ("LIST 1", "-ERR no such message\n"),
                ("UIDL 1", "-ERR no such message\n"),
                ("TOP 1 0", "-ERR no such message\n"),
                ("STAT", "+OK 2 45\n"),
                ("LIST", "+OK list follows\n2 27\n3 18\n.\n"),
                ("UIDL", "+OK list follows\n2 id2\n3 id3\n.\n"),
                ("RSET", "+OK maildrop has 3 messages\n"),
                ("NOOP", "+OK\n"),
                ("DELE 2", "+OK message 2 deleted\n"),
                ("DELE 4", "-ERR no such message\n"),
                ("DELE 0", "-ERR no such message\n"),
                ("DELE 18446744073709551616", "-ERR no such message\n"),
                ("QUIT", "+OK goodbye\n"),
            ],
        );
        assert_eq!(changes, ["close [2]"]);
    }

    /// A session where TLS can begin: what it says to some octets, what it wants at the end.
    struct Secured {
        session: Session,
        now: Instant,
    }

    impl Secured {
        fn new(is_lab: bool) -> Self {
            let now = Instant::now();
            let settings = Settings {
                has_tls: true,
                ..(*settings(is_lab)).clone()
            };
            let session = Session::new(Arc::new(settings), Channel::Open, now);
            let mut secured = Self { session, now };
            assert!(secured.say("").starts_with("+OK"));
            secured
        }

        fn say(&mut self, octets: &str) -> String {
            self.session.receive(self.now, octets.as_bytes());
            let mut said = String::new();
            loop {
                match self.session.step(self.now) {
                    Step::Send(octets) => said += std::str::from_utf8(&octets).unwrap(),
                    Step::Ask(question) => {
                        let answer = Office::new().answer(question);
                        self.session.answer(self.now, answer);
                    }
                    Step::StartTls => return said + "(handshake)",
                    Step::Wait(_) => return said,
                    Step::Close => return said + "(closes)",
                }
            }
        }
    }

    #[test]
    fn passwords_are_for_tls_only() {
        let mut secured = Secured::new(false);
        let settings = Settings {
            has_tls: false,
            ..(*secured.session.settings).clone()
        };
        let with_tls = std::mem::replace(&mut secured.session.settings, settings.into());
        // Nobody is sent to what there is not.
        assert_eq!(
            secured.say("USER andrew\r\nSTLS\r\n"),
            "-ERR logins from other machines need TLS, and there is none here\r\n\
             -ERR STLS is not offered\r\n"
        );
        secured.session.settings = with_tls;
        let said = secured.say("CAPA\r\n");
        assert!(said.contains("\r\nSTLS\r\n"), "{said}");
        assert!(
            !said.contains("\r\nUSER\r\n") && !said.contains("SASL"),
            "{said}"
        );
        let refused = "-ERR encryption required to log in, STLS first\r\n";
        for line in [
            "USER andrew",
            "PASS two  words ",
            "AUTH PLAIN",
            "AUTH SCRAM-SHA-256",
        ] {
            assert_eq!(secured.say(&format!("{line}\r\n")), refused, "{line}");
        }
        assert_eq!(secured.say("STLS\r\n"), "+OK begin TLS\r\n(handshake)");
        // What comes in clear now is the handshake's, whoever sent it.
        secured.session.receive(secured.now, b"USER andrew\r\n");
        secured.session.secured(secured.now, "1.3");
        assert_eq!(secured.say(""), "", "there is no second greeting");
        let said = secured.say("CAPA\r\n");
        assert!(
            !said.contains("STLS") && said.contains("\r\nUSER\r\nSASL PLAIN\r\n"),
            "{said}"
        );
        assert_eq!(secured.say("STLS\r\n"), "-ERR TLS is active already\r\n");
        assert!(
            secured
                .say("PASS two  words \r\n")
                .starts_with("-ERR log in first")
        );
        assert!(secured.say("USER andrew\r\n").starts_with("+OK"));
        assert!(
            secured
                .say("PASS two  words \r\n")
                .starts_with("+OK Andrew has 3")
        );
        assert!(
            secured
                .say("STLS\r\n")
                .starts_with("-ERR a mailbox is open")
        );
    }

    #[test]
    fn what_stands_behind_stls_ends_the_session() {
        let mut secured = Secured::new(false);
        assert_eq!(
            secured.say("STLS\r\nUSER andrew\r\n"),
            "-ERR nothing may follow STLS before its answer, closing\r\n(closes)"
        );
    }

    #[test]
    fn the_lab_needs_no_tls() {
        let mut secured = Secured::new(true);
        assert!(
            secured
                .say("USER andrew\r\n")
                .starts_with("+OK Andrew has 3")
        );
    }

    #[test]
    fn logins() {
        let bad = "-ERR [AUTH] invalid user name or password\n";
        let opened = "+OK Andrew has 3 messages\n";
        let first = "-ERR log in first, USER and PASS\n";
        dialog(
            "any name gets +OK",
            false,
            &[("USER nobody", "+OK send PASS\n"), ("PASS x", bad)],
        );
        dialog(
            "spaces count",
            false,
            &[USER, ("PASS two words", bad), USER, PASS],
        );
        dialog(
            "PASS is for the next command",
            false,
            &[
                ("PASS x", first),
                USER,
                ("CAPA x", "-ERR command takes no argument\n"),
                ("PASS two  words ", first),
                USER,
                ("STAT", first),
                ("PASS two  words ", first),
                USER,
                PASS,
                (
                    "USER bob",
                    "-ERR a mailbox is open, DONEU or QUIT closes it\n",
                ),
                ("UTF8", "-ERR a mailbox is open, DONEU or QUIT closes it\n"),
            ],
        );
        // NUL andrew NUL two  words SP
        let right = "AGFuZHJldwB0d28gIHdvcmRzIA==";
        dialog(
            "AUTH PLAIN",
            false,
            &[
                ("AUTH PLAIN", "+ \n"),
                ("*", "-ERR authentication cancelled\n"),
                ("AUTH PLAIN =", bad),
                ("AUTH PLAIN !", "-ERR response is not base64\n"),
                (
                    "AUTH LOGIN",
                    "-ERR mechanism not offered, CAPA lists them\n",
                ),
                (
                    "AUTH CRAM-MD5",
                    "-ERR mechanism not offered, CAPA lists them\n",
                ),
                ("auth plain", "+ \n"),
                (right, opened),
            ],
        );
        let line = format!("AUTH PLAIN {right}");
        dialog(
            "initial response",
            false,
            &[(&line, opened), ("QUIT", "+OK goodbye\n")],
        );
        let (said, is_closed, _) = play(
            Office::new,
            false,
            b"USER a\nPASS x\nUSER a\nPASS x\nUSER a\nPASS x\nSTAT\n",
            99,
        );
        assert!(
            is_closed && said.ends_with("too often, closing\r\n"),
            "{said}"
        );
        dialog(
            "refused",
            false,
            &[
                (
                    "APOP andrew x",
                    "-ERR APOP is not offered, use USER or AUTH PLAIN\n",
                ),
                ("STLS", "-ERR STLS is not offered\n"),
            ],
        );
        let in_use = || Office {
            is_in_use: true,
            ..Office::new()
        };
        dialog_with(
            "in use",
            in_use,
            false,
            &[
                USER,
                (PASS.0, "-ERR [IN-USE] mailbox is open in another session\n"),
                ("STAT", first),
            ],
        );
        let broken = || Office {
            is_broken: true,
            ..Office::new()
        };
        dialog_with(
            "broken",
            broken,
            false,
            &[
                USER,
                (PASS.0, "-ERR [SYS/TEMP] local error, try again later\n"),
            ],
        );
    }

    #[test]
    fn a_session_of_the_lab() {
        let first = format!("+OK message 1 of 3, 38 octets\n{FIRST}");
        let two = "+OK message 2 of 3, 27 octets\nSubject: two\n\n..\n...dots\n.\n";
        let three = "+OK message 3 of 3, 18 octets\nSubject: three\n\n.\n";
        let changes = dialog(
            "the eight verbs",
            true,
            &[
                ("READM", "-ERR USER first\n"),
                ("DELM", "-ERR USER first\n"),
                ("SEND bob", "-ERR USER first\n"),
                ("DONEU", "-ERR USER first\n"),
                ("LSTU", "+OK 2 users: Andrew Bob\n"),
                ("LSTU andrew", "+OK 2 users: Andrew Bob\n"),
                ("ADDU Carol", "+OK Carol added\n"),
                ("ADDU ANDREW", "-ERR Andrew already present\n"),
                ("ADDU -x", "-ERR a user name cannot begin with `.` or `-`\n"),
                (
                    "ADDU logincred.txt",
                    "-ERR a user cannot be called logincred.txt\n",
                ),
                ("USER dave", "-ERR no such user, ADDU adds one\n"),
                OPEN,
                ("PASS whatever", "+OK Andrew has 3 messages\n"),
                ("DELM", "-ERR no message shown, READM shows one\n"),
                ("READM", &first),
                ("READM", two),
                ("DELM", "+OK message deleted\n"),
                ("DELM", "-ERR no message shown, READM shows one\n"),
                ("LIST", "+OK list follows\n1 38\n3 18\n.\n"),
                ("READM", three),
                ("READM", "-ERR No More Mail\n"),
                ("LIST", "+OK list follows\n1 38\n2 18\n.\n"),
                ("READM", &first.replace("of 3", "of 2")),
                ("DELE 2", "+OK message 2 deleted\n"),
                ("READM", "-ERR No More Mail\n"),
                ("DELM", "+OK message deleted\n"),
                ("READM", "-ERR No More Mail\n"),
                (
                    "DONEU",
                    "+OK mailbox of Andrew closed, 1 deletions undone\n",
                ),
                ("STAT", "-ERR USER first\n"),
                ("USER bob", "+OK Bob has 2 messages\n"),
                ("DONEU", "+OK mailbox of Bob closed\n"),
                ("QUIT", "+OK goodbye\n"),
            ],
        );
        assert_eq!(
            changes,
            ["add Carol", "remove 2", "remove 1", "close []", "close []"]
        );

        dialog(
            "without the lab",
            false,
            &[
                ("LSTU", "-ERR log in first, the users are not public\n"),
                (
                    "ADDU Carol",
                    "-ERR ADDU needs a server with --lab; `minismtp users add NAME` adds a user with \
                 a password\n",
                ),
                USER,
                PASS,
                ("LSTU", "+OK 2 users: Andrew Bob\n"),
                ("READM", &first),
                ("DELM", "+OK message deleted\n"),
            ],
        );
        dialog(
            "a mail program in the lab",
            true,
            &[("AUTH PLAIN AGFuZHJldwB4", "+OK Andrew has 3 messages\n")],
        );
    }

    #[test]
    fn texts() {
        let unknown = "-ERR no such user, ADDU adds one\n";
        type Case = (
            &'static str,
            &'static [(&'static str, &'static str)],
            &'static str,
        );
        let cases: [Case; 11] = [
            (
                "a text",
                &[SEND, ("Hi", ""), (".", ""), ("STAT", ""), DELIVERED],
                r#"None "Hi\n.\nSTAT\n""#,
            ),
            (
                "the end on a line with text",
                &[SEND, ("Hi ###", "+OK delivered\n")],
                r#"None "Hi \n""#,
            ),
            (
                "within a line",
                &[SEND, ("a ### b", ""), ("# ##", ""), DELIVERED],
                r####"None "a ### b\n# ##\n""####,
            ),
            (
                "four",
                &[SEND, ("####", "+OK delivered\n")],
                r##"None "#\n""##,
            ),
            ("nothing", &[SEND, DELIVERED], r#"None """#),
            (
                "a subject",
                &[SEND, ("Subject: Hi there ", ""), ("text", ""), DELIVERED],
                r#"Some("Hi there") "text\n""#,
            ),
            (
                "set off",
                &[
                    SEND,
                    ("subject:x", ""),
                    ("", ""),
                    ("", ""),
                    ("a", ""),
                    DELIVERED,
                ],
                r#"Some("x") "\na\n""#,
            ),
            (
                "only a subject",
                &[SEND, ("Subject: x###", "+OK delivered\n")],
                r#"Some("x") """#,
            ),
            (
                "later no subject",
                &[SEND, ("a", ""), ("Subject: x", ""), DELIVERED],
                r#"None "a\nSubject: x\n""#,
            ),
            (
                "on the line of SEND",
                &[("SEND bob Hello", ""), ("there", ""), DELIVERED],
                r#"None "Hello\nthere\n""#,
            ),
            (
                "all of it",
                &[("SEND BOB Subject: x###", "+OK delivered\n")],
                r#"Some("x") """#,
            ),
        ];
        for (what, lines, expected) in cases {
            let lines = [&[OPEN], lines, &[("NOOP", "+OK\n")]].concat();
            let changes = dialog(what, true, &lines);
            assert_eq!(changes, [format!("Andrew to Bob: {expected}")], "{what}");
        }
        let long = "x".repeat(600);
        let too_long = "x".repeat(70_000);
        let refused: [(&str, &[(&str, &str)]); 7] = [
            ("nobody", &[("SEND dave", unknown)]),
            ("nobody, all on a line", &[("SEND dave Hi ###", unknown)]),
            (
                "nobody, with text",
                &[("SEND dave Hi", ""), ("QUIT", ""), ("###", unknown)],
            ),
            (
                "too big",
                &[
                    SEND,
                    (&long, ""),
                    (&long, ""),
                    ("###", "-ERR message too big\n"),
                ],
            ),
            (
                "line too long",
                &[
                    ("SEND bob a", ""),
                    (&too_long, ""),
                    ("###", "-ERR message has a line that is too long\n"),
                ],
            ),
            (
                "bare CR",
                &[
                    SEND,
                    ("a\rb", ""),
                    ("###", "-ERR message has a bare CR or LF\n"),
                ],
            ),
            (
                "nobody at all",
                &[("SEND", "-ERR Syntax: SEND receiverid\n")],
            ),
        ];
        for (what, lines) in refused {
            let lines = [&[OPEN], lines, &[("NOOP", "+OK\n")]].concat();
            assert!(dialog(what, true, &lines).is_empty(), "{what}");
        }
        let (said, _, changes) = play(
            Office::new,
            true,
            b"USER bob\r\nSEND bob\r\na\n###\nb\r\n###\r\nNOOP\r\n",
            4,
        );
        assert!(
            said.ends_with("-ERR message has a bare CR or LF\r\n+OK\r\n"),
            "{said}"
        );
        assert!(changes.is_empty());
    }

    #[test]
    fn deletions_wait_for_quit_and_may_fail() {
        for end in [&b""[..], b"QUI", b"QUIT", b"QUIT now\r\n"] {
            let said = [b"USER bob\r\nDELE 1\r\n", end].concat();
            let (mut session, now) = session(true);
            let (mut office, mut out) = (Office::new(), Vec::new());
            session.receive(now, &said);
            session.disconnected(now);
            assert!(office.drive(&mut session, now, &mut out));
            assert!(office.changes.is_empty(), "{end:?}");
        }
        let (mut session, now) = session(true);
        let (mut office, mut out) = (Office::new(), Vec::new());
        session.receive(now, b"USER bob\r\nREADM\r\n");
        office.drive(&mut session, now, &mut out);
        office.is_broken = true;
        out.clear();
        session.receive(now, b"DELM\r\nDELE 1\r\nQUIT\r\n");
        assert!(office.drive(&mut session, now, &mut out));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "-ERR [SYS/TEMP] local error, try again later\r\n+OK message 1 deleted\r\n\
             -ERR [SYS/TEMP] deleted messages not removed\r\n"
        );
    }

    /// To oneself, for one: the reader has no other command that would show it.
    #[test]
    fn mail_that_comes_meanwhile_is_shown_behind_the_rest() {
        let (mut session, now) = session(true);
        let mut office = Office::new();
        let mut say = |office: &mut Office, said: &str| {
            let mut out = Vec::new();
            session.receive(now, said.as_bytes());
            office.drive(&mut session, now, &mut out);
            String::from_utf8(out).unwrap()
        };
        say(
            &mut office,
            "USER andrew\r\nREADM\r\nREADM\r\nDELM\r\nREADM\r\n",
        );
        office.coming.push(b"Subject: new\n\n".to_vec());
        let shown = "+OK message 3 of 3, 16 octets\r\nSubject: new\r\n\r\n.\r\n";
        assert_eq!(say(&mut office, "READM\r\n"), shown);
        let none = "-ERR No More Mail\r\n";
        assert_eq!(say(&mut office, "READM\r\n"), none);
        office.coming.push(b"Subject: newer\n\n".to_vec());
        // The last one shown is still that, whatever its number is now.
        assert_eq!(say(&mut office, "DELM\r\n"), "+OK message deleted\r\n");
        assert!(say(&mut office, "READM\r\n").starts_with("+OK message 1 of 3, "));
        assert!(say(&mut office, "READM\r\n").starts_with("+OK message 2 of 3, "));
        assert!(say(&mut office, "READM\r\n").starts_with("+OK message 3 of 3, 18 "));
        assert_eq!(office.changes, ["remove 2", "remove 3"]);
        office.is_broken = true;
        assert_eq!(say(&mut office, "READM\r\n"), none);
        assert!(say(&mut office, "READM\r\n").starts_with("+OK message 1 of 3, "));
    }

    #[test]
    fn an_idle_session_and_a_stop_say_nothing() {
        let (mut session, now) = session(true);
        let (mut office, mut out) = (Office::new(), Vec::new());
        assert!(!office.drive(&mut session, now + Duration::from_secs(59), &mut out));
        session.receive(now, b"USER bob\r\nDELE 1\r\n");
        assert!(!office.drive(&mut session, now, &mut out));
        out.clear();
        assert!(!office.drive(&mut session, now + Duration::from_secs(599), &mut out));
        assert!(office.drive(&mut session, now + Duration::from_secs(600), &mut out));
        assert!(out.is_empty() && office.changes.is_empty());

        let (mut session, now) = self::session(true);
        session.receive(now, b"USER bob\r\nSEND bob\r\nHi\r\n");
        office.drive(&mut session, now, &mut out);
        session.stop(now);
        assert!(!office.drive(&mut session, now, &mut out), "a text may end");
        session.receive(now, b"there\r\n");
        assert!(!office.drive(&mut session, now, &mut out));
        session.receive(now, b"###\r\nQUIT\r\n");
        assert!(office.drive(&mut session, now, &mut out));
        let out = String::from_utf8(out).unwrap();
        assert!(out.ends_with("+OK delivered\r\n"), "{out}");

        // No text goes on for ever.
        let (mut session, mut now) = self::session(true);
        let mut out = Vec::new();
        session.receive(now, b"USER bob\r\nSEND bob\r\nHi\r\n");
        office.drive(&mut session, now, &mut out);
        now += limits::SESSION_TIME_MAX + Duration::from_secs(1);
        session.receive(now, b"there\r\n");
        assert!(office.drive(&mut session, now, &mut out));
    }

    #[test]
    fn a_message_that_cannot_be_read_on_is_not_ended() {
        let (mut session, now) = session(true);
        let mut office = Office::new();
        session.receive(now, b"USER bob\r\nREADM\r\nQUIT\r\n");
        let mut out = Vec::new();
        loop {
            match session.step(now) {
                Step::Send(octets) => out.extend_from_slice(&octets),
                Step::Ask(Question::ReadOn) => session.answer(now, Answer::TryLater),
                Step::Ask(question) => {
                    let answer = office.answer(question);
                    session.answer(now, answer);
                }
                Step::Wait(_) | Step::StartTls => panic!("goes on"),
                Step::Close => break,
            }
        }
        assert!(
            out.ends_with(b"Subject"),
            "{}",
            String::from_utf8_lossy(&out)
        );
    }

    #[test]
    fn large_answers_come_in_pieces() {
        let office = || Office {
            messages: vec![b"Subject: x\n\nline of text\n".to_vec(); 30_000],
            ..Office::new()
        };
        for command in ["LIST", "UIDL"] {
            let (mut session, now) = session(true);
            let (mut office, mut out) = (office(), Vec::new());
            session.receive(now, format!("USER bob\r\n{command}\r\nNOOP\r\n").as_bytes());
            office.drive(&mut session, now, &mut out);
            let said = String::from_utf8(out).unwrap();
            assert_eq!(
                said.lines().count(),
                1 + 1 + 1 + 30_000 + 1 + 1,
                "{command}"
            );
            assert!(said.ends_with("\r\n.\r\n+OK\r\n"));
            assert!(office.largest < 2 * limits::OUTPUT_OCTETS, "{command}");
        }
    }

    #[test]
    fn logins_that_nobody_can_judge_come_to_an_end() {
        let office = || Office {
            is_crowded: true,
            ..Office::new()
        };
        let login = "USER bob\r\nPASS two  words \r\n";
        let (said, _, _) = play(office, false, login.as_bytes(), 999);
        assert!(
            said.ends_with(
                "\r\n-ERR [SYS/TEMP] too many logins at the moment, try again later\r\n"
            )
        );
        let (said, is_closed, _) = play(office, false, login.repeat(30).as_bytes(), 999);
        assert!(is_closed && said.ends_with("-ERR too many errors, closing\r\n"));
    }

    #[test]
    fn too_much_nonsense_ends_a_session() {
        let nonsense = "FOO\r\n".repeat(30);
        let (said, is_closed, _) = play(Office::new, true, nonsense.as_bytes(), 999);
        assert!(is_closed && said.ends_with("-ERR too many errors, closing\r\n"));
        let (said, is_closed, _) = play(Office::new, true, b"POST / HTTP/1.1\r\nUSER bob\r\n", 999);
        assert!(
            is_closed && said == "-ERR this is a POP3 server, closing\r\n",
            "{said}"
        );
        let long = "x".repeat(254);
        dialog(
            "long lines",
            true,
            &[
                (&long, "-ERR line too long\n"),
                (&format!("{long}{long}"), "-ERR line too long\n"),
                (&long[1..], "-ERR command not recognised\n"),
            ],
        );
    }

    #[test]
    fn events_hide_what_is_private() {
        let (mut session, now) = session(false);
        let said =
            b"CAPA\r\nFOO\r\nUSER andrew\r\nsecret\r\nUSER andrew\r\nPASS secret\r\nsecret\r\n\
                     AUTH PLAIN secret\r\nPASS\tsecret\r\nAUTH PLAIN\r\nsecret\r\n";
        session.receive(now, said);
        Office::new().drive(&mut session, now, &mut Vec::new());
        let events: Vec<Event> = std::iter::from_fn(|| session.event()).collect();
        let shown = format!("{events:?}");
        assert!(
            !shown.contains("secret") && shown.contains("FOO"),
            "{shown}"
        );
        let replies = events
            .iter()
            .filter(|event| matches!(event, Event::Reply(_)));
        assert_eq!(replies.count(), 1 + 11);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(
            lines in proptest::collection::vec(
                proptest::prop_oneof![
                    proptest::collection::vec(proptest::num::u8::ANY, 0..40),
                    proptest::sample::select(vec![
                        "USER bob", "PASS x", "STAT", "LIST", "UIDL", "RETR 1", "TOP 2 1",
                        "DELE 1", "RSET", "READM", "DELM", "SEND bob", "SEND x y", "###",
                        "DONEU", "AUTH PLAIN", "AGEAYg==", "LSTU", "ADDU Carol", "QUIT",
                    ]).prop_map(|line| line.as_bytes().to_vec()),
                ],
                0..30,
            ),
            size in 1usize..50,
        ) {
            let said = lines.join(&b"\r\n"[..]);
            for is_lab in [false, true] {
                let whole = play(Office::new, is_lab, &said, said.len().max(1));
                proptest::prop_assert_eq!(&play(Office::new, is_lab, &said, size), &whole);
            }
        }
    }
}
